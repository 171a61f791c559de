"""Revisions of a Knative Service: listing them, and moving traffic from one to the next, by hand or by the evidence."""
