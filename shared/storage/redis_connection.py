"""One Redis client per process, set up so that a failure is known at once.

Retries are ours: the journal keeps what Redis did not acknowledge, so the client itself tries once. Keys are not spread
over the slots of a Redis Cluster: the script that publishes touches two of them.

redis-py bounds a send by `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that comes as the send ends
(CPython issue 86296); a poller that was told to stop would so go on for ever. `_Cancellable` bounds it otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = [
    "BOOTSTRAPPED",
    "CATALOGUE",
    "CATALOGUE_VERSION",
    "EXPOSURES",
    "RESTORED",
    "STICKY_JOURNAL",
    "STICKY_RESTORED",
    "VERSIONS",
    "Redis",
    "RedisError",
    "connect",
    "journal_key",
    "request_key",
    "snapshot_key",
    "sticky_key",
]

Redis = redis.Redis

BOOTSTRAPPED = "knudge:bootstrapped"
"""Set once every policy was published; missing in an empty Redis."""
VERSIONS = "knudge:versions"
"""Hash: policy -> `policy_version.snapshot_version` of its published snapshot."""
CATALOGUE = "knudge:catalogue"
"""The published experiments and flags."""
CATALOGUE_VERSION = "knudge:catalogue:version"
"""Their version, a whole number."""
EXPOSURES = "knudge:exposures"
"""The journal of exposures: a stream of blocks of them."""
STICKY_JOURNAL = "knudge:sticky-journal"
"""What sticks to units and is not in PostgreSQL yet: a stream of blocks."""
STICKY_RESTORED = "knudge:sticky-restored"
"""`RESTORED` once all that PostgreSQL knows to stick to units is in Redis; missing in an empty Redis."""
RESTORED = b"1"

_CONNECT_TIMEOUT_S = 1.0
_TIMEOUT_S = 2.0
_MOST_CONNECTIONS = 2048


class _Cancellable(redis.Connection):
    """A connection whose send can be cancelled at any moment."""

    async def send_packed_command(
        self,
        command: bytes | str | Iterable[bytes],
        check_health: bool = True,  # noqa: FBT001, FBT002 - redis-py's
    ) -> None:
        """Send within the socket's timeout, as redis-py does."""
        bound, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(bound):
                await super().send_packed_command(command, check_health)
        except TimeoutError as error:
            raise RedisTimeoutError("Timeout writing to socket") from error
        finally:
            self.socket_timeout = bound


class _CancellableTls(_Cancellable, redis.SSLConnection):
    """The same under TLS."""


def connect(url: str) -> Redis:
    """Return a client; nothing connects before the first command, and as many connect as commands are under way."""
    pool = redis.ConnectionPool.from_url(
        url,
        max_connections=_MOST_CONNECTIONS,
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        socket_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    is_tls = issubclass(pool.connection_class, redis.SSLConnection)
    pool.connection_class = _CancellableTls if is_tls else _Cancellable
    return redis.Redis.from_pool(pool)


def journal_key(policy: str) -> str:
    """Return the key of a policy's journal, a stream of blocks of decisions."""
    return f"knudge:journal:{policy}"


def snapshot_key(policy: str) -> str:
    """Return the key of a policy's published snapshot."""
    return f"knudge:snapshot:{policy}"


def request_key(policy: str, request: str) -> str:
    """Return the key that remembers the answer to a request."""
    return f"knudge:request:{policy}:{request}"


def sticky_key(attribute: str, unit: str) -> str:
    """Return the key of a hash: what sticks to the unit (a pseudonym) that has some value of an attribute."""
    return f"knudge:sticky:{attribute}:{unit}"
