"""The posterior is a sum over decisions, weighed by their age."""

from __future__ import annotations

from itertools import pairwise
from math import exp, isfinite

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.policies.arrival import delay_bin
from shared.policies.buckets import SETTLED
from shared.policies.choosing import Chooser
from shared.policies.kinds import KINDS
from shared.policies.posterior import (
    Outcome,
    Posterior,
    advance,
    arrival_of,
    lacks_delays,
    learn,
    merge,
    snapshot_of,
)
from shared.policies.thompson import Thompson
from shared.vocabulary import Action, Estimate, FeatureSpec, PolicySpec, Tally

AT = 1_700_000_000.0
WINDOW_S = 6_400.0
BUCKET_S = 100.0
HALF_LIFE_S = 5_000.0
DELAY_S = 900.0
END = AT + 3 * WINDOW_S

PLAIN = PolicySpec("news", 1, "thompson", {}, (Action("a"), Action("b")), reward_window_s=WINDOW_S)
FORGETFUL = msgspec.structs.replace(PLAIN, half_life_s=HALF_LIFE_S)
SLOW = msgspec.structs.replace(PLAIN, expected_delay_s=DELAY_S)
BOTH = msgspec.structs.replace(PLAIN, half_life_s=HALF_LIFE_S, expected_delay_s=DELAY_S, default_reward=0.25)

every_spec = pytest.mark.parametrize("spec", [PLAIN, FORGETFUL, SLOW, BOTH], ids=["plain", "forgetful", "slow", "both"])

moments = st.integers(0, int(3 * WINDOW_S * 1000)).map(lambda ms: AT + ms / 1000)
actions = st.sampled_from(["a", "b", "theirs", "yours"])
rewards = st.floats(-10, 10)
histories = st.lists(st.tuples(moments, actions, st.lists(rewards, max_size=3)), max_size=25)


def outcomes_of(history: list[tuple[float, str, list[float]]]) -> list[Outcome]:
    """Return every change one by one: a showing, its first reward, and each revision."""
    outcomes = []
    for decided_at, action, revisions in history:
        outcomes.append(Outcome(decided_at, action, shown=True))
        delays = [delay(decided_at, at) for at in range(len(revisions))]
        befores = zip([None, *revisions], [None, *delays], strict=True)
        for (before, delay_before_s), after, delay_s in zip(befores, revisions, delays, strict=False):
            outcomes.append(Outcome(decided_at, action, False, before, after, {}, {}, delay_before_s, delay_s))
    return outcomes


def delay(decided_at: float, revision: int) -> float:
    """Return when the first feedback of a revised reward occurred: a revision may know of an earlier one."""
    return ((decided_at - AT) * 13.0 + 37.0) % WINDOW_S / (1 + revision)


def known_at_first(history: list[tuple[float, str, list[float]]]) -> list[Outcome]:
    """Return one outcome for each decision, with its last reward."""
    return [
        Outcome(at, action, True, None, rewards[-1], {}, {}, None, delay(at, len(rewards) - 1))
        if rewards
        else Outcome(at, action, shown=True)
        for at, action, rewards in history
    ]


def tallies(posterior: Posterior) -> dict[tuple[int, str, str], float]:
    """Return every number of a posterior."""
    numbers = {
        (bucket, action, name): value
        for bucket, row in posterior.buckets.items()
        for action, tally in row.items()
        for name, value in msgspec.structs.asdict(tally).items()
    }
    delays = {(bucket, "", str(at)): value for bucket, row in posterior.delays.items() for at, value in row.items()}
    return numbers | delays


def alike(one: Posterior, other: Posterior) -> None:
    """Assert that two posteriors agree to 1e-9, a number that is missing being 0."""
    assert one.as_of == other.as_of
    first, second = tallies(one), tallies(other)
    for at in first.keys() | second.keys():
        assert first.get(at, 0.0) == pytest.approx(second.get(at, 0.0), rel=1e-9, abs=1e-9), at


def estimates(posterior: Posterior, spec: PolicySpec) -> dict[str, Estimate]:
    """Return what a snapshot of the posterior would say, by action."""
    return {estimate.action: estimate for estimate in snapshot_of(posterior, spec, 1).estimates}


@every_spec
@given(history=histories, data=st.data())
@settings(max_examples=60)
def test_order_and_batches_do_not_matter(
    spec: PolicySpec, history: list[tuple[float, str, list[float]]], data: st.DataObject
) -> None:
    """Outcomes in any order, in batches learned at any moments, give the posterior of learning all at once."""
    outcomes = outcomes_of(history)
    shuffled = data.draw(st.permutations(outcomes))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(outcomes)), max_size=4)))
    bounds = [0, *cuts, len(outcomes)]
    posterior = Posterior()
    for first, last in pairwise(bounds):
        posterior = learn(posterior, spec, shuffled[first:last], data.draw(moments))
    alike(advance(posterior, spec, END), learn(Posterior(), spec, outcomes, END))


@every_spec
@given(history=histories, data=st.data())
@settings(max_examples=60)
def test_posteriors_of_different_decisions_merge(
    spec: PolicySpec, history: list[tuple[float, str, list[float]]], data: st.DataObject
) -> None:
    """Parts learned apart, as of different moments, merge in either order to the posterior of the whole."""
    cut = data.draw(st.integers(0, len(history)))
    one = learn(Posterior(), spec, outcomes_of(history[:cut]), data.draw(moments))
    other = learn(Posterior(), spec, outcomes_of(history[cut:]), data.draw(moments))
    merged = merge(one, other, spec)
    assert merged.as_of == max(one.as_of, other.as_of)
    alike(merged, merge(other, one, spec))
    alike(merged, learn(Posterior(), spec, outcomes_of(history), merged.as_of))
    alike(merge(merged, Posterior(), spec), merged)


@every_spec
@given(history=histories)
@settings(max_examples=60)
def test_revising_equals_having_known(spec: PolicySpec, history: list[tuple[float, str, list[float]]]) -> None:
    """A reward that was revised leaves what its last value alone would have left."""
    alike(learn(Posterior(), spec, outcomes_of(history), END), learn(Posterior(), spec, known_at_first(history), END))


@every_spec
@given(history=histories, steps=st.lists(moments, min_size=2, max_size=4))
@settings(max_examples=60)
def test_ageing_composes(spec: PolicySpec, history: list[tuple[float, str, list[float]]], steps: list[float]) -> None:
    """Many small steps in time equal one large one; a step backwards is none."""
    posterior = learn(Posterior(), spec, outcomes_of(history), min(steps))
    stepped = posterior
    for moment in steps:
        stepped = advance(stepped, spec, moment)
    alike(stepped, advance(posterior, spec, max(steps)))
    assert advance(stepped, spec, AT - 1.0) == stepped


@every_spec
@given(history=histories)
@settings(max_examples=30)
def test_inputs_stay_as_they_are(spec: PolicySpec, history: list[tuple[float, str, list[float]]]) -> None:
    """Learning, merging, ageing and publishing write into no posterior."""
    posterior = learn(Posterior(), spec, outcomes_of(history), AT + WINDOW_S)
    before = msgspec.json.encode(posterior)
    learn(posterior, spec, outcomes_of(history), END)
    merge(posterior, posterior, spec)
    advance(posterior, spec, END)
    snapshot_of(posterior, spec, 2)
    assert msgspec.json.encode(posterior) == before


@every_spec
@given(history=histories)
@settings(max_examples=30)
def test_an_encoded_posterior_is_the_same(spec: PolicySpec, history: list[tuple[float, str, list[float]]]) -> None:
    """PostgreSQL keeps a posterior as JSON, bit for bit."""
    posterior = learn(Posterior(), spec, outcomes_of(history), END)
    assert msgspec.json.decode(msgspec.json.encode(posterior), type=Posterior) == posterior


def test_statistics_are_sums_over_decisions() -> None:
    """Without forgetting or delay the tallies are plain counts and sums, and silence counts as the default reward."""
    spec = msgspec.structs.replace(PLAIN, default_reward=0.5)
    outcomes = [Outcome(AT, "a", shown=True), Outcome(AT, "a", shown=True, after=0.25), Outcome(AT, "a", after=2.0)]
    posterior = learn(Posterior(), spec, [*outcomes, *[Outcome(AT, "a", shown=True)] * 3], AT)
    assert posterior.buckets == {SETTLED: {"a": Tally(5.0, 2.0, 2.25, 4.0625)}}
    assert estimates(posterior, spec)["a"] == Estimate("a", 5.0, 2.25 + 3 * 0.5, 4.0625 + 3 * 0.25)


def test_taking_a_reward_back_leaves_silence() -> None:
    """An outcome whose reward becomes none is one without feedback again."""
    outcomes = [Outcome(AT, "a", shown=True, after=1.0), Outcome(AT, "a", before=1.0)]
    assert estimates(learn(Posterior(), PLAIN, outcomes, AT), PLAIN)["a"] == Estimate("a", 1.0, 0.0, 0.0)


def test_a_half_life_halves() -> None:
    """After one half-life everything weighs half, after ten a 1024th, exactly; without a half-life nothing fades."""
    outcomes = [Outcome(AT, "a", shown=True, after=0.5)] * 8
    posterior = learn(Posterior(), FORGETFUL, outcomes, AT)
    for lives in (1, 2, 10):
        faded = advance(posterior, FORGETFUL, AT + lives * HALF_LIFE_S)
        assert faded.buckets[SETTLED]["a"] == Tally(*(value / 2**lives for value in (8.0, 8.0, 4.0, 2.0)))
    assert advance(learn(Posterior(), PLAIN, outcomes, AT), PLAIN, AT + 1e9).buckets[SETTLED]["a"].shown == 8.0


def test_an_old_decision_weighs_by_its_own_time() -> None:
    """Feedback that comes one half-life after its decision weighs half, whenever it is learned."""
    late = learn(Posterior(), FORGETFUL, [Outcome(AT, "a", shown=True, after=1.0)], AT + HALF_LIFE_S)
    assert late.buckets[SETTLED]["a"] == Tally(0.5, 0.5, 0.5, 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_forgetting_ends_at_the_prior(kind: str) -> None:
    """However long nothing is learned, the law stays one, and ends as that of a policy that knows nothing."""
    spec = msgspec.structs.replace(FORGETFUL, kind=kind)
    posterior = learn(Posterior(), spec, [Outcome(AT, "a", shown=True, after=1.0)] * 1000, AT)
    fresh = Chooser(snapshot_of(Posterior(AT), spec, 5)).propensities()
    for lives in (1, 10, 100, 1020, 1060, 1074, 1080, 5000):
        law = Chooser(snapshot_of(advance(posterior, spec, AT + lives * HALF_LIFE_S), spec, 5)).propensities()
        assert sum(law.values()) == pytest.approx(1.0, abs=1e-12)
    assert law == fresh


def test_forgetting_never_goes_below_the_prior() -> None:
    """Beta parameters fall towards the prior's own from above and stop there."""
    spec = msgspec.structs.replace(FORGETFUL, parameters={"prior_alpha": 2.0, "prior_beta": 3.0})
    posterior = learn(Posterior(), spec, [Outcome(AT, "a", shown=True, after=1.0)] * 9, AT)
    last = (11.0, 3.0)
    for lives in range(0, 200, 3):
        snapshot = snapshot_of(advance(posterior, spec, AT + lives * HALF_LIFE_S), spec, 1)
        first, second = Thompson(snapshot)._posterior(snapshot.estimates)
        assert 2.0 <= first[0] <= last[0]
        assert second[0] == 3.0
        last = (float(first[0]), float(second[0]))
    assert last == (2.0, 3.0)


def share(age_s: float) -> float:
    """Return F(age) from its closed form."""
    return (1 - exp(-age_s / DELAY_S)) / (1 - exp(-WINDOW_S / DELAY_S)) if 0 < age_s < WINDOW_S else float(age_s > 0)


@pytest.mark.parametrize("age_s", [0.0, 40.0, 100.0, 900.0, 3_000.0, 6_300.0, 6_399.0, 6_500.0, 1e6])
def test_silence_weighs_the_share_that_has_arrived(age_s: float) -> None:
    """Ten silent decisions of age a weigh 10 F(a), a being that of the middle of their bucket (1e-12)."""
    spec = msgspec.structs.replace(SLOW, default_reward=0.5)
    decided_at = AT + 30.0
    posterior = learn(Posterior(), spec, [Outcome(decided_at, "a", shown=True)] * 10, decided_at)
    estimate = estimates(advance(posterior, spec, decided_at + age_s), spec)["a"]
    middle = decided_at // BUCKET_S * BUCKET_S + BUCKET_S / 2
    silent = 10 * share(decided_at + age_s - middle)
    assert estimate.weight == pytest.approx(silent, abs=1e-12)
    assert estimate.total == pytest.approx(0.5 * silent, abs=1e-12)
    assert estimate.squares == pytest.approx(0.25 * silent, abs=1e-12)
    assert estimate.weight == pytest.approx(10 * share(age_s), abs=10 * 0.5 * BUCKET_S / DELAY_S * 1.01)


def test_answers_count_in_full_at_once() -> None:
    """What was answered does not wait: of three shown at age 0 the answered one weighs 1 and the silent ones nothing."""
    outcomes = [Outcome(AT, "a", shown=True), Outcome(AT, "a", shown=True, after=1.0), Outcome(AT, "a", shown=True)]
    assert estimates(learn(Posterior(), SLOW, outcomes, AT), SLOW)["a"] == Estimate("a", 1.0, 1.0, 1.0)


def test_delays_are_counted_where_rewards_are_slow() -> None:
    """Answers are counted by bucket of the decision and bin of the delay, and move with what they belong to."""
    outcomes = [
        Outcome(AT + 30.0, "a", True, None, 1.0, {}, {}, None, 50.0),
        Outcome(AT + 99.0, "b", True, None, 0.5, {}, {}, None, 6e3),
    ]
    bucket, last = int(AT // BUCKET_S), delay_bin(6e3, WINDOW_S)
    posterior = learn(Posterior(), SLOW, outcomes, AT + 100.0)
    assert posterior.delays == {bucket: {0: 1.0, last: 1.0}}
    assert advance(posterior, SLOW, AT + 2 * WINDOW_S).delays == {SETTLED: {0: 1.0, last: 1.0}}
    revised = learn(posterior, SLOW, [Outcome(AT + 99.0, "b", False, 0.5, 0.5, {}, {}, 6e3, 10.0)], AT + 100.0)
    assert revised.delays == {bucket: {0: 2.0, last: 0.0}}
    assert learn(Posterior(), PLAIN, outcomes, AT + 100.0).delays == {}
    assert merge(posterior, posterior, SLOW).delays == {bucket: {0: 2.0, last: 2.0}}
    halved = advance(learn(Posterior(), BOTH, outcomes[:1], AT + 30.0), BOTH, AT + 30.0 + HALF_LIFE_S)
    assert halved.delays == {bucket: {0: 0.5}}


def test_silence_weighs_what_the_delays_say() -> None:
    """Answers that always came late make F small while the decision is young, whatever was declared; silent ones do not."""
    old = [Outcome(AT, "a", True, None, 1.0, {}, {}, None, 6e3)] * 1_000
    young = Outcome(AT + 2 * WINDOW_S, "b", shown=True)
    declared, estimated = (
        estimates(learn(Posterior(), SLOW, [*known, *[young] * 10], AT + 2 * WINDOW_S + 3e3), SLOW)["b"].weight
        for known in ([], old)
    )
    assert declared > 9.0
    assert estimated < 1.0
    silent = [Outcome(AT, action, shown=True) for action in ("a", "b")] * 500
    posterior = learn(Posterior(), SLOW, [*old, young], AT + 2 * WINDOW_S + 3e3)
    more = learn(posterior, SLOW, silent, AT + 2 * WINDOW_S + 3e3)
    for age_s in (10.0, 1e3, 6e3):
        assert arrival_of(more, SLOW)(age_s) == arrival_of(posterior, SLOW)(age_s)


def test_rates_of_young_decisions_come_out_right_with_and_without_features() -> None:
    """Half of the answers have come, of decisions that six in ten answer: the mean is .6, though .3 were answered so far."""
    half_s = next(age_s for age_s in range(int(WINDOW_S)) if share(age_s) >= 0.5)
    now = AT + BUCKET_S / 2 + half_s
    outcomes = [Outcome(AT, "a", shown=True, after=1.0)] * 600 + [Outcome(AT, "a", shown=True)] * 1_400
    expected = 0.3 / share(now - (AT // BUCKET_S + 0.5) * BUCKET_S)
    assert expected == pytest.approx(0.6, abs=0.01)
    for kind, features in [("epsilon_greedy", None), ("thompson", None), ("epsilon_greedy", FeatureSpec())]:
        spec = msgspec.structs.replace(SLOW, kind=kind, features=features, actions=(Action("a"),))
        (item,) = Chooser(snapshot_of(learn(Posterior(), spec, outcomes, now), spec, 1)).choose({}, None, [0.5])
        within = 0.01 if features is None else 0.1  # the buckets of linear models are four times as wide
        assert item.score == pytest.approx(expected, abs=within)


def test_a_posterior_of_before_delays_were_counted_is_told() -> None:
    """One with answers and without their delays lacks them, if rewards are slow."""
    without = learn(Posterior(), SLOW, [Outcome(AT, "a", shown=True, after=1.0)], AT)
    counted = learn(Posterior(), SLOW, [Outcome(AT, "a", True, None, 1.0, {}, {}, None, 5.0)], AT)
    silent = learn(Posterior(), SLOW, [Outcome(AT, "a", shown=True)], AT)
    assert lacks_delays(without, SLOW)
    assert not any(lacks_delays(known, SLOW) for known in (counted, silent, Posterior()))
    assert not lacks_delays(without, PLAIN)


def test_buckets_settle_when_their_window_is_over() -> None:
    """A bucket is kept apart until the last of its decisions has left the window, then it is as learned directly."""
    outcomes = [Outcome(AT + 30.0, "a", shown=True), Outcome(AT + 99.0, "b", shown=True, after=0.5)]
    posterior = learn(Posterior(), BOTH, outcomes, AT + 99.0)
    end = AT + BUCKET_S + WINDOW_S
    assert set(posterior.buckets) == {AT // BUCKET_S}
    assert set(advance(posterior, BOTH, end - 0.001).buckets) == {AT // BUCKET_S}
    settled = advance(posterior, BOTH, end)
    assert set(settled.buckets) == {SETTLED}
    alike(settled, learn(Posterior(), BOTH, outcomes, end))


def test_a_revision_finds_the_bucket_of_its_decision() -> None:
    """Feedback moves a decision from the silent to the answered in its own bucket, before and after it settles."""
    shown = learn(Posterior(), SLOW, [Outcome(AT, "a", shown=True)], AT)
    for as_of in (AT + 50.0, AT + 2 * WINDOW_S):
        posterior = learn(shown, SLOW, [Outcome(AT, "a", after=1.0)], as_of)
        (row,) = posterior.buckets.values()
        assert row["a"] == Tally(1.0, 1.0, 1.0, 1.0)
        assert estimates(posterior, SLOW)["a"].weight == 1.0


def test_there_are_never_many_buckets() -> None:
    """A policy that runs for ten windows keeps apart only what is inside one."""
    posterior = Posterior()
    for at in range(0, int(10 * WINDOW_S), 20):
        posterior = learn(posterior, SLOW, [Outcome(AT + at, "a", shown=True)], AT + at)
        assert len(posterior.buckets) <= WINDOW_S / BUCKET_S + 3
    assert sum(row["a"].shown for row in posterior.buckets.values()) == 10 * WINDOW_S / 20


@every_spec
@pytest.mark.parametrize("kind", KINDS)
def test_decisions_from_the_future_are_usable(kind: str, spec: PolicySpec) -> None:
    """A clock that runs five minutes ahead gives a usable law, and once its time has come weighs as any other."""
    spec = msgspec.structs.replace(spec, kind=kind)
    outcomes = [Outcome(AT + 300.0, "a", shown=True, after=1.0), Outcome(AT + 300.0, "b", shown=True)]
    early = learn(Posterior(), spec, outcomes, AT)
    law = Chooser(snapshot_of(early, spec, 1)).propensities()
    assert sum(law.values()) == pytest.approx(1.0, abs=1e-12)
    alike(advance(early, spec, AT + 300.0), learn(Posterior(), spec, outcomes, AT + 300.0))


def test_a_million_updates_stay_finite_and_exact() -> None:
    """100 batches of 10,000 outcomes give the geometric sum of their weights (1e-9), and a usable law."""
    spec = msgspec.structs.replace(FORGETFUL, half_life_s=600.0)
    posterior = Posterior()
    for batch in range(100):
        at = AT + 300.0 * batch
        outcomes = [Outcome(at, "a", shown=True, after=1.0)] * 5_000 + [Outcome(at, "b", shown=True)] * 5_000
        posterior = learn(posterior, spec, outcomes, at)
    known = estimates(posterior, spec)
    expected = 5_000 * (1 - 2.0 ** (-100 / 2)) / (1 - 2.0 ** (-1 / 2))
    assert known["a"].weight == pytest.approx(expected, rel=1e-9)
    assert known["a"].total == pytest.approx(expected, rel=1e-9)
    assert known["b"].weight == pytest.approx(expected, rel=1e-9)
    assert known["b"].total == 0.0
    assert all(map(isfinite, Chooser(snapshot_of(posterior, spec, 1)).propensities().values()))


def test_a_million_revisions_leave_no_trace() -> None:
    """Rewards of 0.1 given and taken back half a million times leave silence (1e-9)."""
    outcomes = [Outcome(AT, "a", after=0.1), Outcome(AT, "a", before=0.1)] * 5_000
    posterior = learn(Posterior(), FORGETFUL, [Outcome(AT, "a", shown=True)], AT)
    for batch in range(100):
        posterior = learn(posterior, FORGETFUL, outcomes, AT + batch)
    tally = posterior.buckets[SETTLED]["a"]
    assert tally.shown == pytest.approx(2.0 ** (-99 / HALF_LIFE_S), rel=1e-9)
    assert [tally.answered, tally.total, tally.squares] == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)


def test_a_snapshot_lists_the_policys_actions_first() -> None:
    """The policy's actions come in its order, seen or not, then what others brought, by name."""
    spec = msgspec.structs.replace(PLAIN, actions=(Action("z"), Action("a"), Action("m")))
    outcomes = [Outcome(AT, action, shown=True) for action in ("yours", "a", "mine")]
    snapshot = snapshot_of(learn(Posterior(), spec, outcomes, AT), spec, 4)
    assert [estimate.action for estimate in snapshot.estimates] == ["z", "a", "m", "mine", "yours"]
    assert [estimate.weight for estimate in snapshot.estimates] == [0.0, 1.0, 0.0, 1.0, 1.0]
    assert snapshot.actions == spec.actions


def test_a_snapshot_says_what_it_was_made_of() -> None:
    """Name, versions, kind, parameters, floor, range and time are the policy's and the posterior's."""
    spec = PolicySpec(
        "p", 7, "ucb1", {"exploration": 2.0}, (Action("a"),), reward_range=(-1.0, 3.0), exploration_floor=0.2
    )
    snapshot = snapshot_of(Posterior(AT), spec, 12)
    named = (snapshot.policy, snapshot.policy_version, snapshot.snapshot_version, snapshot.kind, snapshot.as_of)
    assert named == ("p", 7, 12, "ucb1", AT)
    assert (snapshot.parameters, snapshot.exploration_floor) == ({"exploration": 2.0}, 0.2)
    assert snapshot.reward_range == (-1.0, 3.0)


def test_seeds_differ_by_policy_and_snapshot_and_repeat() -> None:
    """The seed of posterior draws follows from the policy's name and the snapshot's version alone."""
    other = msgspec.structs.replace(PLAIN, name="sports")
    seeds = [snapshot_of(Posterior(), spec, version).seed for spec in (PLAIN, other) for version in range(1, 500)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**56 for seed in seeds)
    assert snapshot_of(Posterior(AT), FORGETFUL, 1).seed == snapshot_of(Posterior(), PLAIN, 1).seed
