"""Acceptance tests: the whole of Knudge, from outside."""
