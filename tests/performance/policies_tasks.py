"""The tasks of `make bench-policies`: what every contender sees and earns, fixed by task and seed. NumPy only.

A run is one pass: a context, one decision, the reward of the chosen action alone. A data set with classes becomes a
bandit whose actions are its classes: reward 1 for the right one, 0 for the others; its rows are shuffled by the
seed. The three synthetic tasks draw a problem and its contexts by the seed:

- `linear`: 10 normal features, 8 actions, mean reward .5 + x . theta_a, normal noise of standard deviation .25
- `logistic`: 10 features, normal ones beside yes-or-no ones, 6 actions, a click with probability
  sigmoid(b_a + x . theta_a), about 20 % of them at random
- `interaction`: 8 features of the same two sorts, 5 actions; the logit adds six products of two features each,
  which weigh as much as the main effects

All contenders of a seed meet the same contexts in the same order, and the same reward where they choose alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DATA_SETS = ("digits", "wine", "breast_cancer", "image_segments", "phishing")
SYNTHETIC = ("linear", "logistic", "interaction")
TASKS = (*DATA_SETS, *SYNTHETIC)
SYNTHETIC_ROUNDS = 4000


@dataclass(frozen=True)
class Run:
    """One pass over one task.

    `contexts`: shape (n, d), raw; `standardised`: the same with mean 0 and deviation 1 over the whole pass, constant
    columns 0, digits as they are: a favour to contenders that do not standardise themselves. `rewards`: shape
    (n, n_actions), what each action would earn.
    """

    task: str
    seed: int
    contexts: Floats
    standardised: Floats
    rewards: Floats


def run_of(task: str, seed: int, data: Path, rounds: int | None = None) -> Run:
    """Return the run of `task` and `seed`; `data` is the file that `policies_data` wrote.

    With `rounds`, the pass is shuffled and repeated up to that many rounds (synthetic tasks: made that long).
    """
    generator = np.random.default_rng([seed, crc32(task.encode())])
    if task in SYNTHETIC:
        contexts, rewards = _SYNTHETIC[task](generator, rounds or SYNTHETIC_ROUNDS)
    else:
        with np.load(data) as arrays:
            x, y = arrays[f"{task}_x"], arrays[f"{task}_y"]
        total = rounds or len(y)
        order = np.concatenate([generator.permutation(len(y)) for _ in range(-(-total // len(y)))])[:total]
        contexts = x[order]
        rewards = (y[order][:, None] == np.arange(y.max() + 1)).astype(np.float64)
    spread = contexts.std(axis=0)
    standardised = (
        contexts if task == "digits" else (contexts - contexts.mean(axis=0)) / np.where(spread > 0, spread, 1)
    )
    return Run(task, seed, contexts, standardised, rewards)


def _linear(generator: np.random.Generator, rounds: int) -> tuple[Floats, Floats]:
    features, actions = 10, 8
    theta = generator.normal(size=(actions, features)) * 0.15 / np.sqrt(features)
    contexts = generator.normal(size=(rounds, features))
    means = 0.5 + contexts @ theta.T
    return contexts, means + 0.25 * generator.normal(size=means.shape)


def _mixed(generator: np.random.Generator, rounds: int, numbers: int, flags: int) -> Floats:
    """Return contexts of `numbers` normal columns and `flags` yes-or-no ones."""
    rates = generator.uniform(0.2, 0.8, size=flags)
    return np.hstack(
        [generator.normal(size=(rounds, numbers)), (generator.random((rounds, flags)) < rates).astype(np.float64)]
    )


def _clicks(generator: np.random.Generator, logits: Floats) -> Floats:
    return (generator.random(logits.shape) < 1.0 / (1.0 + np.exp(-logits))).astype(np.float64)


def _logistic(generator: np.random.Generator, rounds: int) -> tuple[Floats, Floats]:
    actions = 6
    contexts = _mixed(generator, rounds, 6, 4)
    theta = generator.normal(size=(actions, contexts.shape[1])) * 0.5
    bias = -1.8 + 0.5 * generator.normal(size=actions)
    return contexts, _clicks(generator, bias + contexts @ theta.T)


def _interaction(generator: np.random.Generator, rounds: int) -> tuple[Floats, Floats]:
    actions, products = 5, 6
    contexts = _mixed(generator, rounds, 4, 4)
    centred = contexts - 0.5 * (np.arange(8) >= 4)
    theta = generator.normal(size=(actions, 8)) * 0.5
    pairs = np.array([generator.choice(8, size=2, replace=False) for _ in range(products)])
    crossed = centred[:, pairs[:, 0]] * centred[:, pairs[:, 1]]
    weights = generator.normal(size=(actions, products)) * 0.5 * np.sqrt(8 / products)
    weights /= np.sqrt(np.maximum((crossed**2).mean(axis=0), 1e-12))
    logits = -1.0 + contexts @ theta.T + crossed @ weights.T
    return contexts, _clicks(generator, logits)


_SYNTHETIC = {"linear": _linear, "logistic": _logistic, "interaction": _interaction}
