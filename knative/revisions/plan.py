"""What is asked of a roll-out."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from shared.errors import InvalidInput


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was asked for.

    `steps`: the candidate's shares in percent, rising, each in 1 to 99. `margin`: in (0, 1), the relative loss of reward that counts as worse.
    `age_s`: every decision is looked at when it is that old. `policies`: whose decisions; empty: all. `compares`: "health" where
    the service makes no decisions: only errors and latency then. `alpha`: chance of each kind of wrong verdict.
    `step_s`: least time at a share; `step_requests`: least requests at a share where only health is compared. `slow_s`: which
    answers are slow; one of the bounds of the pods' latency histogram.
    """

    serving: str
    candidate: str
    steps: tuple[int, ...] = (5, 20, 50)
    margin: float = 0.1
    age_s: float = 300.0
    policies: tuple[str, ...] = ()
    compares: Literal["rewards", "health"] = "rewards"
    alpha: float = 0.02
    step_s: float = 120.0
    step_requests: int = 500
    slow_s: float = 0.2

    def check(self) -> None:
        """Refuse what cannot be carried out: `InvalidInput` with the option at fault."""
        rising = all(low < high for low, high in zip(self.steps, self.steps[1:], strict=False))
        wrong = {
            "to": self.serving == self.candidate,
            "steps": not self.steps or not rising or self.steps[0] < 1 or self.steps[-1] > _HIGHEST_STEP,
            "margin": not 0 < self.margin < 1,
            "alpha": not 0 < self.alpha < 0.5,  # noqa: PLR2004 - a coin
            "age": not 0 <= self.age_s < math.inf,
            "step-time": not 0 <= self.step_s < math.inf,
            "step-requests": self.step_requests < 1,
            "slow": not 0 < self.slow_s < math.inf,
        }
        for option, is_wrong in wrong.items():
            if is_wrong:
                raise InvalidInput(f"--{option}: {_ALLOWED[option]}", field=option)


_HIGHEST_STEP = 99
_ALLOWED = {
    "to": "the new revision and the serving one are the same",
    "steps": "shares must rise, each from 1 to 99",
    "margin": "must lie above 0 and below 1",
    "alpha": "must lie above 0 and below 0.5",
    "age": "must be a time of at least 0 s",
    "step-time": "must be a time of at least 0 s",
    "step-requests": "must be at least 1",
    "slow": "must be a time above 0 s",
}
