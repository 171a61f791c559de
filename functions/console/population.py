"""Simulated users whose true preferences are known, so that regret can be computed and not only estimated.

Every item starts from its click rate in one campaign's logs. Half of the items were clicked once or never in
some hundred impressions, so a raw rate is shrunk towards the campaign's mean m, as if the item had been shown
k more times with rate m:

    base_a = (clicks_a + k m) / (shown_a + k),   k = 200

The rate of user u for item a is then scale · base_a · activity_u · taste_{g(u), a}, cut at 0.95. `activity`
differs between users (log-normal, mean 1) and changes nothing about which item is best; `taste` differs
between the age groups of the dataset (`user_feature_1`, drawn with the log's frequencies; log-normal, mean 1,
standard deviation of the logarithm `taste`), which a policy without features cannot follow. Everything is a
function of the seed and of a decision's number, not of the order in which threads get there.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import numpy.typing as npt

from functions.console.obd_log import CampaignLog

Floats = npt.NDArray[np.float64]
GROUP_FEATURE = "user_feature_1"
_PRIOR_IMPRESSIONS = 200.0
_ACTIVITY_SD = 0.3
_HIGHEST_RATE = 0.95


class Visit(msgspec.Struct, frozen=True):
    """One user asks once. `rates`: shape (n_items,), in [0, 0.95], the true click rate of each item."""

    user_id: str
    context: dict[str, str]
    rates: Floats
    threshold: float

    def clicks(self, place: int) -> bool:
        """Return whether this user clicks the item at `place` of the population's items."""
        return self.threshold < float(self.rates[place])


class Population:
    """The users of one simulation and the visits they make."""

    def __init__(self, log: CampaignLog, *, users: int, visits: int, scale: float, taste: float, seed: int) -> None:
        """Draw users and visits; `scale` > 0 multiplies rates, `taste` >= 0 is a deviation."""
        random = np.random.default_rng([abs(seed), int(seed < 0)])
        frequencies = Counter(row.context[GROUP_FEATURE] for row in log.impressions)
        self.items = log.items
        self._groups = sorted(frequencies)
        shares = np.array([frequencies[group] for group in self._groups]) / frequencies.total()
        tastes = _log_normal(random, taste, (len(self._groups), len(self.items)))
        self._group_of = random.choice(len(self._groups), size=users, p=shares)
        self._activity = _log_normal(random, _ACTIVITY_SD, (users,))
        self._group_rates = scale * base_rates(log) * tastes
        self._user_of = random.integers(users, size=visits)
        self._threshold = random.random(visits)

    def visit(self, number: int) -> Visit:
        """Return visit `number`, in [0, visits)."""
        user = int(self._user_of[number])
        group = int(self._group_of[user])
        rates: Floats = np.minimum(self._group_rates[group] * self._activity[user], _HIGHEST_RATE)
        context = {GROUP_FEATURE: self._groups[group]}
        return Visit(f"simulated-{user}", context, rates, float(self._threshold[number]))


def base_rates(log: CampaignLog) -> Floats:
    """Return the smoothed click rate of every item of `log`, shape (n_items,), in (0, 1)."""
    place = {item: index for index, item in enumerate(log.items)}
    shown = np.zeros(len(place))
    clicked = np.zeros(len(place))
    for row in log.impressions:
        shown[place[row.item]] += 1.0
        clicked[place[row.item]] += row.clicked
    mean = clicked.sum() / shown.sum()
    rates: Floats = (clicked + _PRIOR_IMPRESSIONS * mean) / (shown + _PRIOR_IMPRESSIONS)
    return rates


def _log_normal(random: np.random.Generator, deviation: float, shape: tuple[int, ...]) -> Floats:
    """Draw numbers of mean 1 whose logarithms have the standard deviation `deviation`."""
    drawn: Floats = random.lognormal(-0.5 * deviation**2, deviation, shape)
    return drawn
