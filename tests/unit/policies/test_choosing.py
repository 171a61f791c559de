"""What a chooser remembers changes nothing but its speed."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from shared.policies import choosing
from shared.policies.choosing import Chooser, choose
from shared.policies.kinds import KINDS
from shared.vocabulary import Action, Estimate
from tests.unit.policies.snapshots import snapshot

OWN = tuple(f"action {at}" for at in range(20))
N_SETS = 3_000


def requests() -> list[tuple[tuple[str, ...], list[float]]]:
    """Return many requests of ten actions each, hardly two of them alike, with the draws of slates of two."""
    random = np.random.default_rng(5)
    return [(tuple(random.permutation(OWN)[:10].tolist()), random.random(2).tolist()) for _ in range(N_SETS)]


@pytest.mark.parametrize("kind", KINDS)
def test_memory_stays_bounded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many sets callers name, what is remembered stays within a fifth above the bound, and no choice changes."""
    monkeypatch.setattr(choosing, "_REMEMBERED_BYTES", 500_000)
    estimates = tuple(Estimate(action, 10.0 + at, 5.0, 5.0) for at, action in enumerate(OWN))
    given = snapshot(kind, actions=tuple(Action(action) for action in OWN), estimates=estimates)
    asked = requests()
    chooser = Chooser(given)
    tracemalloc.start()
    try:
        for actions, draws in asked:
            chooser.choose({}, actions, draws)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 600_000
    for actions, draws in asked[::100]:
        assert chooser.choose({}, actions, draws) == choose(given, {}, actions, draws)


@pytest.mark.parametrize("kind", KINDS)
def test_one_set_larger_than_the_bound_is_decided_all_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chooser that may remember nothing gives the same slates."""
    given = snapshot(kind)
    expected = [choose(given, {}, None, [draw, draw, draw]) for draw in (0.1, 0.5, 0.9)]
    monkeypatch.setattr(choosing, "_REMEMBERED_BYTES", 0)
    chooser = Chooser(given)
    assert [chooser.choose({}, None, [draw, draw, draw]) for draw in (0.1, 0.5, 0.9)] == expected
