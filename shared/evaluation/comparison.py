"""What the arms of a policy were found to earn, and by how much one lies above another: the records."""

from __future__ import annotations

import msgspec


class Uplift(msgspec.Struct, frozen=True):
    """What one arm earns more than another (`shared.evaluation.uplift`). `value`: in units of reward for an item; `low`, `high`: the interval at `confidence`, at all times at once.

    `relative`: the value over the other arm's mean, None where that is not above 0.
    """

    value: float
    low: float
    high: float
    relative: float | None
    confidence: float = 0.95


class ArmEarned(msgspec.Struct, frozen=True):
    """What was served by one arm: how many items, and their mean reward."""

    items: float
    mean_reward: float


class Comparison(msgspec.Struct, frozen=True):
    """The arms of a policy by who decided: `policy`, `baseline`, `default_action`.

    `uplift`: what the policy earns more than its baseline. For an apprentice: what it would earn more than the default actions,
    by the rewards of the baseline, weighted by how much more often it would have chosen what was served; `mean_weight` should
    be 1. `agreement`: how often an apprentice would have chosen the default action. `believed_gain`: what it believes that its
    choices would have gained per item (the direct method: as right as its model, and too hopeful as a rule), known of
    `believed_items`.
    """

    arms: dict[str, ArmEarned]
    uplift: Uplift | None = None
    mean_weight: float | None = None
    agreement: float | None = None
    believed_gain: float | None = None
    believed_items: float = 0.0
