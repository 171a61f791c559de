"""A stored decision, decided again: from its snapshot, context, eligible actions and uniform numbers to what must have been stored.

Pure: whoever calls brings the snapshot that the decision names and the numbers that the server's key gives for its id. What
comes out is compared with what was stored: an action must be the same, a propensity equal to `TOLERANCE`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count
from typing import NamedTuple

import msgspec
from msgspec import structs

from shared.policies.arms import who_decides
from shared.policies.choosing import Chooser
from shared.vocabulary import Decision, Snapshot

TOLERANCE = 1e-9
"""How far a propensity may be from the stored one: linear algebra rounds differently on another machine."""


class Chance(msgspec.Struct, frozen=True):
    """One eligible action of one position. `contributions`: what each feature adds to its score, where its kind can say."""

    action: str
    propensity: float
    score: float | None
    contributions: dict[str, float]


class Position(msgspec.Struct, frozen=True):
    """One item, decided again given the stored items above it.

    `action`, `stored`: what was stored; `draw`: in [0, 1); `drawn`: what the draw chooses; `recomputed`: the propensity of
    `action`, None where it was not eligible; `chances`: all that was eligible, in its order.
    """

    action: str
    stored: float | None
    draw: float
    drawn: str
    recomputed: float | None
    chances: tuple[Chance, ...]


class Recomputation(msgspec.Struct, frozen=True):
    """Every position, and what differs from what was stored, in words; nothing where the decision is as it must be."""

    positions: tuple[Position, ...]
    differences: tuple[str, ...]


class Decider(NamedTuple):
    """Whose law a decision was drawn from: a snapshot by policy and version (0: none, so uniform), and the `decision` as it saw it."""

    policy: str
    snapshot_version: int
    decision: Decision


def decider_of(snapshot: Snapshot, decision: Decision) -> Decider:
    """Return who drew a served decision of the policy of `snapshot`: the policy itself, or what stood in for it.

    A default action is the only one that its decision could choose.
    """
    by = decision.served_by
    if by is None:
        return Decider(decision.policy, decision.snapshot_version, decision)
    eligible = snapshot.actions if decision.eligible is None else decision.eligible
    if serves_default(snapshot, decision):
        eligible = tuple(action for action in eligible if action.id == decision.default_action)
    return Decider(by.policy or decision.policy, by.snapshot_version, structs.replace(decision, eligible=eligible))


def serves_default(snapshot: Snapshot, decision: Decision) -> bool:
    """Tell whether a decision was its caller's default action."""
    by = decision.served_by
    if by is None or by.policy is not None or decision.default_action is None:
        return False
    return by.who == "default_action" or (snapshot.baseline is not None and snapshot.baseline.serve == "default_action")


def arm_differences(own: Chooser, decision: Decision, place: float) -> tuple[str, ...]:
    """Return what differs of who decided, and of what the policy itself would have done.

    `own`: the policy's chooser; `place`: where the decision's user, or the decision without one, stands in [0, 1).
    """
    by = decision.served_by
    if not own.snapshot.snapshot_version:
        return ()
    who, must = "policy" if by is None else by.who, who_decides(own.snapshot, place)
    found = [] if who == must else [f"the {who} decided, its user's place {place!r} gives the {must}"]
    if by is not None:
        laws = own.laws(decision.context, decision.eligible, decision.actions)
        for at, (action, stored, law) in enumerate(zip(decision.actions, by.own_propensities, laws, strict=False)):
            given = law.propensities[law.actions.index(action)] if action in law.actions else None
            if given is None or not _is_near(stored, given):
                found.append(
                    f"position {at}: the policy's own propensity {stored} is stored, its snapshot gives {given}"
                )
    return tuple(found)


def recompute(snapshot: Snapshot, decision: Decision, draws: Sequence[float]) -> Recomputation:
    """Return a served decision as `snapshot` and `draws` (one per stored item, each in [0, 1)) make it.

    >>> from shared.vocabulary import Action
    >>> snapshot = Snapshot("p", 1, 1, "epsilon_greedy", {"epsilon": 0.2}, (Action("a"), Action("b")), (), 0.0, None, 1, 0.0)
    >>> stored = Decision("", "p", 1, 1, ("b",), (0.5,), None, {}, None, None, False, False, "served", "r", "me")
    >>> recompute(snapshot, stored, [0.7]).differences
    ()
    >>> recompute(snapshot, stored, [0.3]).differences
    ("position 0: 'b' is stored, the draw 0.3 chooses 'a'",)
    """
    chooser = Chooser(snapshot)
    eligible = snapshot.actions if decision.eligible is None else decision.eligible
    features = {action.id: action for action in eligible}
    positions = []
    for at, law in enumerate(chooser.laws(decision.context, decision.eligible, decision.actions)):
        action, draw = decision.actions[at], draws[at]
        chances = tuple(
            Chance(name, propensity, score, chooser.contributions(decision.context, features[name]))
            for name, propensity, score in zip(law.actions, law.propensities, law.scores, strict=True)
        )
        recomputed = next((chance.propensity for chance in chances if chance.action == action), None)
        drawn = law.actions[law.draw(draw)]
        positions.append(Position(action, decision.propensities[at], draw, drawn, recomputed, chances))
    return Recomputation(tuple(positions), tuple(chain.from_iterable(map(_differences, count(), positions))))


def differences(chooser: Chooser, decision: Decision, draws: Sequence[float]) -> tuple[str, ...]:
    """Return what differs from what was stored, as `recompute` does, but by the very choice that serving makes.

    For audits of many decisions: `chooser` is compiled once for all decisions of its snapshot.
    """
    items = chooser.choose(decision.context, decision.eligible, draws)
    same = tuple(item.action for item in items) == decision.actions and all(
        _is_near(stored, item.propensity) for stored, item in zip(decision.propensities, items, strict=True)
    )
    return () if same else recompute(chooser.snapshot, decision, draws).differences


def _differences(at: int, position: Position) -> Iterator[str]:
    action, recomputed = position.action, position.recomputed
    if recomputed is None:
        yield f"position {at}: {action!r} is stored, and was not eligible"
        return
    if action != position.drawn:
        yield f"position {at}: {action!r} is stored, the draw {position.draw!r} chooses {position.drawn!r}"
    if not _is_near(position.stored, recomputed):
        yield f"position {at}: the propensity {position.stored} of {action!r} is stored, the snapshot gives {recomputed!r}"


def _is_near(stored: float | None, recomputed: float) -> bool:
    return stored is not None and abs(stored - recomputed) <= TOLERANCE
