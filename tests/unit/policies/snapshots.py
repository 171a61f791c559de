"""The snapshots that every kind of policy must cope with."""

from __future__ import annotations

import msgspec
import pytest

from shared.policies.kinds import CONTEXTUAL_KINDS, KINDS, SEQUENTIAL_KINDS
from shared.vocabulary import Action, Estimate, Snapshot
from tests.unit.policies.episodes import EPISODES, taught
from tests.unit.policies.histories import HISTORIES, learned

ACTIONS = ("a", "b", "c", "d", "e")
STRANGERS = ("new", "newer")
"""Actions that no snapshot here has heard of."""

_FRESH = Snapshot(
    policy="news",
    policy_version=1,
    snapshot_version=3,
    kind="",
    parameters={},
    actions=tuple(Action(action) for action in ACTIONS),
    estimates=tuple(Estimate(action, 0.0, 0.0, 0.0) for action in ACTIONS),
    exploration_floor=0.05,
    reward_range=(0.0, 1.0),
    seed=0x0123_4567_89AB_CD,
    as_of=1_700_000_000.25,
)


def _seen(*pairs: tuple[float, float], actions: tuple[str, ...] = ACTIONS) -> tuple[Estimate, ...]:
    """Estimates of (weight, total) in the order of the actions; every reward as large as their mean."""
    return tuple(
        Estimate(action, weight, total, total * total / weight if weight else 0.0)
        for action, (weight, total) in zip(actions, pairs, strict=True)
    )


_DATA = _seen((40.0, 12.0), (55.0, 20.0), (8.0, 3.0), (20.0, 8.5), (3.0, 0.0))

_VARIANTS: dict[str, dict[str, object]] = {
    "fresh": {},
    "with data": {"estimates": _DATA},
    "one action untried": {"estimates": (*_DATA[:4], Estimate("e", 0.0, 0.0, 0.0))},
    "half forgotten": {
        "estimates": _seen((0.73, 0.41), (12.125, 3.5), (1e-9, 4e-10), (0.031, 0.03), (2.5, 2.5)),
    },
    "all but forgotten": {
        "estimates": _seen((5e-324, 5e-324), (1e-310, 0.0), (1e-300, 5e-301), (3.0, 1.0), (0.0, 0.0)),
    },
    "others' actions": {
        "estimates": (*_DATA, Estimate("theirs", 30.0, 25.0, 22.0), Estimate("yours", 0.5, 0.5, 0.5)),
    },
    "only others' actions": {
        "actions": (),
        "estimates": (Estimate("theirs", 30.0, 25.0, 22.0), Estimate("yours", 0.5, 0.5, 0.5)),
    },
    "wide range": {
        "estimates": _seen((40.0, -100.0), (55.0, 90.0), (8.0, 13.0), (20.0, 0.0), (3.0, -15.0)),
        "reward_range": (-5.0, 20.0),
    },
    "unbounded": {
        "estimates": _seen((40.0, -1e4), (55.0, 90.0), (8.0, 13.5), (20.0, 30.0), (3.0, 5.0)),
        "reward_range": None,
    },
    "equal data": {"estimates": _seen(*[(4.0, 1.0)] * 5)},
    "no floor": {"estimates": _DATA, "exploration_floor": 0.0},
    "nearly all floor": {"estimates": _DATA, "exploration_floor": 0.999},
    "one action": {"actions": (Action("a"),), "estimates": _seen((4.0, 1.0), actions=("a",))},
    "much data": {"estimates": _seen(*[(1e9 + at, 4e8 + 3e4 * at) for at in range(5)])},
    "always rewarded": {"estimates": _seen(*[(1e8, 1e8)] * 5)},
}
_SAMPLED: dict[str, dict[str, object]] = {
    "weak prior": {"parameters": {"prior_alpha": 1e-3, "prior_beta": 1e-3}},
    "strong prior": {"parameters": {"prior_alpha": 200.0, "prior_beta": 1e6}, "estimates": _DATA},
    "sure of everything": {
        "parameters": {"prior_scale": 1e-6, "noise_scale": 1e-6, "prior_mean": 1e9},
        "reward_range": None,
    },
    "unknown noise": {
        "parameters": {"noise_weight": 1.0},
        "estimates": _seen((40.0, -1e4), (55.0, 90.0), (8.0, 13.5), (20.0, 30.0), (3.0, 5.0)),
        "reward_range": None,
    },
    "unknown noise, fresh": {"parameters": {"noise_weight": 0.1}, "reward_range": None},
    "unknown noise, all but forgotten": {
        "parameters": {"noise_weight": 1.0},
        "estimates": _seen((5e-324, 5e-324), (1e-310, 0.0), (1e-300, 5e-301), (3.0, 1.0), (0.0, 0.0)),
        "reward_range": None,
    },
    "unknown noise, vast": {
        "parameters": {"noise_weight": 1e6, "noise_guess": 1e-6, "prior_weight": 1e6, "prior_mean": -1e9},
        "estimates": _seen((1e9, 1e18), (55.0, 9e13), (8.0, -13.5), (20.0, 30.0), (3.0, 5.0)),
        "reward_range": None,
    },
}
_OF_ONE_KIND: dict[str, dict[str, dict[str, object]]] = {
    "thompson": _SAMPLED,
    "top_two_thompson": _SAMPLED
    | {
        "leader only": {"parameters": {"beta": 1.0}, "estimates": _DATA},
        "challenger only": {"parameters": {"beta": 0.0}, "estimates": _DATA, "exploration_floor": 0.0},
        "one sure winner": {
            "estimates": _seen((1e6, 9e5), (55.0, 2.0), (80.0, 3.0), (20.0, 0.5), (30.0, 0.0)),
            "exploration_floor": 0.0,
        },
    },
    "softmax": {
        "cold": {"parameters": {"temperature": 1e-6}, "estimates": _DATA, "exploration_floor": 0.0},
        "hot": {"parameters": {"temperature": 1e6}, "estimates": _DATA},
    },
    "kl_ucb": {"as proved": {"parameters": {"c": 3.0}, "estimates": _DATA}},
    "epsilon_greedy": {
        "greedy": {"parameters": {"epsilon": 0.0}, "estimates": _DATA, "exploration_floor": 0.0},
        "uniform": {"parameters": {"epsilon": 1.0}, "estimates": _DATA},
    },
    "ucb1": {"greedy": {"parameters": {"exploration": 0.0}, "estimates": _DATA, "exploration_floor": 0.0}},
}


def snapshot(kind: str, name: str = "with data", **changes: object) -> Snapshot:
    """Return the snapshot of a kind by its name here, with further changes."""
    variant = _VARIANTS[name] if name in _VARIANTS else _OF_ONE_KIND[kind][name]
    return msgspec.structs.replace(_FRESH, kind=kind, **(variant | changes))


def every_snapshot() -> list[object]:
    """Return each kind with each snapshot it may have, as pytest parameters."""
    made: list[object] = [
        pytest.param(snapshot(kind, name), id=f"{kind}-{name}")
        for kind in KINDS
        for name in [*_VARIANTS, *_OF_ONE_KIND.get(kind, {})]
        if not (KINDS[kind].NEEDS_RANGE and snapshot(kind, name).reward_range is None)
    ]
    made += [
        pytest.param(learned(kind, history), id=f"{kind} with features-{history}")
        for kind in CONTEXTUAL_KINDS
        for history, (_, _, reward_range) in HISTORIES.items()
        if not (CONTEXTUAL_KINDS[kind].NEEDS_RANGE and reward_range is None)
    ]
    made += [
        pytest.param(taught(kind, name), id=f"{kind} in sessions-{name}")
        for kind in SEQUENTIAL_KINDS
        for name in EPISODES
    ]
    return made
