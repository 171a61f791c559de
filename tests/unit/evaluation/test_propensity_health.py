"""Propensity health: silent while propensities are right, loud soon after they are not."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, log, sqrt

import msgspec
import numpy as np
import pytest

from shared.errors import InvalidInput
from shared.evaluation import propensity_health
from shared.evaluation.propensity_health import ALPHA, LOWER, OTHERS, REST, Choice, Health, log_evidence, observe
from shared.policies.choosing import Chooser
from shared.vocabulary import Action, Estimate, Snapshot

BATCH = 64
LOOSE = 0.05
"""A level at which false alarms can be counted."""


def snapshot(random: np.random.Generator, kind: str, n: int, floor: float) -> Snapshot:
    """Return a snapshot of `n` actions that differ, none of them known well."""
    known = []
    for at in range(n):
        weight = float(random.integers(1, 200))
        won = weight * random.beta(2, 8)
        known.append(Estimate(f"a{at}", weight, won, won))
    actions = tuple(Action(f"a{at}") for at in range(n))
    seed = int(random.integers(1 << 50))
    return Snapshot("p", 1, 1, kind, {}, actions, tuple(known), floor, (0.0, 1.0), seed, 0.0)


def honest(random: np.random.Generator, choices: int, floor: float) -> Iterator[list[Choice]]:
    """Yield batches chosen as stated, among subsets in any order, under laws that change from batch to batch."""
    for _ in range(0, choices, BATCH):
        n = int(random.integers(2, 12))
        law = (1 - floor) * random.dirichlet(np.full(n, 0.3)) + floor / n
        steps = np.searchsorted(np.cumsum(law), random.random(BATCH)).clip(max=n - 1)
        actions = [f"a{at}" for at in random.permutation(12)[:n]]
        yield [Choice(actions, law.tolist(), int(at)) for at in steps]


def false_alarms(runs: int, choices: int) -> list[float]:
    """Return the highest log evidence of each run in which all propensities are right."""
    highest = []
    for seed in range(runs):
        random = np.random.default_rng(seed)
        health = Health()
        for batch in honest(random, choices, floor=(0.0, 0.01, 0.1)[seed % 3]):
            health = observe(health, batch)
        highest.append(health.highest)
    return highest


def assert_silent(highest: list[float]) -> None:
    """Check that alarms are no more frequent than stated: none at `ALPHA`, at most `LOOSE` (and chance) of the runs at that."""
    assert max(highest) < log(1 / ALPHA)
    alarms = sum(value >= log(1 / LOOSE) for value in highest)
    assert alarms <= LOOSE * len(highest) + 2 * sqrt(LOOSE * len(highest))
    assert max(highest) > 0.5  # the evidence moves at all


def test_silent_while_propensities_are_right() -> None:
    """100 runs of 512 choices each."""
    assert_silent(false_alarms(100, 512))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_silent_over_long_runs() -> None:
    """1,000 runs of 5,000 choices each: no alarm; at a level of 5 % no more than 5 %."""
    highest = false_alarms(1_000, 5_000)
    print(f"alarms at {LOOSE:.0%}: {sum(value >= log(1 / LOOSE) for value in highest)} of {len(highest)}, ", end="")
    print(f"highest evidence {max(highest):.2f} nats, the alarm begins at {log(1 / ALPHA):.2f}")
    assert_silent(highest)


def until_alarm(kind: str, floor: float, stated: float, *, power: float, seed: int, most: int) -> int:
    """Return after how many choices a policy alarms that explores by `floor`, says `stated`, and draws u^power."""
    random = np.random.default_rng(seed)
    health = Health()
    while not health.is_alarming():
        assert health.choices < most, f"no alarm within {most} choices"
        given = snapshot(random, kind, 10, floor)
        happens, said = Chooser(given), Chooser(msgspec.structs.replace(given, exploration_floor=stated))
        batch = []
        for _ in range(BATCH):
            actions = [f"a{at}" for at in random.permutation(10)[: random.integers(2, 11)]]
            law = happens.law({}, actions)
            batch.append(Choice(law.actions, said.law({}, actions).propensities, law.draw(random.random() ** power)))
        health = observe(health, batch)
    return health.choices


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("kind", "floor", "stated", "power", "most"),
    [
        pytest.param("thompson", 0.01, 0.0, 1.0, 2_000, id="thompson leaves the floor out"),
        pytest.param("ucb1", 0.01, 0.0, 1.0, 1_000, id="ucb1 leaves the floor out"),
        pytest.param("epsilon_greedy", 0.1, 0.0, 1.0, 1_500, id="epsilon-greedy leaves a floor of 10 % out"),
        pytest.param("thompson", 0.01, 0.1, 1.0, 8_000, id="thompson says more floor than there is"),
        pytest.param("thompson", 0.01, 0.01, 1.3, 3_000, id="a random number that is too small"),
        pytest.param("epsilon_greedy", 0.01, 0.01, 0.8, 3_000, id="a random number that is too large"),
    ],
)
def test_alarms_soon_after_they_are_not(  # noqa: PLR0917 - parameters
    kind: str, floor: float, stated: float, power: float, most: int, seed: int
) -> None:
    """A planted mistake is found within a stated number of choices."""
    assert until_alarm(kind, floor, stated, power=power, seed=seed, most=most) <= most


def test_an_action_that_was_impossible_alarms_at_once() -> None:
    """What was chosen against a stated probability of 0 needs no second look; what was not chosen says nothing."""
    assert observe(Health(), [Choice("ab", (1.0, 0.0), 0)] * 1_000).highest == 0.0
    health = observe(Health(), [Choice("ab", (1.0, 0.0), 1)])
    assert (health.highest, log_evidence(health), health.is_alarming()) == (inf, inf, True)
    later = observe(health, [Choice("ab", (0.5, 0.5), 0)])
    assert (later.highest, later.choices) == (inf, 2)


def test_what_is_stored_otherwise_alarms() -> None:
    """One item that does not recompute is enough, whatever the counts say."""
    health = observe(Health(), [Choice("ab", (0.5, 0.5), 1, agrees=False)])
    assert (health.different, health.is_alarming()) == (1, True)
    assert health.highest < log(1 / ALPHA)


def test_events_are_counted_against_their_chances() -> None:
    """Counts, expectations and variances of actions, of the draw and of the likeliest action, by hand."""
    health = observe(Health(), [Choice("abc", (0.2, 0.5, 0.3), 1), Choice("cb", (0.4, 0.6), 0)])
    seen: dict[str, object] = {
        name: (event.count, event.expected, event.variance) for name, event in health.events.items()
    }
    assert seen == {
        LOWER: (2, pytest.approx(0.7 + 0.4), pytest.approx(0.21 + 0.24)),
        OTHERS: (1, pytest.approx(0.5 + 0.4), pytest.approx(0.25 + 0.24)),
        "a": (0, 0.2, pytest.approx(0.16)),
        "b": (1, pytest.approx(1.1), pytest.approx(0.25 + 0.24)),
        "c": (1, pytest.approx(0.7), pytest.approx(0.21 + 0.24)),
    }
    ratio = 0.0
    for chance, came in ((0.5, True), (0.6, False)):
        ratio += log(2.0) * came - log(1 + chance)
    assert health.events["b"].logs[-1] == pytest.approx(ratio)


def test_batches_make_no_difference() -> None:
    """Choices seen one by one or together, stored in between or not, are the same health but for the highest."""
    random = np.random.default_rng(3)
    choices = [choice for batch in honest(random, 256, 0.01) for choice in batch]
    together = observe(Health(), choices)
    singly = Health()
    for choice in choices:
        singly = msgspec.msgpack.decode(msgspec.msgpack.encode(observe(singly, [choice])), type=Health)
    assert (singly.choices, list(singly.events)) == (together.choices, list(together.events))
    for name, event in together.events.items():
        assert singly.events[name].count == event.count
        assert singly.events[name].logs == pytest.approx(event.logs, abs=1e-9)
    assert log_evidence(singly) == pytest.approx(log_evidence(together), abs=1e-9)
    assert singly.highest >= together.highest - 1e-9


def test_the_mean_of_the_evidence_is_1() -> None:
    """Over all that may be chosen, weighed by its probability, one more choice leaves the evidence as it was on average."""
    random = np.random.default_rng(8)
    health = Health()
    for batch in honest(random, 512, 0.01):
        health = observe(health, batch)
    before = np.exp(log_evidence(health))
    law = [0.5, 0.3, 0.15, 0.05]
    after = [np.exp(log_evidence(observe(health, [Choice(["a1", "new", "a2", "newer"], law, at)]))) for at in range(4)]
    assert np.dot(law, after) == pytest.approx(before, rel=1e-9)


def test_many_actions_are_watched_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound what is kept does not grow; the rest is one event of its own, with the sum of the chances."""
    monkeypatch.setattr(propensity_health, "MOST_EVENTS", 4)
    health = observe(Health(), [Choice("abcd", (0.1, 0.2, 0.3, 0.4), 3)] * 2)
    assert list(health.events) == [LOWER, OTHERS, "a", "b", REST]
    rest = health.events[REST]
    assert rest.count == 2
    assert rest.expected == pytest.approx(1.4)


@pytest.mark.parametrize("law", [(0.5, 0.6), (1.5, -0.5), (1.0,), (float("nan"), 1.0)])
def test_what_is_no_law_is_refused(law: tuple[float, ...]) -> None:
    """Chances below 0, that do not sum to 1, or too few of them."""
    with pytest.raises(InvalidInput) as refused:
        observe(Health(), [Choice("ab", law, 0)])
    assert refused.value.field == "propensities"
