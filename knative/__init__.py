"""Running on Knative: the manifests, what checks them, and the tool that manages revisions."""
