"""What an experiment shows, as tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from shared.edge.result_contracts import EffectOut, MetricOut, Results, VariationOut

_VERDICTS = {"ship": "bold green", "roll_back": "bold red", "keep_running": "bold", "check": "bold yellow"}
_LATE = "%Y-%m-%d %H:%M"


def show(results: Results) -> None:
    """Print what an experiment shows: the verdict and why, who saw what, every metric."""
    console = Console(highlight=False)
    ended = f", ended {results.ended_at:{_LATE}}" if results.ended_at else ""
    console.print(
        f"[bold]{escape(results.experiment)}[/bold] version {results.version}, phase {results.phase}, {results.status} since "
        f"{results.started_at:{_LATE}}{ended}; as of {results.as_of:{_LATE}} UTC"
    )
    winner = f": {escape(results.variation)}" if results.variation else ""
    console.print(f"[{_VERDICTS[results.verdict]}]{results.verdict}{winner}[/]")
    for reason in results.reasons:
        console.print(f"  {escape(reason)}")
    console.print()
    console.print(_variations(results))
    if results.sample_ratio is not None:
        ratio = results.sample_ratio
        verdict = "[red]do not fit[/red]" if ratio.mismatch else "fit"
        console.print(
            f"shares {verdict} the plan: p = {_number(ratio.sequential_p_value, '.3g')} at any look (alarm below {ratio.threshold:g}), "
            f"{_number(ratio.p_value, '.3g')} by chi-square; seen in several variations and left out: {results.double_exposed:,}"
        )
    for metric in results.metrics:
        console.print()
        console.print(_heading(metric, results))
        console.print(_effects(metric, results))
        for power in metric.power:
            relative = "" if power.relative is None else f" ({power.relative:+.1%})"
            if power.minimum_effect is not None:
                console.print(
                    f"[dim]{escape(power.variation)}: so many units find a difference of {power.minimum_effect:.4g}{relative} "
                    "with a power of 80 %[/dim]"
                )


def _variations(results: Results) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("variation", overflow="fold")
    for name in ("units", "share", "planned"):
        table.add_column(name, justify="right")
    for each in results.variations:
        share = "" if each.share is None else f"{each.share:.2%}"
        table.add_row(_named(each, results), f"{each.units:,}", share, f"{each.expected_share:.2%}")
    return table


def _named(variation: VariationOut, results: Results) -> Text:
    name = variation.key if variation.name is None else f"{variation.key} ({variation.name})"
    return Text(f"{name}, control" if variation.key == results.control else name)


def _heading(metric: MetricOut, results: Results) -> str:
    sort = ["primary"] if metric.primary else []
    if metric.margin is not None:
        sort.append(f"guardrail, may get worse by {metric.margin:.1%}" if metric.margin else "guardrail")
    waiting = f", {metric.waiting:,} still within their window" if metric.waiting else ""
    return (
        f"[bold]{escape(metric.name)}[/bold] ({', '.join([metric.kind, *sort, f'shall {metric.goal}'])}): "
        f"{metric.complete:,} units counted{waiting}; {results.confidence:.0%} intervals"
    )


def _effects(metric: MetricOut, results: Results) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("variation", overflow="fold")
    bayesian = results.inference == "bayesian"
    last = ("chance to win", "expected loss") if bayesian else ("p",)
    for name in ("units", "value", "control's", "effect", *last):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for effect in metric.effects:
        corrected = effect.p_value if effect.adjusted_p_value is None else effect.adjusted_p_value
        end = (effect.chance_to_win, effect.expected_loss) if bayesian else (corrected,)
        table.add_row(
            Text(effect.variation),
            f"{effect.units:,}",
            _number(effect.value, ".4g"),
            _number(effect.control_value, ".4g"),
            _effect(effect),
            *(_number(number, ".2g") for number in end),
            _judged(effect, metric),
        )
    return table


def _effect(effect: EffectOut) -> str:
    """Return the relative effect, where it is known, over the absolute one."""
    relative = _number(effect.relative, "+.1%") + _interval(effect.relative_low, effect.relative_high, "+.1%")
    absolute = _number(effect.difference, "+.3g") + _interval(effect.low, effect.high, "+.3g")
    return f"{relative}\n{absolute}" if effect.relative_low is not None else absolute


def _judged(effect: EffectOut, metric: MetricOut) -> str:
    if effect.variation in metric.crossed:
        return "[red]crosses the guardrail[/red]"
    if effect.low is None:
        return "[dim]too early[/dim]"
    return {True: "[green]better[/green]", False: "[red]worse[/red]", None: ""}[effect.better]


def _number(number: float | None, form: str) -> str:
    return "" if number is None else f"{number:{form}}"


def _interval(low: float | None, high: float | None, form: str) -> str:
    return "" if low is None or high is None else f" ({low:{form}} to {high:{form}})"
