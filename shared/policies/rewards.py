"""From raw feedback to a reward: a pure function of the set of a decision's feedback.

Events are ordered by (occurred_at, identity), so the order in which they arrived cannot change the number. Kinds that
the policy's rule does not name are kept in the truth and weigh nothing; events after the window do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from shared.vocabulary import Feedback, PolicySpec, RewardRule


def reward_of(spec: PolicySpec, decided_at: float, events: Iterable[Feedback]) -> float | None:
    """Return the reward that `events`, all of one item, give; None where none of them counts.

    reward = clip(sum over kinds of weight * combine(values)), clipped to the policy's `reward_range`.
    """
    counted = _counted(spec, decided_at, events)
    if not counted:
        return None
    reward = sum(_contribution(spec.reward[kind], counted[kind]) for kind in sorted(counted))
    if spec.reward_range is None:
        return reward
    low, high = spec.reward_range
    return min(max(reward, low), high)


def item_rewards(
    spec: PolicySpec, decided_at: float, actions: Sequence[str], events: Iterable[Feedback]
) -> list[float | None]:
    """Return one reward (or None) per item of a decision.

    An event that names no action speaks of the only item; in a slate it speaks of none.
    """
    return [reward_of(spec, decided_at, given) for given in _by_item(actions, events)]


def item_delays(
    spec: PolicySpec, decided_at: float, actions: Sequence[str], events: Iterable[Feedback]
) -> list[float | None]:
    """Return for each item of a decision after how many seconds, 0 or more, its first event that counts occurred."""
    return [_delay_of(spec, decided_at, given) for given in _by_item(actions, events)]


def _delay_of(spec: PolicySpec, decided_at: float, events: Iterable[Feedback]) -> float | None:
    times = [event.occurred_at for counted in _counted(spec, decided_at, events).values() for event in counted]
    return max(min(times) - decided_at, 0.0) if times else None


def _by_item(actions: Sequence[str], events: Iterable[Feedback]) -> list[list[Feedback]]:
    by_action: dict[str, list[Feedback]] = {action: [] for action in actions}
    for event in events:
        action = event.action if event.action is not None or len(actions) != 1 else actions[0]
        if action in by_action:
            by_action[action].append(event)
    return [by_action[action] for action in actions]


def _counted(spec: PolicySpec, decided_at: float, events: Iterable[Feedback]) -> dict[str, list[Feedback]]:
    until = decided_at + spec.reward_window_s
    counted: dict[str, list[Feedback]] = {}
    for event in events:
        if event.kind in spec.reward and event.occurred_at <= until:
            counted.setdefault(event.kind, []).append(event)
    return counted


def _contribution(rule: RewardRule, events: list[Feedback]) -> float:
    events.sort(key=lambda event: (event.occurred_at, event.source, event.event_id))
    values = [event.value for event in events]
    if rule.saturation is not None:
        values = [min(value, rule.saturation) / rule.saturation for value in values]
    return rule.weight * _COMBINATIONS[rule.combine](values)


_COMBINATIONS: dict[str, Callable[[list[float]], float]] = {
    "max": max,
    "min": min,
    "sum": sum,
    "mean": lambda values: sum(values) / len(values),
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
}
