"""The tools of `knative/`."""
