"""One Redis client per process, set up so that a failure is known at once.

Retries are ours: the journal keeps what Redis did not acknowledge, so the client itself tries once. Keys are not spread
over the slots of a Redis Cluster: the script that publishes touches two of them.
"""

from __future__ import annotations

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

__all__ = ["BOOTSTRAPPED", "VERSIONS", "Redis", "RedisError", "connect", "journal_key", "request_key", "snapshot_key"]

Redis = redis.Redis

BOOTSTRAPPED = "knudge:bootstrapped"
"""Set once every policy was published; missing in an empty Redis."""
VERSIONS = "knudge:versions"
"""Hash: policy -> `policy_version.snapshot_version` of its published snapshot."""

_CONNECT_TIMEOUT_S = 1.0
_TIMEOUT_S = 2.0
_MOST_CONNECTIONS = 2048


def connect(url: str) -> Redis:
    """Return a client; nothing connects before the first command, and as many connect as commands are under way."""
    return redis.Redis.from_url(
        url,
        max_connections=_MOST_CONNECTIONS,
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        socket_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


def journal_key(policy: str) -> str:
    """Return the key of a policy's journal, a stream of blocks of decisions."""
    return f"knudge:journal:{policy}"


def snapshot_key(policy: str) -> str:
    """Return the key of a policy's published snapshot."""
    return f"knudge:snapshot:{policy}"


def request_key(policy: str, request: str) -> str:
    """Return the key that remembers the answer to a request."""
    return f"knudge:request:{policy}:{request}"
