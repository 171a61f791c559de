"""Every setting of a Knudge process: one frozen record, built once from a mapping such as `os.environ`.

Defaults stand here and nowhere else; `docs/operations/settings.md` describes each. Nothing reads the environment
behind this module's back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from shared.errors import Misconfigured


class Settings(msgspec.Struct, frozen=True):
    """The settings, named as their environment variables are, in lower case and without `KNUDGE_`.

    Knative's own variables (`PORT`, `K_SINK`, `K_REVISION`) keep their names. Sizes are in bytes or characters,
    durations in the unit that their name ends with.
    """

    redis_url: str = ""
    """Redis with the snapshots and the journal, such as `redis://:password@host:6379/0`."""
    database_url: str = ""
    """PostgreSQL, as a connection URI."""
    server_key: str = ""
    """Secret of 16 characters or more: draws choices and makes pseudonyms. Changing it changes both."""
    k_sink: str = ""
    """Where events go; without it a process sends none, and learning waits for the sweep."""
    k_revision: str = "local"
    """The Knative revision, stored with every decision."""
    host: str = "0.0.0.0"  # noqa: S104 - a container's
    """Address to listen on, for HTTP and metrics."""
    port: int = 8080
    """HTTP port."""
    metrics_port: int = 9095
    """Prometheus port; 0 turns metrics off."""
    log_level: str = "info"
    """debug, info, warning or error; debug logs every decision."""
    body_limit: int = 1 << 20
    """Longest request body."""
    string_limit: int = 256
    """Longest name, id or string in a request."""
    action_limit: int = 1_000
    """Most actions that a policy or a request may name."""
    feature_limit: int = 256
    """Most features of a context or an action, and most entries of a list among them."""
    slate_limit: int = 50
    """Largest `count`."""
    batch_limit: int = 1_000
    """Most decisions, events or recommended items in one batch."""
    concurrency_limit: int = 4_096
    """Most requests under way in one process; further ones get 503."""
    retention_days: int = 400
    """How long decisions, feedback and exposures are kept; 0 keeps them for ever."""
    snapshot_poll_ms: int = 100
    """How often a serving process looks for newer snapshots."""
    journal_wait_ms: int = 20
    """How long an answer waits for the journal before it goes out degraded."""
    journal_buffer: int = 50_000
    """Most decisions held while Redis is away; further ones are dropped and counted."""
    journal_buffer_bytes: int = 32 << 20
    """How long the held decisions may be together."""
    learning_interval_ms: int = 100
    """Shortest time between two learning transactions of one policy."""
    wake_up_ms: int = 250
    """Shortest time between two wake-ups for one policy from one process."""

    training_lease_s: int = 30
    """How long a training that died is kept from others; a running one renews it."""

    @classmethod
    def load(cls, environment: Mapping[str, str], needs: Iterable[str] = ()) -> Settings:
        """Return the settings in `environment`.

        `needs`: names that must not be empty. Everything missing or malformed is reported together, as
        `Misconfigured`.
        """
        given: dict[str, str | int] = {}
        faults: list[str] = []
        for field in msgspec.structs.fields(cls):
            name = variable(field.name)
            text = environment.get(name, "").strip()
            if not text:
                continue
            if field.type is int:
                if not text.isascii() or not text.isdigit():
                    faults.append(f"{name} must be a whole number of at least 0")
                    continue
                given[field.name] = int(text)
            else:
                given[field.name] = text
        settings = cls(**given)  # type: ignore[arg-type]
        faults += [f"{variable(name)} is missing" for name in needs if not getattr(settings, name)]
        if settings.server_key and len(settings.server_key) < _KEY_CHARS:
            faults.append(f"{variable('server_key')} must have at least {_KEY_CHARS} characters")
        if not settings.training_lease_s:
            faults.append(f"{variable('training_lease_s')} must be at least 1")
        if settings.log_level.lower() not in _LOG_LEVELS:
            faults.append(f"{variable('log_level')} must be one of {', '.join(_LOG_LEVELS)}")
        if faults:
            raise Misconfigured("; ".join(faults))
        return settings


_KEY_CHARS = 16
_LOG_LEVELS = ("debug", "info", "warning", "error")
_KNATIVE = {"k_sink", "k_revision", "port"}


def variable(name: str) -> str:
    """Return the environment variable of a setting.

    >>> variable("redis_url"), variable("k_sink")
    ('KNUDGE_REDIS_URL', 'K_SINK')
    """
    return name.upper() if name in _KNATIVE else f"KNUDGE_{name.upper()}"
