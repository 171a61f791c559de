"""`make bench-evaluation`: the off-policy estimators on the two examples that zr-obp documents, and how often their intervals hold.

*Published*: the relative errors |V - truth| / truth of the README files under examples/multiclass and examples/synthetic of obp 0.5.2, with the
same data, policies, seeds, folds and reward models (scikit-learn's; the ridge regression of Knudge beside it), and our estimators in the place of
obp's. A mean is reproduced where it differs from the published one by no more than two standard errors of the mean over runs. The shrunk
estimator chooses its shrinkage by another rule (`lepski`) than obp's (SLOPE): its published figure is met or beaten.

*Coverage*: how often 95 % intervals hold the truth, over 2,000 logs of each of five synthetic worlds whose effective sample size is above 1,000
(`evaluation_coverage`).

Writes `build/bench/evaluation.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, train_test_split

from shared.evaluation.direct_method import direct_method
from shared.evaluation.doubly_robust import doubly_robust
from shared.evaluation.doubly_robust_shrunk import doubly_robust_shrunk
from shared.evaluation.inverse_propensity import inverse_propensity
from shared.evaluation.logged_decisions import LoggedDecisions, dense
from shared.evaluation.reward_model import cross_fitted
from shared.evaluation.self_normalised import self_normalised
from shared.evaluation.value_estimate import ValueEstimate
from tests.performance.evaluation_coverage import WANTED, WORLDS, coverage
from tests.performance.processes import ROOT

RESULT = ROOT / "build" / "bench" / "evaluation.json"
RANDOM_STATE, FOLDS = 12345, 3
ERRORS = 2.0
Floats = npt.NDArray[np.float64]

ESTIMATORS: dict[str, Callable[[LoggedDecisions], ValueEstimate]] = {
    "direct_method": direct_method,
    "inverse_propensity": inverse_propensity,
    "self_normalised": self_normalised,
    "doubly_robust": doubly_robust,
    "doubly_robust_shrunk": doubly_robust_shrunk,
}
TREES: dict[str, Any] = {"n_estimators": 30, "max_depth": 5, "min_samples_leaf": 10, "random_state": 12345}
LOGISTIC = LogisticRegression(max_iter=10_000, C=100, random_state=12345)
FOREST = RandomForestClassifier(**TREES)
BOOSTING = GradientBoostingClassifier(learning_rate=0.01, **TREES)


class Published(NamedTuple):
    """A documented mean relative error and its standard deviation over runs."""

    mean: float
    deviation: float


class Task(NamedTuple):
    """One documented example: how a run is made, how many there are, and what was published."""

    run: Callable[[int], tuple[LoggedDecisions, Floats, float]]
    model: Any
    runs: int
    published: dict[str, Published]


def digits(run: int) -> tuple[LoggedDecisions, Floats, float]:
    """Return the log, its contexts and the target's true value: handwritten digits, the reward is 1 for the right one.

    The logging policy takes what a logistic regression says with 0.4 more than even odds, the target what a random forest says with 0.9 more.
    """
    contexts, labels = load_digits(return_X_y=True)
    train_x, x, train_y, y = train_test_split(contexts, labels, test_size=0.7, random_state=run)
    behaviour = _mixed(clone(LOGISTIC).fit(train_x, train_y).predict(x), 0.4)
    target = _mixed(clone(FOREST).fit(train_x, train_y).predict(x), 0.9)
    chosen = _sampled(behaviour, run)
    rows = np.arange(len(y))
    log = dense((chosen == y).astype(np.float64), behaviour[rows, chosen], target, chosen, reward_range=(0.0, 1.0))
    return log, x, float(target[rows, y].mean())


def synthetic(
    run: int, rows: int = 10_000, actions: int = 30, features: int = 5
) -> tuple[LoggedDecisions, Floats, float]:
    """Return the log, its contexts and the target's true value: logistic rewards, a log that prefers bad actions (beta -3).

    The target is the softmax of the probabilities of a logistic regression, fitted to another log with rewards over propensities as weights.
    """
    random = np.random.RandomState(run)

    def batch() -> tuple[Floats, Floats, npt.NDArray[np.int64], Floats, Floats]:
        contexts = random.normal(size=(rows, features))
        expected = _logistic_rewards(contexts, actions, run)
        behaviour = _softmax(-3.0 * expected)
        chosen = _sampled(behaviour, run)
        places = np.arange(rows), chosen
        return (
            contexts,
            expected,
            chosen,
            random.binomial(n=1, p=expected[places]).astype(np.float64),
            behaviour[places],
        )

    contexts, _, chosen, rewards, propensities = batch()
    learned = clone(LOGISTIC).fit(contexts, chosen, sample_weight=rewards / propensities)
    contexts, expected, chosen, rewards, propensities = batch()
    scores = np.zeros((rows, actions))
    scores[:, learned.classes_] = learned.predict_proba(contexts)
    target = _softmax(scores)
    log = dense(rewards, propensities, target, chosen, reward_range=(0.0, 1.0))
    return log, contexts, float((target * expected).sum(axis=1).mean())


TASKS = {
    "digits": Task(
        digits,
        BOOSTING,
        30,
        {
            "direct_method": Published(0.436541, 0.017629),
            "inverse_propensity": Published(0.030288, 0.024506),
            "self_normalised": Published(0.022764, 0.017917),
            "doubly_robust": Published(0.016156, 0.012679),
            "doubly_robust_shrunk": Published(0.015868, 0.012537),
        },
    ),
    "synthetic": Task(
        synthetic,
        LOGISTIC,
        20,
        {
            "direct_method": Published(0.074390, 0.024525),
            "inverse_propensity": Published(0.009481, 0.006899),
            "self_normalised": Published(0.006665, 0.004541),
            "doubly_robust": Published(0.006175, 0.004245),
            "doubly_robust_shrunk": Published(0.021951, 0.013337),
        },
    ),
}


def relative_errors(task: Task, run: int) -> dict[str, float]:
    """Return each estimator's |V - truth| / truth in one run; "... ridge": with our own reward model."""
    log, contexts, truth = task.run(run)
    splits = list(KFold(n_splits=FOLDS, shuffle=True, random_state=RANDOM_STATE).split(contexts))
    with_model = log.with_predictions(_cross_fitted(task.model, log, contexts, splits))
    folds = np.empty(log.rows, dtype=np.int64)
    for fold, (_, held_out) in enumerate(splits):
        folds[held_out] = fold
    scaled = (contexts - contexts.mean(axis=0)) / np.maximum(contexts.std(axis=0), 1e-9)
    with_ridge = log.with_predictions(cross_fitted(log, scaled, None, folds))
    estimates = {name: estimator(with_model).value for name, estimator in ESTIMATORS.items()}
    for name in ("direct_method", "doubly_robust", "doubly_robust_shrunk"):
        estimates[f"{name} ridge"] = ESTIMATORS[name](with_ridge).value
    return {name: abs(value - truth) / truth for name, value in estimates.items()}


def main() -> int:
    """Run both parts, print their tables; return 1 where a published mean or a coverage is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=int, default=2_000, help="how many logs the coverage is counted over")
    arguments = parser.parse_args()
    console = Console(width=120)
    body: dict[str, Any] = {"published": {}, "coverage": {}}
    for name, task in TASKS.items():
        runs = [relative_errors(task, run) for run in track(range(task.runs), description=name, console=console)]
        body["published"][name] = {row["estimator"]: row for row in _rows(task, runs)}
    for world in WORLDS:

        def progress(numbers: Iterable[int], world: int = world) -> Iterable[int]:
            return track(numbers, description=f"coverage, world {world}", total=arguments.logs, console=console)

        body["coverage"][world] = coverage(arguments.logs, world, progress)
    console.print(_published_table(body["published"]))
    console.print(_coverage_table(body["coverage"]))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(body, indent=2) + "\n")
    missed = [row for task in body["published"].values() for row in task.values() if not row.get("reproduced", True)]
    reproduced = all(row["better"] and row["estimator"] == "doubly_robust_shrunk" for row in missed)
    covered = all(row["holds"] for world in body["coverage"].values() for row in world["estimators"].values())
    return 0 if reproduced and covered else 1


def _rows(task: Task, runs: list[dict[str, float]]) -> Iterator[dict[str, Any]]:
    for name in runs[0]:
        errors = np.array([run[name] for run in runs])
        row: dict[str, Any] = {
            "estimator": name,
            "mean": float(errors.mean()),
            "deviation": float(errors.std(ddof=1)),
            "runs": len(runs),
        }
        if name in task.published:
            published = task.published[name]
            noise = math.sqrt(max(row["deviation"], published.deviation) ** 2 / len(runs))
            row |= {
                "published_mean": published.mean,
                "published_deviation": published.deviation,
                "noise_of_mean": noise,
            }
            row["reproduced"] = bool(abs(row["mean"] - published.mean) <= ERRORS * noise)
            row["better"] = bool(row["mean"] < published.mean - ERRORS * noise)
        yield row


def _published_table(published: dict[str, dict[str, Any]]) -> Table:
    table = Table("task", "estimator", "ours", "published", "noise of the mean", "", title="Mean relative error")
    for task, rows in published.items():
        for name, row in rows.items():
            known = "published_mean" in row
            table.add_row(
                task,
                name,
                f"{row['mean']:.4f}",
                f"{row['published_mean']:.4f}" if known else "",
                f"{row['noise_of_mean']:.4f}" if known else "",
                _verdict(row) if known else "our reward model",
            )
    return table


def _verdict(row: dict[str, Any]) -> str:
    if row["reproduced"]:
        return "reproduced"
    return "better" if row["better"] else "MISSED"


def _coverage_table(worlds: dict[int, dict[str, Any]]) -> Table:
    found = list(worlds.values())
    least = min(each["least_effective"] for each in found)
    title = f"How often 95 % intervals hold, {found[0]['logs']:,} logs in each of {len(found)} worlds (effective rows at least {least:,.0f})"
    table = Table("estimator", "normal", "empirical Bernstein", "anytime-valid", "", title=title)
    for name in found[0]["estimators"]:
        rows = [each["estimators"][name] for each in found]
        ranges = (
            (min(row[kind] for row in rows), max(row[kind] for row in rows))
            for kind in ("normal", "bernstein", "anytime")
        )
        verdict = f"within {WANTED[0]} to {WANTED[1]}" if all(row["holds"] for row in rows) else "MISSED"
        table.add_row(name, *(f"{low:.3f} to {high:.3f}" for low, high in ranges), verdict)
    return table


def _cross_fitted(model: Any, log: LoggedDecisions, contexts: Floats, splits: list[Any]) -> Floats:
    """Return obp's reward model: one classifier over context and one-hot action, fitted to the other folds, shape (n_entries,)."""
    actions = int(log.sizes[0])
    one_hot = np.eye(actions)
    predictions = np.empty((log.rows, actions))
    for fitted, held_out in splits:
        classifier = clone(model)
        classifier.fit(np.hstack([contexts[fitted], one_hot[log.chosen[fitted]]]), log.rewards[fitted])
        for action in range(actions):
            rows = np.hstack([contexts[held_out], np.tile(one_hot[action], (len(held_out), 1))])
            predictions[held_out, action] = classifier.predict_proba(rows)[:, 1]
    return predictions.ravel()


def _mixed(predicted: npt.NDArray[np.int64], alpha: float) -> Floats:
    probabilities = np.full((len(predicted), 10), (1.0 - alpha) / 10)
    probabilities[np.arange(len(predicted)), predicted] += alpha
    return probabilities


def _sampled(probabilities: Floats, seed: int) -> npt.NDArray[np.int64]:
    uniform = np.random.RandomState(seed).uniform(size=len(probabilities))
    chosen: npt.NDArray[np.int64] = (probabilities.cumsum(axis=1) > uniform[:, None]).argmax(axis=1).astype(np.int64)
    return chosen


def _logistic_rewards(contexts: Floats, actions: int, seed: int) -> Floats:
    """Return the expected rewards: logits are linear in context, one-hot action and their products, of standard scale."""
    random = np.random.RandomState(seed)
    x = np.hstack([np.ones((len(contexts), 1)), contexts])
    a = np.hstack([np.ones((actions, 1)), np.eye(actions)])
    of_context = random.uniform(-1, 1, size=x.shape[1])
    of_action = random.uniform(-1, 1, size=a.shape[1])
    of_both = random.uniform(-1, 1, size=(x.shape[1], a.shape[1]))
    logits = (x @ of_context)[:, None] + a @ of_action + x @ of_both @ a.T
    standard = (logits - logits.mean()) / logits.std()
    return np.asarray(1.0 / (1.0 + np.exp(-standard)))


def _softmax(values: Floats) -> Floats:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


if __name__ == "__main__":
    sys.exit(main())
