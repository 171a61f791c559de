"""`knudge experiment power`: how many units an effect takes, or which effect so many units show, before anything has begun."""

from __future__ import annotations

import argparse
import math
from typing import Any

from functions.console.failure import ConsoleFailure

_COST = 1.67
"""How many times a fixed horizon's units sequential inference takes, so that its intervals are made narrowest there."""
_FEWEST = 2
"""Units of either variation below which nothing can be said."""


def add_to(verbs: Any) -> None:  # noqa: ANN401
    """Add the command to the parser's `verbs`."""
    parser = verbs.add_parser("power", help="how many units an effect takes, or which effect so many units show")
    parser.description = "Of one variation beside the control. Sequential inference may be looked at after every unit, a fixed horizon once, at its end."
    baseline = parser.add_mutually_exclusive_group(required=True)
    baseline.add_argument("--rate", type=_number, metavar="P", help="of a proportion: the control's, such as 0.05")
    baseline.add_argument("--mean", type=_number, metavar="X", help="of a mean: the control's, with --deviation")
    parser.add_argument("--deviation", type=_number, metavar="SD", help="standard deviation of a unit's value")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--effect", type=_number, metavar="SHARE", help="relative effect to be found, such as 0.1")
    asked.add_argument("--difference", type=_number, metavar="X", help="the same as an absolute difference")
    asked.add_argument(
        "--units", type=_number, metavar="N", help="units of both variations together: what do they show?"
    )
    parser.add_argument("--power", type=_number, default=0.8, metavar="P", help="(default: 0.8)")
    parser.add_argument("--confidence", type=_number, default=0.95, metavar="P", help="(default: 0.95)")
    parser.add_argument(
        "--share", type=_number, default=0.5, metavar="P", help="of the units that get the variation (default: 0.5)"
    )
    parser.add_argument("--daily", type=_number, metavar="N", help="units a day, to say how many days that takes")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Say it. Raises `ConsoleFailure`, `InvalidInput`."""
    from rich.console import Console
    from rich.table import Table

    from shared.experiments.statistics.power import Baseline

    _check(arguments)
    if arguments.rate is not None:
        baseline = Baseline.of_rate(arguments.rate)
    else:
        baseline = Baseline.of_mean(arguments.mean, arguments.deviation**2)
    mean = baseline.mean
    table = Table(box=None)
    table.add_column("inference")
    for name in ("units", "control", "variation", *(["days"] if arguments.daily else []), "difference", "relative"):
        table.add_column(name, justify="right")
    if arguments.units is None:
        difference = arguments.difference if arguments.effect is None else arguments.effect * abs(mean)
        found = [(name, units, difference) for name, units in _needed(baseline, difference, arguments)]
    else:
        found = [(name, arguments.units, least) for name, least in _detectable(baseline, arguments)]
    for name, units, shown in found:
        treated = math.ceil(units * arguments.share)
        days = [f"{units / arguments.daily:,.1f}"] if arguments.daily else []
        relative = "" if shown is None or not mean else f"{shown / abs(mean):+.2%}"
        least = "none" if shown is None else f"{shown:+.4g}"
        table.add_row(name, f"{units:,.0f}", f"{units - treated:,.0f}", f"{treated:,}", *days, least, relative)
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"[dim]found with a power of {arguments.power:.0%}, intervals of {arguments.confidence:.0%}; sequential: with these units as "
        "`planned_units`, if it had to run to its end[/dim]"
    )
    return 0


def _needed(baseline: Any, difference: float, arguments: argparse.Namespace) -> list[tuple[str, float]]:  # noqa: ANN401
    from shared.experiments.statistics.power import Method, units_needed

    def needed(method: Method) -> float:
        return math.ceil(units_needed(baseline, difference, arguments.power, method))

    fixed = needed(Method("fixed_horizon", arguments.confidence, arguments.share))
    sequential = needed(Method("sequential", arguments.confidence, arguments.share, design_units=_COST * fixed))
    return [("sequential", sequential), ("fixed_horizon", fixed)]


def _detectable(baseline: Any, arguments: argparse.Namespace) -> list[tuple[str, float | None]]:  # noqa: ANN401
    from shared.experiments.statistics.power import Method, detectable

    methods = (
        Method("sequential", arguments.confidence, arguments.share, design_units=arguments.units),
        Method("fixed_horizon", arguments.confidence, arguments.share),
    )
    return [(each.inference, detectable(baseline, arguments.units, arguments.power, each)) for each in methods]


def _check(arguments: argparse.Namespace) -> None:
    checks: list[tuple[str, bool, str]] = [
        ("deviation", (arguments.deviation is not None) == (arguments.mean is not None), "goes with --mean"),
        ("deviation", arguments.deviation is None or arguments.deviation > 0, "must be above 0"),
        ("confidence", 0 < arguments.confidence < 1, "must lie between 0 and 1"),
        ("share", 0 < arguments.share < 1, "must lie between 0 and 1"),
        ("daily", arguments.daily is None or arguments.daily > 0, "must be above 0"),
        ("units", arguments.units is None or arguments.units * min(arguments.share, 1 - arguments.share) >= _FEWEST, "are too few"),
        ("effect", arguments.effect is None or arguments.mean != 0, "of a mean of 0 means nothing: give --difference"),
    ]  # fmt: skip
    for name, fits, words in checks:
        if not fits:
            message = f"--{name} {words}"
            raise ConsoleFailure(message, field=name)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        message = f"{text!r} is not a number"
        raise argparse.ArgumentTypeError(message)
    return value
