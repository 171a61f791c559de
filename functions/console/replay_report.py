"""Says what a replay found: tables and sentences for people, JSON for programs (`replay_plot` draws)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from functions.console.replay_evaluation import CampaignResult, Comparison, PolicyEstimate, impressions_factor
from shared.evaluation.doubts import LEAST_EFFECTIVE_REWARDS

_TELLING_FACTOR = 1_000


class Timings(msgspec.Struct, frozen=True):
    """What was measured on the way.

    `sending_s`: spent in POST /v1/decisions; `known_s`: from the first request until every snapshot knew
    every row; `click_to_snapshot_s`: one entry per click that was timed alone.
    """

    rows: int
    decisions_accepted: int
    decisions_duplicates: int
    feedback_accepted: int
    feedback_duplicates: int
    sending_s: float
    known_s: float
    click_to_snapshot_s: tuple[float, ...]

    @property
    def sent_per_s(self) -> float:
        """Acknowledged rows per second."""
        return self.rows / self.sending_s

    @property
    def learned_per_s(self) -> float:
        """Rows per second, up to the snapshots that know them."""
        return self.rows / self.known_s


def print_report(console: Console, results: Sequence[CampaignResult], timings: Timings) -> None:
    """Print the estimates, what they can and cannot tell, and the timings."""
    console.print(_estimates_table(results))
    console.print(
        "\nlearned, uniform: self-normalised importance weighting on held-out rows of the random log. bts, "
        "the dataset's own Thompson policy: the mean of its own held-out rows. Marked *: a cross-check that "
        "reweights the bts log and decides nothing. An effective number is how many equally weighted rows or "
        f"clicks would tell as much; below {LEAST_EFFECTIVE_REWARDS:.0f} effective clicks a normal interval is optimistic. The interval "
        "at any time may be looked at after every row.\n",
        style="dim",
        highlight=False,
    )
    comparisons = [(result.campaign, comparison) for result in results for comparison in result.comparisons]
    sentences = Table.grid(padding=(0, 2))
    for campaign, comparison in comparisons:
        sentences.add_row(campaign, describe(comparison))
    console.print(sentences)
    console.print(
        f"{len(comparisons)} comparisons at 95 %: one that stands out may do so by chance.\n",
        style="dim",
        highlight=False,
    )
    console.print(_timings_table(timings))


def describe(comparison: Comparison) -> str:
    """Say in one sentence whether the held-out clicks can tell two policies apart."""
    pair = f"{comparison.first} against {comparison.second}"
    interval = comparison.difference.interval()
    if interval is None:
        return f"{pair}: nothing can be said, {comparison.clicks} clicks give no interval"
    low, high = (100 * bound for bound in interval)
    points = f"{100 * comparison.difference.value:+.2f} points [{low:+.2f}, {high:+.2f}]"
    if comparison.is_clear:
        higher = comparison.first if comparison.difference.value > 0 else comparison.second
        return f"{pair}: {points}; the difference is clear, {higher} is higher"
    if comparison.difference.is_told_apart():
        return (
            f"{pair}: {points}; the interval leaves out zero, but {comparison.effective_clicks:.1f} "
            "effective clicks on one side are too few to believe it"
        )
    factor = impressions_factor(comparison.difference)
    if factor is None or factor > _TELLING_FACTOR:
        needed = f"over {_TELLING_FACTOR:,} times"
    else:
        needed = f"about {max(2.0, factor):.0f} times"
    return (
        f"{pair}: {points}; {comparison.clicks} clicks cannot tell them apart "
        f"(a difference of this size would take {needed} as many impressions)"
    )


def as_json(results: Sequence[CampaignResult], timings: Timings) -> bytes:
    """Return everything that was found as formatted JSON; click rates and their errors as fractions."""
    comparisons = [
        {
            "campaign": result.campaign,
            "first": comparison.first,
            "second": comparison.second,
            "difference": comparison.difference.value,
            "interval_95": comparison.difference.interval(),
            "effective_clicks": comparison.effective_clicks,
            "told_apart": comparison.is_clear,
        }
        for result in results
        for comparison in result.comparisons
    ]
    estimates = [
        {"campaign": result.campaign, "interval_95": row.estimate.interval()} | msgspec.to_builtins(row)
        for result in results
        for row in result.estimates
    ]
    body = {"estimates": estimates, "comparisons": comparisons, "timings": timings}
    return msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"


def _estimates_table(results: Sequence[CampaignResult]) -> Table:
    title = "Estimated click rate on held-out impressions, in %"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1), pad_edge=False)
    for heading in ("campaign", "policy", "log"):
        table.add_column(heading, no_wrap=True)
    for heading in ("rate", "95 % interval", "at any time", "rows", "effective", "clicks", "eff."):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        table.add_row()
        for place, row in enumerate(result.estimates):
            campaign = "" if place else result.campaign
            table.add_row(campaign, *_cells(row), style="dim" if row.cross_check else None)
    return table


def _cells(row: PolicyEstimate) -> tuple[str, ...]:
    estimate = row.estimate
    return (
        f"{row.policy} *" if row.cross_check else row.policy,
        row.log,
        f"{100 * estimate.value:.2f}",
        _percent(estimate.interval()),
        _percent(estimate.anytime),
        f"{estimate.rows:,}",
        f"{estimate.effective_sample_size:,.0f}",
        str(row.clicks),
        f"{estimate.effective_rewards:.1f}",
    )


def _percent(interval: tuple[float, float] | None) -> str:
    return "none" if interval is None else f"{100 * max(0.0, interval[0]):.2f} to {100 * interval[1]:.2f}"


def _timings_table(timings: Timings) -> Table:
    title = "Measured"
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2), pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("impressions new / already known", _pair(timings.decisions_accepted, timings.decisions_duplicates))
    table.add_row("clicks new / already known", _pair(timings.feedback_accepted, timings.feedback_duplicates))
    table.add_row("impressions acknowledged", f"{timings.sent_per_s:,.0f} rows/s")
    if timings.decisions_accepted == timings.rows:
        table.add_row("impressions sent, learned, published", f"{timings.learned_per_s:,.0f} rows/s")
    else:
        table.add_row("impressions sent, learned, published", "not measured: some were already known")
    if timings.click_to_snapshot_s:
        ordered = sorted(timings.click_to_snapshot_s)
        table.add_row("from a click's answer to the snapshot that knows it:", f"{len(ordered)} clicks")
        median_ms, longest_ms = 1000 * ordered[len(ordered) // 2], 1000 * ordered[-1]
        table.add_row("  median / longest", f"{median_ms:,.0f} / {longest_ms:,.0f} ms")
    else:
        table.add_row("from a click to the snapshot", "not measured: every click was already known")
    return table


def _pair(new: int, known: int) -> str:
    return f"{new:,} / {known:,}"
