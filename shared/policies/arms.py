"""Who decides: the policy itself, its baseline, or the caller by a default action.

A share of the users, the *baseline*, may be served by something else for good: uniformly, by the caller's default action, or by another
policy. A policy in apprentice mode serves the caller's default action to all others and learns beside it. Whoever decides, the
propensity is that of the law that was used: 1 for a default action. What the policy would have done is noted beside it: its
own propensity of each item that was served, given those above, whose mean is how often it would have agreed; and what it
believes that it would have gained, from the means m and the propensities p that it had at that moment (the direct method),

    gain = sum over a of p(a) m(a)  -  m(served)

A policy that does not look at features has no mean for an action that it never saw: the mean of all rewards stands for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import InvalidInput
from shared.policies.choosing import Chooser, Law
from shared.vocabulary import Action, Context, Item, ServedBy, Snapshot, Who


def is_plain(snapshot: Snapshot) -> bool:
    """Tell whether the policy decides everything itself."""
    return snapshot.baseline is None and snapshot.mode == "serve"


def who_decides(snapshot: Snapshot, place: float) -> Who:
    """Return who decides for a unit at `place`, in [0, 1): those below the share are the baseline's."""
    if snapshot.baseline is not None and place < snapshot.baseline.share:
        return "baseline"
    return "policy" if snapshot.mode == "serve" else "default_action"


def check_default(
    snapshot: Snapshot, eligible: Sequence[Action] | None, default_action: str | None, count: int
) -> None:
    """Refuse a request that names no default action where some decisions of the policy take it, whoever decides this one.

    Raises `InvalidInput` (field `default_action` or `count`).
    """
    served = "default_action" if snapshot.mode == "apprentice" else snapshot.baseline and snapshot.baseline.serve
    if served != "default_action":
        return
    if default_action is None:
        detail = f"the policy {snapshot.policy!r} serves it to some or all users; say what it is"
        raise InvalidInput(detail, field="default_action")
    if count > 1:
        detail = f"the policy {snapshot.policy!r} serves the default action to some or all users: that is one item"
        raise InvalidInput(detail, field="count")
    if all(action.id != default_action for action in (snapshot.actions if eligible is None else eligible)):
        detail = "must be one of the eligible actions"
        raise InvalidInput(detail, field="default_action")


def stand_in(
    own: Chooser,
    decider: Chooser | str,
    context: Context,
    eligible: Sequence[Action] | None,
    draws: Sequence[float],
) -> tuple[tuple[Item, ...], tuple[float, ...], tuple[float | None, ...]]:
    """Let `decider` (another chooser, or the default action) choose in the place of the policy `own`.

    Returns the items, with the decider's propensities and the policy's scores, and for each of them the propensity that the
    policy itself gave it, and what the policy believes that its own choice would have gained, in units of reward.

    >>> from shared.policies.choosing import without_snapshot
    >>> from shared.vocabulary import Estimate
    >>> known = (Estimate("a", 10.0, 1.0, 1.0), Estimate("b", 10.0, 3.0, 3.0))
    >>> greedy = Snapshot("p", 1, 1, "epsilon_greedy", {"epsilon": 0.2}, (Action("a"), Action("b")), known, 0.0, (0.0, 1.0), 1, 0.0)
    >>> items, own_propensities, gains = stand_in(Chooser(greedy), "a", {}, None, [0.7])
    >>> [(item.action, item.propensity) for item in items], own_propensities, [round(gain, 2) for gain in gains]
    ([('a', 1.0)], (0.1,), [0.18])
    >>> stand_in(Chooser(greedy), Chooser(without_snapshot("p")), {}, None, [0.7])[0][0].propensity
    0.5
    """
    law = own.law(context, eligible)
    if isinstance(decider, str):
        taken: Sequence[tuple[str, float]] = [(decider, 1.0)]
    else:
        chosen = decider.choose(context, own.snapshot.actions if eligible is None else eligible, draws)
        taken = [(item.action, item.propensity) for item in chosen]
    items, propensities, gains = [], [], []
    for position, (action, propensity) in enumerate(taken, 1):
        at = law.actions.index(action)
        items.append(Item(action, propensity, law.scores[at]))
        propensities.append(law.propensities[at])
        gains.append(_gain(own, law, at))
        if position < len(taken):
            law = law.without(at)
    return tuple(items), tuple(propensities), tuple(gains)


def served_by(
    who: Who, decider: Chooser | str, propensities: tuple[float, ...], gains: tuple[float | None, ...]
) -> ServedBy:
    """Return what a decision keeps of who decided."""
    if isinstance(decider, str) or not decider.snapshot.snapshot_version:
        return ServedBy(who, None, 0, propensities, gains)
    return ServedBy(who, decider.snapshot.policy, decider.snapshot.snapshot_version, propensities, gains)


def _gain(own: Chooser, law: Law, served: int) -> float | None:
    means: Sequence[float | None] = law.scores if own.snapshot.features is not None else _means(own.snapshot, law)
    known = [mean for mean in means if mean is not None]
    here = means[served]
    if here is None or len(known) < len(means):
        return None
    return sum(share * mean for share, mean in zip(law.propensities, known, strict=True)) - here


def _means(snapshot: Snapshot, law: Law) -> list[float | None]:
    weight = sum(known.weight for known in snapshot.estimates)
    if weight <= 0:
        return [None] * len(law.actions)
    pooled = sum(known.total for known in snapshot.estimates) / weight
    means = {known.action: known.total / known.weight for known in snapshot.estimates if known.weight > 0}
    return [means.get(action, pooled) for action in law.actions]
