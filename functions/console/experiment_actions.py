"""`knudge experiment actions`: which of a policy's actions earn more, where the policy itself chose who got them.

Means per action of a bandit's log are biased: what looked bad by chance got fewer users, and goes on looking bad. The actions are compared by
`shared.experiments.statistics.adaptive`, from the propensities of *every* action at each decision, which its snapshot gives again. A user counts once, by
the first decision in the span, because rows must be independent given what came before them.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from functions.console.failure import ConsoleFailure
from functions.console.moment import add_span, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from functions.console.choosers import Choosers
    from functions.console.decided_items import DecidedItem, DecidedItems
    from shared.experiments.statistics.effect import Effect

_SAME = 1e-9
"""By how much a stored propensity may differ from the one that is computed again."""


def add_to(verbs: Any) -> None:  # noqa: ANN401
    """Add the command to the parser's `verbs`."""
    parser = verbs.add_parser(
        "actions", help="which actions of a policy earn more, where the policy chose who got them"
    )
    parser.description = (
        "Compare a policy's actions with one of them by adaptively weighted doubly robust inference, from the decisions in PostgreSQL "
        "($KNUDGE_DATABASE_URL) whose reward window is over. May be looked at as often as you like."
    )
    parser.add_argument("policy", metavar="POLICY", help="whose decisions; one item each, chosen among all its actions")
    parser.add_argument("--control", metavar="ACTION", help="what the others are compared with (default: the first)")
    parser.add_argument("--confidence", type=float, default=0.95, metavar="P", help="(default: 0.95)")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    add_span(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare. Raises `ConsoleFailure`, `Misconfigured`, `Unavailable`, `UnknownPolicy`."""
    import os
    import time

    import msgspec

    from functions.console.choosers import Choosers
    from functions.console.decided_items import DecidedItems
    from functions.console.progress import counting
    from shared.settings import Settings
    from shared.storage.postgres_log import opened

    if not _LOWEST < arguments.confidence < 1:
        raise ConsoleFailure("--confidence must lie between 0.5 and 1", field="confidence")
    settings = Settings.load(os.environ, ("database_url",))
    began, until = span(arguments)
    with opened(settings.database_url) as log:
        reader = DecidedItems(log, arguments.policy, time.time())
        names = [action.id for action in reader.spec.actions]
        control = _control(arguments.control, names)
        rows = _Rows(reader, Choosers(log), names)
        with counting("decisions read", log.size(arguments.policy, began, until)) as advance:
            for items in reader.decisions(began, until, advance):
                rows.add(items)
    effects = rows.effects(control, arguments.confidence)
    if arguments.json:
        figures = {
            "policy": arguments.policy,
            "control": names[control],
            "rows": len(rows.rewards),
            "left_out": reader.left_out,
            "effects": effects,
        }
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(figures)).decode() + "\n")
    else:
        _show(arguments.policy, names[control], rows, effects)
    return 0


_LOWEST = 0.5


class _Rows:
    """The rows of the comparison, in the order in which they were decided."""

    def __init__(self, reader: DecidedItems, choosers: Choosers, names: Sequence[str]) -> None:
        self.rewards: list[float] = []
        self.left_out = reader.left_out
        self._assigned: list[int] = []
        self._propensities: list[list[float]] = []
        self._choosers = choosers
        self._names = names
        self._users: set[str] = set()

    def add(self, items: Sequence[DecidedItem]) -> None:
        """Take a decision in, or count why it is left out."""
        item, decision = items[0], items[0].stored.decision
        reasons = {
            "not decided by the policy itself": decision.origin == "logged" or decision.served_by is not None,
            "several items": len(items) > 1,
            "reward window not over": not item.settled,
            "chosen among other actions": {action.id for action in item.eligible} != set(self._names),
            "a later decision of the same user": decision.user in self._users,
        }
        reason = next((reason for reason, holds in reasons.items() if holds), None) or self._taken(item)
        if reason is not None:
            self.left_out[reason] += 1

    def _taken(self, item: DecidedItem) -> str | None:
        """Take a decision in with the law that its snapshot gives again; return why not, where it cannot be."""
        decision = item.stored.decision
        chooser = self._choosers.of(decision.policy, decision.snapshot_version)
        if chooser is None:
            return "its snapshot is gone"
        [law] = chooser.laws(decision.context, decision.eligible, decision.actions)
        by_name = dict(zip(law.actions, law.propensities, strict=True))
        if item.propensity is None or abs(by_name[item.action] - item.propensity) > _SAME:
            return "does not recompute"
        if min(by_name.values()) <= 0.0:
            return "an action could not be had (exploration floor 0)"
        if decision.user is not None:
            self._users.add(decision.user)
        self.rewards.append(item.reward)
        self._assigned.append(self._names.index(item.action))
        self._propensities.append([by_name[name] for name in self._names])
        return None

    def effects(self, control: int, confidence: float) -> dict[str, Effect]:
        """Return the effect of every other action. Raises `ConsoleFailure` where there is no row."""
        import numpy as np

        from shared.experiments.statistics.adaptive import adaptive_effect

        if not self.rewards:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.most_common())
            raise ConsoleFailure(f"no decision can be compared: {reasons or 'there is none'}", field="policy")
        rewards: npt.NDArray[np.float64] = np.array(self.rewards)
        assigned = np.array(self._assigned, dtype=np.int64)
        propensities: npt.NDArray[np.float64] = np.array(self._propensities)
        return {
            name: adaptive_effect(rewards, assigned, propensities, control, at, confidence=confidence)
            for at, name in enumerate(self._names)
            if at != control
        }


def _control(asked: str | None, names: Sequence[str]) -> int:
    if len(names) < _FEWEST:
        raise ConsoleFailure("the policy has fewer than two actions of its own", field="policy")
    if asked is not None and asked not in names:
        raise ConsoleFailure(f"the policy has no action {asked!r}", field="control")
    return 0 if asked is None else names.index(asked)


_FEWEST = 2


def _show(policy: str, control: str, rows: _Rows, effects: dict[str, Effect]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    [first, *_] = effects.values()
    head = f"{policy}: {len(rows.rewards):,} decisions; {control} earns {first.control.mean:.5f} in {first.control.n:,}"
    console.print(head, style="bold", markup=False)
    table = Table(box=None)
    table.add_column("action", overflow="fold")
    for heading in ("decisions", "reward", f"beyond {control}", f"{first.confidence:.0%} at all looks", "p"):
        table.add_column(heading, justify="right")
    for name, effect in sorted(effects.items(), key=lambda one: -one[1].difference):
        silent = effect.low is None or effect.high is None
        between = "too early" if silent else f"{effect.low:+.5f} to {effect.high:+.5f}"
        p_value = "" if effect.p_value is None else f"{effect.p_value:.3g}"
        cells = (
            f"{effect.treatment.n:,}",
            f"{effect.treatment.mean:.5f}",
            f"{effect.difference:+.5f}",
            between,
            p_value,
        )
        table.add_row(Text(name), *cells, style="green" if effect.direction > 0 else "")
    console.print(table)
    if rows.left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rows.left_out.most_common())
        console.print(f"left out: {reasons}", style="dim", markup=False)
