"""The local runner: a whole Knudge on one machine, by the manifests that are deployed."""
