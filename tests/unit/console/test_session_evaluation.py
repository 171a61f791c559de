"""Sessions judged as a whole: what candidates would have earned in them against what they truly are worth, and what is left out."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
import numpy as np
import pytest

from functions.console import session_log
from functions.console.decided_items import DecidedItem
from functions.console.evaluation_report import Judged, Report, figures
from functions.console.evaluation_table import show
from functions.console.failure import ConsoleFailure
from shared.vocabulary import Estimate, PolicySpec
from tests.unit.console.session_logs import APART_S, STEP_S, logged, logging_policy, reported, uniform, worth
from tests.unit.policies.session_worlds import bait

WORLD = bait()
POLICY = logging_policy(WORLD)
BANDIT, LEARNER, STEERED, FITTED = (
    "kind=thompson",
    "kind=q_learning,exploration_visits=5",
    "kind=thompson,steering=1",
    "kind=fitted_q",
)
GIVEN = [BANDIT, LEARNER, STEERED, FITTED, "kind=logistic_thompson"]
WEIGHING = {"per_decision", "per_decision_self_normalised", "per_decision_doubly_robust"}


def by_name(report: Report) -> dict[str, Judged]:
    """Return what is said of each candidate."""
    return {each.name: each for each in report.judged}


def changed(items: list[DecidedItem], **fields: Any) -> list[DecidedItem]:
    """Return a decision with other items."""
    return [msgspec.structs.replace(item, **fields) for item in items]


def test_the_trap_is_one() -> None:
    """Bait earns more at once in every state, and a session of it less than chance: the greedy bandit is the worst choice."""
    greedy, patient = np.tile([1.0, 0.0], (9, 1)), np.tile([1.0, 0.0], (9, 1))
    patient[[0, 2, 4]] = 0.0, 1.0
    assert (WORLD.earns[:8, 0] > WORLD.earns[:8, 1]).all()
    assert WORLD.worth(greedy) + 0.05 < WORLD.worth(np.full((9, 2), 0.5))
    assert WORLD.worth(patient) == pytest.approx(WORLD.best()) == pytest.approx(1.347, abs=0.001)


def test_estimates_lie_near_the_truth_and_tell_the_kinds_apart() -> None:
    """On a uniform log a bandit is estimated below it and Q-learning above, as they are; fitted_q and a steered bandit too."""
    log = logged(WORLD, 1_500, 3)
    report = reported(POLICY, log, GIVEN)
    assert (report.unit, report.rows, report.decisions, report.left_out, report.notes) == (
        "session",
        1_500,
        len(log),
        {},
        (),
    )
    judged = by_name(report)
    for name, truth in zip(GIVEN, worth(WORLD, POLICY, log, GIVEN), strict=True):
        assert [one.estimator for one in judged[name].estimates] == [
            "per_decision_doubly_robust", "per_decision_self_normalised", "per_decision", "fitted_q_evaluation"
        ]  # fmt: skip
        for estimate in judged[name].estimates:
            assert estimate.rows == 1_500
            assert not any("contradict" in warning for warning in estimate.warnings)
            assert abs(estimate.value - truth) < 4 * (estimate.standard_error or 0.0), (name, estimate, truth)
    assert report.confidence == pytest.approx(1 - 0.05 / 5)
    for name in (LEARNER, STEERED, FITTED):
        lift = judged[name].lift
        assert lift is not None
        assert lift.is_told_apart(report.confidence)
        assert lift.value > 0.1
        assert judged[name].estimate.value > judged[BANDIT].estimate.value + 0.1


def test_a_state_that_hides_something() -> None:
    """Without the number of the step fitted-Q evaluation takes sessions for endless, and is told so; what weighs is not misled."""
    policy = logging_policy(WORLD, state={"mood": WORLD.cells["mood"]})
    log = logged(WORLD, 1_500, 14)
    [judged] = reported(policy, log, [LEARNER]).judged
    [truth] = worth(WORLD, policy, log, [LEARNER])
    *weighing, forecast = judged.estimates
    assert {one.estimator for one in weighing} == WEIGHING
    for estimate in weighing:
        assert abs(estimate.value - truth) < 4 * (estimate.standard_error or 0.0), (estimate, truth)
    assert forecast.value > truth + 0.2
    assert any("contradict the forecasts, which are off by +" in warning for warning in forecast.warnings)
    assert not any("contradict" in warning for warning in judged.estimate.warnings)


def test_who_does_as_the_log_did_earns_what_it_earned() -> None:
    """Every weight is 1: the estimates are the mean of the sessions' sums, and the lift is 0."""
    log = logged(WORLD, 200, 4)
    report = reported(POLICY, log, ["kind=epsilon_greedy,epsilon=1"])
    [same] = report.judged
    for estimate in same.estimates:
        if estimate.estimator in {"per_decision", "per_decision_self_normalised"}:
            assert estimate.value == pytest.approx(report.logged.value, abs=1e-12)
            assert estimate.effective_sample_size == pytest.approx(200)
    assert same.lift is not None
    assert same.lift.value == pytest.approx(0.0, abs=0.02)
    [bare] = reported(logging_policy(WORLD, state={}), log, ["kind=epsilon_greedy,epsilon=1"]).judged
    assert bare.estimate.estimator == "per_decision_self_normalised"
    assert bare.lift is not None
    assert bare.lift.value == 0.0
    shown = figures(report)
    assert (shown["unit"], shown["slates"], shown["rows"]) == ("reward of a session", False, 200)


def test_a_session_is_judged_by_what_was_known_when_it_began() -> None:
    """Whatever comes after the first decision of the last session, its own rewards among it, does not move its weights."""
    log = logged(WORLD, 60, 5)
    last = max(at for at, items in enumerate(log) if items[0].stored.decision.context["step"] == 0.0)
    began = log[last][0].stored.decided_at
    changes = [
        items if items[0].stored.decided_at <= began else changed(items, reward=1.0 - items[0].reward) for items in log
    ]
    other = [
        [msgspec.structs.replace(item, stored=msgspec.structs.replace(item.stored, events=())) for item in items]
        if items[0].stored.decided_at > began
        else items
        for items in changes
    ]
    one, two = (by_name(reported(POLICY, each, [LEARNER, BANDIT], blocks=len(log))) for each in (log, other))
    for name in (LEARNER, BANDIT):
        weights, changed_weights = (
            [(e.effective_sample_size, e.mean_weight) for e in which[name].estimates if e.estimator in WEIGHING]
            for which in (one, two)
        )
        assert weights == changed_weights
        assert weights[0][0] < 59
        assert one[name].estimate.value != two[name].estimate.value


def test_sessions_cut_by_the_span_are_left_out() -> None:
    """Those that began before it and those that may still go on, and only those; what came before is learned from."""
    log = logged(WORLD, 300, 6)
    began, until = 1000.0 + 100 * APART_S + 1.0, 1000.0 + 200 * APART_S
    span = [items for items in log if items[0].stored.decided_at < until]
    first: dict[str | None, float] = {}
    for items in log:
        session, moment = items[0].stored.decision.session, items[0].stored.decided_at
        first.setdefault(session, moment)
    seen = {items[0].stored.decision.session: items[0].stored.decided_at for items in span}
    judged = [one for one, moment in seen.items() if first[one] >= began and moment + POLICY.session_timeout_s <= until]
    report = reported(POLICY, span, [BANDIT], began=began, learned=0.0, until=until)
    assert report.rows == len(judged) > 80
    assert report.left_out["in a session that began before the span"] == sum(
        first[items[0].stored.decision.session] < began <= items[0].stored.decided_at for items in span
    )
    ongoing = {one for one in seen if first[one] >= began} - set(judged)
    assert report.left_out["in a session that is not over at the end of the span"] == sum(
        items[0].stored.decision.session in ongoing for items in span
    )
    # without anything to learn from before the span, a session that reaches into it is recognised all the same
    short = [items for items in span if items[0].stored.decided_at >= began - POLICY.session_timeout_s]
    assert reported(POLICY, short, [BANDIT], began=began, learned=began, until=until).rows == report.rows


def test_a_session_with_a_decision_that_cannot_be_judged_is_left_out_whole() -> None:
    """Before or after the decision at fault; the reasons are counted in decisions."""
    log = logged(WORLD, 50, 7)
    steps = {
        name: [items for items in log if items[0].stored.decision.session == name]
        for name in ("session-3", "session-9")
    }
    log = [
        changed(items, propensity=None)
        if items is steps["session-3"][-1]
        else changed(items, chosen=None)
        if items is steps["session-9"][0]
        else items
        for items in log
    ]
    report = reported(POLICY, log, [BANDIT])
    assert report.rows == 48
    rest = len(steps["session-3"]) + len(steps["session-9"]) - 2
    assert report.left_out == {
        "propensity unknown, in a session": 1,
        "chosen action not among the eligible": 1,
    } | ({"in a session with a decision that is left out": rest} if rest else {})


def test_only_settled_sessions_where_that_is_asked() -> None:
    """One reward window that is still open leaves its session out."""
    log = logged(WORLD, 50, 8)
    log[-1] = changed(log[-1], settled=False)
    assert reported(POLICY, log, [BANDIT], settled=True).rows == 49
    assert reported(POLICY, log, [BANDIT]).rows == 50


def test_beginnings_of_sessions() -> None:
    """With a horizon of one a session is worth what its first decision earns, and fitted-Q evaluation stands aside."""
    log = logged(WORLD, 400, 9)
    report = reported(POLICY, log, [BANDIT], horizon=1)
    firsts = [items[0].reward for items in log if items[0].stored.decision.context["step"] == 0.0]
    assert report.logged.value == pytest.approx(np.mean(firsts))
    assert report.decisions == report.rows == 400
    [judged] = report.judged
    assert {one.estimator for one in judged.estimates} == WEIGHING - {"per_decision_doubly_robust"}
    assert report.notes == (
        "judged: the first 1 decisions of each session",
        "no fitted-Q evaluation: only the beginnings of sessions are judged",
    )


def test_long_sessions_are_doubted_by_name(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In sessions of 30 decisions weights multiply until nothing is left of them, and the doubts say from where on."""
    world = bait(steps=30, leaves=0.0)
    report = reported(logging_policy(world), logged(world, 300, 10), [BANDIT])
    [judged] = report.judged
    warnings = " ".join(judged.estimate.warnings)
    assert "weights multiply from choice to choice: after" in warnings
    assert "300 rows count as" in warnings
    assert judged.estimate.effective_sample_size < 30
    monkeypatch.setenv("COLUMNS", "200")
    show(report, whole=False)
    shown = capsys.readouterr().out
    assert "reward of a session" in shown
    assert "doubtful" in shown
    assert (
        f"{BANDIT}: fitted-Q evaluation, as right as the state says all that matters, has {judged.estimates[-1].value:.5f}"
        in shown
    )
    cut = reported(logging_policy(world), logged(world, 300, 10), [BANDIT], horizon=1)
    assert not any("multiply" in warning for warning in cut.judged[0].estimate.warnings)


def test_slates_in_sessions() -> None:
    """Items are weighed one after another: a second one that follows of itself and earns nothing changes nothing; there are no transitions."""
    log = logged(
        WORLD, 300, 15, uniform(WORLD, estimates=(Estimate("bait", 10.0, 9.0, 9.0),), parameters={"epsilon": 0.4})
    )
    assert {items[0].propensity for items in log} == {0.8, 0.2}
    slates = []
    for [item] in log:
        [rest] = [action for action in item.eligible if action.id != item.action]
        second = msgspec.structs.replace(
            item, position=1, action=rest.id, eligible=(rest,), chosen=0, propensity=1.0, reward=0.0, answered=False
        )
        slates.append([item, second])
    given = ["kind=epsilon_greedy,epsilon=1"]  # it never learns, so that it is the same on both
    [one], [other] = reported(POLICY, log, given).judged, reported(POLICY, slates, given).judged
    assert [estimate.estimator for estimate in other.estimates] == ["per_decision_self_normalised", "per_decision"]
    alone = {estimate.estimator: estimate for estimate in one.estimates}
    for estimate in other.estimates:
        same = alone[estimate.estimator]
        assert estimate.value == pytest.approx(same.value)
        assert estimate.standard_error == pytest.approx(same.standard_error)
    assert reported(POLICY, slates, given).notes == ("no fitted-Q evaluation: decisions have several items",)


def test_without_a_floor_only_forecasts_are_left() -> None:
    """Weights do not exist: fitted-Q evaluation stands alone, without a lift; without a state there is nothing."""
    log = [changed(items, floor=0.0) for items in logged(WORLD, 300, 11)]
    report = reported(POLICY, log, [BANDIT])
    [judged] = report.judged
    assert (judged.estimate.estimator, judged.lift, judged.curve) == ("fitted_q_evaluation", None, ())
    assert "exploration floor of 0" in report.notes[0]
    with pytest.raises(ConsoleFailure) as refused:
        reported(logging_policy(WORLD, state={}), log, [BANDIT])
    assert (
        "importance weights say nothing; and fitted-Q evaluation is not to be had: the policy has no state"
        in refused.value.detail
    )


def test_decisions_without_a_session_are_sessions_of_their_own() -> None:
    """And it is said how many there are."""
    log = [
        [
            msgspec.structs.replace(
                item,
                stored=msgspec.structs.replace(
                    item.stored, decision=msgspec.structs.replace(item.stored.decision, session=None)
                ),
            )
            for item in items
        ]
        for items in logged(WORLD, 40, 12)
    ]
    report = reported(POLICY, log, [BANDIT])
    assert report.rows == report.decisions == len(log)
    assert report.notes == (f"{len(log)} of {len(log)} sessions are single decisions that name no session",)


def test_nothing_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """No session that is over, or more than memory holds: one line that says what to do."""
    log = logged(WORLD, 30, 13)
    with pytest.raises(ConsoleFailure) as refused:
        reported(POLICY, log[:1], [BANDIT], until=log[0][0].stored.decided_at + STEP_S)
    assert "1: in a session that is not over" in refused.value.detail
    monkeypatch.setattr(session_log, "MOST_ENTRIES", 90)
    with pytest.raises(ConsoleFailure) as refused:
        reported(logging_policy(WORLD, state={}), log, [BANDIT])
    assert refused.value.detail.startswith("30 sessions of up to 4 items do not fit")
    assert "--horizon 3" in refused.value.detail
    with pytest.raises(ConsoleFailure) as refused:
        reported(POLICY, log, [BANDIT])
    assert "more than 90 decisions times eligible actions" in refused.value.detail


def right_on_average(logs: int, sessions: int, given: list[str], policy: PolicySpec) -> dict[tuple[str, str], float]:
    """Check that the mean error of the unbiased estimator over many logs is chance; return the share of intervals that hold."""
    errors: dict[tuple[str, str], list[tuple[float, bool]]] = defaultdict(list)
    for seed in range(logs):
        log = logged(WORLD, sessions, 1_000 + seed)
        report = reported(policy, log, given)
        for each, truth in zip(report.judged, worth(WORLD, policy, log, given), strict=True):
            for estimate in each.estimates:
                low, high = estimate.interval() or (0.0, 0.0)
                errors[each.name, estimate.estimator].append((estimate.value - truth, low <= truth <= high))
    shares = {}
    for name, seen in errors.items():
        values = np.array([error for error, _ in seen])
        shares[name] = sum(holds for _, holds in seen) / logs
        print(f"{name[0]:40} {name[1]:30} {values.mean():+8.4f} {values.std(ddof=1):8.4f} {shares[name]:6.1%}")
        if name[1] == "per_decision":
            assert abs(values.mean()) < 3.5 * values.std(ddof=1) / np.sqrt(logs), (name, values.mean())
    return shares


def test_estimates_are_right_on_average() -> None:
    """Over 24 logs the unbiased estimator is off by no more than chance, although candidates learn from the log that judges them."""
    right_on_average(24, 200, [BANDIT, LEARNER], POLICY)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("state", [("step", "mood"), ("mood",)])
def test_intervals_hold(state: tuple[str, ...]) -> None:
    """Of 95 % intervals over 300 logs of 1,200 sessions, 95 % hold the truth, give or take three standard deviations of that count.

    Those of fitted-Q evaluation do where the state says all that matters, and do not where the number of the step is hidden.
    """
    logs = 300
    policy = logging_policy(WORLD, state={name: WORLD.cells[name] for name in state})
    shares = right_on_average(logs, 1_200, [BANDIT, LEARNER, STEERED], policy)
    least = 0.95 - 3 * np.sqrt(0.95 * 0.05 / logs)
    assert all(share >= least for (_, estimator), share in shares.items() if estimator in WEIGHING)
    assert (shares[LEARNER, "fitted_q_evaluation"] >= least) == (state == ("step", "mood"))
