"""Reads the Open Bandit Dataset's small logs into records and splits them.

Six logs: two behaviour policies (`random`, uniform; `bts`, Bernoulli Thompson sampling) times three
campaigns, each the first 10,000 impressions of a week's log, in time order. A screen shows three items; a row
is *one* item at *one* of the positions 1 to 3, whether it was clicked, and the probability that the behaviour
policy gave the item there and then: 1 / n_items for `random`; for `bts` it differs by position and changes
over the week. Paper: Saito et al., "Open Bandit Dataset and Pipeline", NeurIPS Datasets and Benchmarks 2021.

The split goes by a hash of the row's name, not by time: it does not depend on how many rows are taken, a
repeated run makes the same one, and both parts see the same days, so that a change over the week cannot pass
for a better policy.
"""

from __future__ import annotations

import csv
import hashlib
from datetime import datetime
from typing import Literal, get_args

import msgspec

from functions.console.failure import ConsoleFailure
from functions.console.obd_source import Source

Behaviour = Literal["random", "bts"]
Campaign = Literal["all", "men", "women"]
BEHAVIOURS: tuple[Behaviour, ...] = get_args(Behaviour)
CAMPAIGNS: tuple[Campaign, ...] = get_args(Campaign)
USER_FEATURES = ("user_feature_0", "user_feature_1", "user_feature_2", "user_feature_3")
_COLUMNS = ("timestamp", "item_id", "position", "click", "propensity_score", *USER_FEATURES)


class Impression(msgspec.Struct, frozen=True):
    """One row. `index`: place in its log; `propensity`: in (0, 1]; `occurred_at`: POSIX seconds."""

    behaviour: Behaviour
    campaign: Campaign
    index: int
    item: str
    position: int
    clicked: bool
    propensity: float
    context: dict[str, str]
    occurred_at: float

    @property
    def key(self) -> str:
        """A name that is stable and unique over all logs, such as "random-all-17"."""
        return f"{self.behaviour}-{self.campaign}-{self.index}"


class CampaignLog(msgspec.Struct, frozen=True):
    """Both logs of one campaign. `items`: every item id that occurs in them, in numeric order."""

    campaign: Campaign
    items: tuple[str, ...]
    impressions: tuple[Impression, ...]


def read_campaign(source: Source, campaign: Campaign, rows: int | None = None) -> CampaignLog:
    """Read both logs of `campaign`; only the first `rows` impressions of each are kept, but the items of all.

    Raises `ConsoleFailure` for a file that is missing or not as expected.
    """
    items: set[str] = set()
    impressions: list[Impression] = []
    for behaviour in BEHAVIOURS:
        log = _read(source, behaviour, campaign)
        items.update(impression.item for impression in log)
        impressions += log[:rows]
    return CampaignLog(campaign, tuple(sorted(items, key=lambda item: (len(item), item))), tuple(impressions))


def is_held_out(impression: Impression, share: float) -> bool:
    """Return whether `impression` belongs to the held-out part; `share` (in (0, 1)) of all rows do."""
    digest = hashlib.blake2b(impression.key.encode(), digest_size=8).digest()
    return int.from_bytes(digest) < share * 2**64


def _read(source: Source, behaviour: Behaviour, campaign: Campaign) -> list[Impression]:
    relative = f"{behaviour}/{campaign}/{campaign}.csv"
    with source.open(relative) as lines:
        reader = csv.reader(lines)
        header = next(reader, [])
        missing = [name for name in _COLUMNS if name not in header]
        if missing:
            message = f"{relative} in {source.name} lacks the columns {', '.join(missing)}"
            raise ConsoleFailure(message, field="data")
        places = [header.index(name) for name in _COLUMNS]
        log: list[Impression] = []
        for index, row in enumerate(reader):
            try:
                log.append(_impression(behaviour, campaign, index, [row[place] for place in places]))
            except (ValueError, IndexError) as error:
                message = f"{relative} in {source.name}, row {index}: {error}"
                raise ConsoleFailure(message, field="data") from error
    if not log:
        message = f"{relative} in {source.name} holds no rows"
        raise ConsoleFailure(message, field="data")
    return log


def _impression(behaviour: Behaviour, campaign: Campaign, index: int, cells: list[str]) -> Impression:
    timestamp, item, position, click, propensity, *features = cells
    return Impression(
        behaviour=behaviour,
        campaign=campaign,
        index=index,
        item=item,
        position=int(position),
        clicked=bool(int(click)),
        propensity=float(propensity),
        context=dict(zip(USER_FEATURES, features, strict=True)),
        occurred_at=datetime.fromisoformat(timestamp).timestamp(),
    )
