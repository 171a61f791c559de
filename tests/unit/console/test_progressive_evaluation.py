"""Candidates that learn on a log, judged on the same log: over many simulated logs estimates are right on average, and intervals hold."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from functions.console import evaluation_log
from functions.console.candidates import candidates
from functions.console.decided_items import DecidedItem
from functions.console.evaluation_log import EvaluationLog, Survey
from functions.console.failure import ConsoleFailure
from functions.console.progressive import Progress
from shared.evaluation.evaluation import evaluate
from shared.storage.decision_rows import StoredDecision
from shared.vocabulary import Action, Decision, Feedback, PolicySpec, RewardRule

ACTIONS = tuple(Action(action) for action in "abcd")
POLICY = PolicySpec("p", 1, "epsilon_greedy", {"epsilon": 0.5}, ACTIONS, {"click": RewardRule()})
GIVEN = ["kind=thompson", "kind=lin_thompson", "kind=epsilon_greedy,epsilon=0.1"]
WEIGHING = {"inverse_propensity", "self_normalised", "doubly_robust"}


def rate(device: object, action: str) -> float:
    """Return the true mean reward."""
    return 0.5 if action == ("a" if device == "phone" else "c") else 0.1


def simulated(seed: int, decisions: int) -> list[list[DecidedItem]]:
    """Return a log of a policy that favours one action, whose rewards are known half a decision later."""
    random = np.random.default_rng(seed)
    law = np.full(4, 0.125)
    law[seed % 4] += 0.5
    log = []
    for at in range(decisions):
        device, chosen = str(random.choice(["phone", "desktop"])), int(random.choice(4, p=law))
        name, propensity = ACTIONS[chosen].id, float(law[chosen])
        clicked = bool(random.random() < rate(device, name))
        events = (Feedback(f"{at}", "s", "1", "click", 1.0, None, at, at + 0.5, "me"),) if clicked else ()
        decision = Decision(
            f"{at}", "p", 1, 1, (name,), (propensity,), None, {"device": device, "age": random.normal()}, None, None,
            False, False, "served", "r", "me",
        )  # fmt: skip
        stored = StoredDecision(decision, float(at), True, (1.0 if clicked else None,), events)
        log.append([DecidedItem(stored, 0, name, ACTIONS, chosen, propensity, float(clicked), clicked, True, 0.5)])
    return log


def judged(seed: int, decisions: int) -> list[tuple[str, str, float, float, bool]]:
    """Return (candidate, estimator, error, standard error, whether the interval holds the truth) of one log."""
    log, given, survey = simulated(seed, decisions), candidates(GIVEN, POLICY), Survey()
    for items in log:
        survey.look_at(items)
    evaluation, progress = EvaluationLog(survey, len(given)), Progress(given, POLICY, 50)
    truth = np.zeros(len(given))
    for items in log:
        progress.go_on(items[0].stored.decided_at)
        laws = progress.judge(items)
        device = items[0].stored.decision.context["device"]
        for at, (law,) in enumerate(laws):
            truth[at] += (
                sum(p * rate(device, a) for a, p in zip(law.actions, law.propensities, strict=True)) / decisions
            )
        evaluation.add(items, laws)
        progress.remember(items)
    found = []
    for candidate, true, rows in zip(given, truth.tolist(), evaluation.decisions((0.0, 1.0)), strict=True):
        for estimate in evaluate(rows):
            low, high = estimate.interval() or (0.0, 0.0)
            error = estimate.standard_error or 0.0
            found.append((candidate.name, estimate.estimator, estimate.value - true, error, low <= true <= high))
    return found


def right_on_average(logs: int, decisions: int) -> dict[tuple[str, str], float]:
    """Check that the mean error over many logs is chance; return the share of intervals that hold."""
    errors: dict[tuple[str, str], list[tuple[float, bool]]] = defaultdict(list)
    for seed in range(logs):
        for candidate, estimator, error, _, holds in judged(seed, decisions):
            errors[candidate, estimator].append((error, holds))
    shares = {}
    for name, seen in errors.items():
        values = np.array([error for error, _ in seen])
        shares[name] = sum(holds for _, holds in seen) / logs
        if name[1] in WEIGHING:
            assert abs(values.mean()) < 3.5 * values.std(ddof=1) / np.sqrt(logs), (name, values.mean())
    return shares


def test_estimates_are_right_on_average() -> None:
    """Over 24 short logs no weighing estimator is off by more than chance, although candidates learn from the log."""
    right_on_average(24, 300)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_intervals_hold() -> None:
    """Of 95 % intervals over 600 logs of 1,500 decisions, 95 % hold the truth, give or take three standard deviations of that count."""
    logs = 600
    shares = right_on_average(logs, 1_500)
    for (candidate, estimator), share in shares.items():
        print(f"{candidate:35} {estimator:25} {share:6.1%}")
    least = 0.95 - 3 * np.sqrt(0.95 * 0.05 / logs)
    assert all(share >= least for (_, estimator), share in shares.items() if estimator in WEIGHING)


def test_a_log_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is computed, and with what to do."""
    monkeypatch.setattr(evaluation_log, "MOST_ENTRIES", 40)
    survey = Survey()
    *fitting, beyond = simulated(1, 11)
    for items in fitting:
        survey.look_at(items)
    with pytest.raises(ConsoleFailure) as refused:
        survey.look_at(beyond)
    assert "take a shorter span" in refused.value.detail
    assert survey.decisions == 11
