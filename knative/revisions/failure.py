"""The ways in which a command on revisions fails because of the cluster."""

from __future__ import annotations

from shared.errors import KnudgeError


class ClusterFailure(KnudgeError):
    """The cluster does not do what was asked."""

    slug = "cluster-failure"


class NotThere(ClusterFailure):
    """The cluster has no such object."""

    slug = "not-there"


class NotAllowed(ClusterFailure):
    """The cluster's access rules forbid it."""

    slug = "not-allowed"


class WriteConflict(ClusterFailure):
    """Another hand wrote the Service since it was read."""

    slug = "write-conflict"


class NoAnswer(ClusterFailure):
    """The API server does not answer; whether it did what was asked is unknown."""

    slug = "no-answer"


class Busy(ClusterFailure):
    """The API server, or what stands behind it, cannot answer just now."""

    slug = "busy"
