"""How often the 95 % intervals of the off-policy estimators hold the true value, counted over many logs of a known world.

Rewards are 0 or 1 and depend on context and action; six actions, of which each decision may take four to six; the logging policy prefers other actions than
the target does, with a floor. Contexts are drawn afresh for every log, so the truth is the target's value over the contexts' law, which is a sum
over the sixteen contexts that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.evaluation.doubly_robust import doubly_robust
from shared.evaluation.doubly_robust_shrunk import doubly_robust_shrunk
from shared.evaluation.inverse_propensity import inverse_propensity
from shared.evaluation.logged_decisions import LoggedDecisions, ragged
from shared.evaluation.reward_model import cross_fitted, folds_of
from shared.evaluation.self_normalised import self_normalised
from shared.evaluation.switch_doubly_robust import switch_doubly_robust
from shared.evaluation.value_estimate import ValueEstimate

ROWS, CONTEXTS, ACTIONS, FLOOR = 3_400, 16, 6, 0.2
WORLDS = (3, 4, 5, 6, 7)
WANTED = (0.93, 0.97)
LEAST_EFFECTIVE = 1_000.0
Floats = npt.NDArray[np.float64]

ESTIMATORS: dict[str, Callable[[LoggedDecisions], ValueEstimate]] = {
    "inverse_propensity": inverse_propensity,
    "self_normalised": self_normalised,
    "doubly_robust": doubly_robust,
    "doubly_robust_shrunk": doubly_robust_shrunk,
    "switch_doubly_robust": switch_doubly_robust,
}


class World:
    """What is true: per context the eligible actions, their mean rewards, and both policies' probabilities."""

    def __init__(self, seed: int) -> None:
        random = np.random.RandomState(seed)
        self.features = random.normal(size=(CONTEXTS, 3))
        sizes = random.randint(4, ACTIONS + 1, size=CONTEXTS)
        self.eligible = np.array([np.isin(np.arange(ACTIONS), random.permutation(ACTIONS)[:size]) for size in sizes])
        self.means = random.uniform(0.05, 0.6, size=(CONTEXTS, ACTIONS))
        self.target = self._law(random.normal(size=(CONTEXTS, ACTIONS)), 0.02)
        self.behaviour = self._law(random.normal(size=(CONTEXTS, ACTIONS)), FLOOR)
        self.truth = float((self.target * self.means).sum(axis=1).mean())

    def _law(self, scores: Floats, floor: float) -> Floats:
        powers = np.exp(scores) * self.eligible
        even = self.eligible / self.eligible.sum(axis=1, keepdims=True)
        return np.asarray((1.0 - floor) * powers / powers.sum(axis=1, keepdims=True) + floor * even)

    def log(self, seed: int) -> LoggedDecisions:
        """Return one log with a cross-fitted reward model."""
        random = np.random.RandomState(seed)
        context = random.randint(CONTEXTS, size=ROWS)
        laws = self.behaviour[context]
        chosen = (laws.cumsum(axis=1) > random.uniform(size=(ROWS, 1))).argmax(axis=1)
        rows, mask = np.arange(ROWS), self.eligible[context]
        log = ragged(
            (random.uniform(size=ROWS) < self.means[context, chosen]).astype(np.float64),
            laws[rows, chosen],
            np.concatenate([[0], np.cumsum(mask.sum(axis=1))]).astype(np.int64),
            self.target[context][mask],
            (np.cumsum(mask, axis=1) - 1)[rows, chosen].astype(np.int64),
            actions=np.broadcast_to(np.arange(ACTIONS), mask.shape)[mask].astype(np.int64),
            floors=np.full(ROWS, FLOOR),
            reward_range=(0.0, 1.0),
        )
        return log.with_predictions(cross_fitted(log, self.features[context], None, folds_of(ROWS, seed=seed)))


def coverage(
    logs: int, world_seed: int = WORLDS[0], progress: Callable[[Iterable[int]], Iterable[int]] = iter
) -> dict[str, Any]:
    """Return the share of `logs` whose intervals hold the truth, per estimator and kind of interval."""
    world = World(world_seed)
    held = {name: dict.fromkeys(("normal", "bernstein", "anytime"), 0) for name in ESTIMATORS}
    least = np.inf
    for seed in progress(range(logs)):
        log = world.log(seed)
        for name, estimator in ESTIMATORS.items():
            estimate = estimator(log)
            least = min(least, estimate.effective_sample_size)
            kinds = {"normal": estimate.interval(), "bernstein": estimate.bernstein, "anytime": estimate.anytime}
            for kind, interval in kinds.items():
                held[name][kind] += interval is not None and interval[0] <= world.truth <= interval[1]
    shares = {name: {kind: count / logs for kind, count in counts.items()} for name, counts in held.items()}
    return {
        "logs": logs,
        "rows": ROWS,
        "least_effective": float(least),
        "estimators": {name: {**row, "holds": WANTED[0] <= row["normal"] <= WANTED[1]} for name, row in shares.items()},
    }
