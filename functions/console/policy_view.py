"""What the console reads of a policy over HTTP: how much its snapshot knows, and what it would choose."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import quote

import msgspec

from functions.console.client import Client, JsonObject
from functions.console.failure import ConsoleFailure


class PolicyView(msgspec.Struct, frozen=True):
    """A policy's snapshot as GET /v1/policies/{name} shows it.

    `rewards`: how many rewards' worth it has seen; `total`: their sum (with click weighing 1, the clicks it
    knows); `action_to_propensity`: the probability that one recommendation over all actions chooses each.
    """

    name: str
    snapshot_version: int
    rewards: float
    total: float
    action_to_propensity: dict[str, float]


def read_policy(client: Client, name: str) -> PolicyView:
    """Read the policy `name`; one without a snapshot yet has seen nothing. Raises `ConsoleFailure`."""
    return view_of(name, client.get(f"/v1/policies/{quote(name, safe='')}"))


def view_of(name: str, answer: JsonObject) -> PolicyView:
    """Make a view from what the server answered. Raises `ConsoleFailure` where fields are missing."""
    snapshot = answer.get("snapshot") or {"snapshot_version": 0, "actions": []}
    try:
        actions = snapshot["actions"]
        return PolicyView(
            name=name,
            snapshot_version=int(snapshot["snapshot_version"]),
            rewards=sum(float(action["weight"]) for action in actions),
            total=sum(float(action["weight"]) * float(action["mean"] or 0.0) for action in actions),
            action_to_propensity={str(action["action"]): float(action["propensity"]) for action in actions},
        )
    except (KeyError, TypeError, ValueError) as error:
        message = f"policy {name} was answered in a form this console does not know: {error!r}"
        raise ConsoleFailure(message) from error


def wait_until(
    client: Client,
    name: str,
    condition: Callable[[PolicyView], bool],
    *,
    give_up_at: float,
    period_s: float = 0.1,
    on_poll: Callable[[PolicyView], None] | None = None,
) -> PolicyView:
    """Read the policy `name` every `period_s` until `condition` holds, and return that view.

    `give_up_at`: a `time.monotonic` time, after which this raises `ConsoleFailure` saying what the snapshot
    knows.
    """
    while True:
        view = read_policy(client, name)
        if on_poll is not None:
            on_poll(view)
        if condition(view):
            return view
        if time.monotonic() > give_up_at:
            message = (
                f"gave up waiting for policy {name}: its snapshot {view.snapshot_version} knows "
                f"{view.rewards:.1f} decisions and {view.total:.1f} clicks; is `learn` running?"
            )
            raise ConsoleFailure(message)
        time.sleep(period_s)
