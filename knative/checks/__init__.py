"""Manifests and events held against schemas and the rules of a real control plane, without a cluster.

`python -m knative.checks FILE...` prints one line a fault; `knative.checks.checker.check` is the same for a program.
"""
