"""`knudge replay obd`: sends the Open Bandit Dataset through the running functions and says what was learned.

Per campaign two policies: `PREFIX-CAMPAIGN` learns from the training part of both logs,
`PREFIX-CAMPAIGN-heldout` takes the held-out part, so that every impression goes through the functions and yet
the learner never sees what it is judged by. First all impressions, then the clicks; the last few clicks of
each learner go one by one, each timed from its acknowledgement to the snapshot that counts it. A repeat adds
nothing (`replay_shift` says when), and says so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from functions.console import replay_evaluation, replay_plot, replay_report
from functions.console.client import Client
from functions.console.obd_log import CAMPAIGNS, Campaign, CampaignLog, Impression, is_held_out, read_campaign
from functions.console.obd_source import find_source
from functions.console.policy_view import PolicyView, read_policy, wait_until
from functions.console.replay_sending import Click, Sender
from functions.console.replay_shift import Shift, choose_shift, remember_shift

_TIMED_CLICKS = 5  # per learner
_LATENCY_PERIOD_S = 0.002
_SLACK = 1e-3  # sums of weights are floats


class Options(msgspec.Struct, frozen=True):
    """What the command line says. `rows`: of each log, None for all; `wait_s`: for posteriors, at most."""

    url: str
    output: Path
    data: Path | None = None
    rows: int | None = None
    held_out_share: float = 0.5
    prefix: str = "obd"
    weeks: int | None = None
    batch_size: int = 500
    wait_s: float = 300.0


class Part(msgspec.Struct, frozen=True):
    """The impressions that one policy is sent."""

    policy: str
    campaign: Campaign
    items: tuple[str, ...]
    impressions: tuple[Impression, ...]
    learns: bool

    @property
    def clicks(self) -> int:
        """How many of the impressions were clicked."""
        return sum(row.clicked for row in self.impressions)


def run(options: Options, console: Console | None = None) -> int:
    """Replay and report; returns the exit status. Raises `ConsoleFailure` where something cannot be done."""
    console = console or Console()
    source = find_source(options.data)
    logs = [read_campaign(source, campaign, options.rows) for campaign in CAMPAIGNS]
    parts = [part for log in logs for part in split(log, options)]
    with Client(options.url) as client:
        existed = [ensure_policy(client, part) for part in parts]
        shift = _shift(options, logs, policies_exist=any(existed))
        rows = sum(len(part.impressions) for part in parts)
        console.print(
            f"{rows:,} impressions, {sum(p.clicks for p in parts)} clicks from {source.name}", highlight=False
        )
        console.print(f"moved by {shift.weeks} weeks, {shift.reason}", highlight=False)
        timings = _send(client, parts, shift, options, console)
        remember_shift(shift, _server(options))
        views = {part.policy: read_policy(client, part.policy) for part in parts}
    results = [
        replay_evaluation.evaluate_campaign(
            part.campaign, held_out_of(parts, part.campaign), views[part.policy].action_to_propensity
        )
        for part in parts
        if part.learns
    ]
    replay_report.print_report(console, results, timings)
    for warning in surplus(parts, views):
        console.print(f"[bold]note[/bold] {warning}", highlight=False)
    plot = options.output / "obd.png"
    replay_plot.draw(results, plot)
    (options.output / "obd.json").write_bytes(replay_report.as_json(results, timings))
    console.print(f"plot {plot}, numbers {options.output / 'obd.json'}", highlight=False)
    return 0


def split(log: CampaignLog, options: Options) -> tuple[Part, Part]:
    """Divide the rows of `log` between the policy that learns and the one that holds out."""
    held_out = tuple(row for row in log.impressions if is_held_out(row, options.held_out_share))
    training = tuple(row for row in log.impressions if not is_held_out(row, options.held_out_share))
    name = f"{options.prefix}-{log.campaign}"
    return (
        Part(name, log.campaign, log.items, training, learns=True),
        Part(f"{name}-heldout", log.campaign, log.items, held_out, learns=False),
    )


def held_out_of(parts: Sequence[Part], campaign: Campaign) -> tuple[Impression, ...]:
    """Return the held-out rows of `campaign`."""
    return next(part.impressions for part in parts if part.campaign == campaign and not part.learns)


def ensure_policy(client: Client, part: Part) -> bool:
    """Make the policy of `part` where there is none of its shape; return whether there was one."""
    path = f"/v1/policies/{quote(part.policy, safe='')}"
    known = client.find(path)
    known_actions = {_action_id(action) for action in (known or {}).get("actions", [])}
    if known is None or known.get("kind") != "thompson" or known_actions != set(part.items):
        client.put(path, {"kind": "thompson", "actions": list(part.items), "reward": {"click": 1.0}})
    return known is not None


def surplus(parts: Sequence[Part], views: dict[str, PolicyView]) -> list[str]:
    """Say of which policies the snapshot knows more than this replay sent, and why that may be."""
    return [
        f"{part.policy} knows {views[part.policy].rewards:,.0f} impressions, this replay sent "
        f"{len(part.impressions):,}: replays with other --rows, --held-out or --weeks count too; "
        "--prefix starts afresh"
        for part in parts
        if views[part.policy].rewards > len(part.impressions) + 0.5
    ]


def _shift(options: Options, logs: Sequence[CampaignLog], *, policies_exist: bool) -> Shift:
    log_end = max(row.occurred_at for log in logs for row in log.impressions)
    return choose_shift(
        asked=options.weeks,
        log_end=log_end,
        now=time.time(),
        server=_server(options),
        policies_exist=policies_exist,
    )


def _server(options: Options) -> str:
    return f"{options.url.rstrip('/')} {options.prefix}"


def _send(
    client: Client, parts: Sequence[Part], shift: Shift, options: Options, console: Console
) -> replay_report.Timings:
    sender = Sender(client, prefix=options.prefix, shift_s=shift.seconds, batch_size=options.batch_size)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    rows = sum(len(part.impressions) for part in parts)
    before = {part.policy: read_policy(client, part.policy) for part in parts}
    wanted: dict[str, float] = {}
    clicks: dict[str, list[Click]] = {}
    with Progress(*columns, console=console) as progress:
        started = time.monotonic()
        sending = progress.add_task("impressions sent", total=rows)
        for part in parts:
            accepted = sender.decisions.accepted
            clicks[part.policy] = sender.send_decisions(
                part.policy, part.impressions, lambda count: progress.advance(sending, count)
            )
            # An earlier replay may have sent other rows too, or these without having seen them learned.
            new = sender.decisions.accepted - accepted
            wanted[part.policy] = max(len(part.impressions), before[part.policy].rewards + new)
        _wait_for_rows(client, wanted, progress, time.monotonic() + options.wait_s)
        known_s = time.monotonic() - started
        latencies = _send_clicks(client, sender, parts, clicks, before, progress, options.wait_s)
    return replay_report.Timings(
        rows=rows,
        decisions_accepted=sender.decisions.accepted,
        decisions_duplicates=sender.decisions.duplicates,
        feedback_accepted=sender.feedback.accepted,
        feedback_duplicates=sender.feedback.duplicates,
        sending_s=sender.decisions.elapsed_s,
        known_s=known_s,
        click_to_snapshot_s=tuple(latencies),
    )


def _wait_for_rows(client: Client, wanted: dict[str, float], progress: Progress, give_up_at: float) -> None:
    learning = progress.add_task("known to snapshots", total=sum(wanted.values()))
    done = 0.0
    for policy, rows in wanted.items():

        def show(view: PolicyView, done: float = done, rows: float = rows) -> None:
            progress.update(learning, completed=done + min(rows, view.rewards))

        def knows(view: PolicyView, rows: float = rows) -> bool:
            return view.rewards >= rows - _SLACK

        wait_until(client, policy, knows, give_up_at=give_up_at, on_poll=show)
        done += rows
        progress.update(learning, completed=done)


def _send_clicks(  # noqa: PLR0917 - the steps of one exchange
    client: Client,
    sender: Sender,
    parts: Sequence[Part],
    clicks: dict[str, list[Click]],
    before: dict[str, PolicyView],
    progress: Progress,
    wait_s: float,
) -> list[float]:
    """Send all clicks, the last of each learner singly; return their seconds from answer to snapshot."""
    sending = progress.add_task("clicks sent and known", total=sum(len(ready) for ready in clicks.values()))
    latencies: list[float] = []
    for part in parts:
        ready = clicks[part.policy]
        singly = min(_TIMED_CLICKS, len(ready)) if part.learns else 0
        together = len(ready) - singly
        accepted = sender.feedback.accepted
        sender.send_clicks(ready[:together])
        new = sender.feedback.accepted - accepted
        view = _wait_for_clicks(client, part, max(together, before[part.policy].total + new), wait_s)
        progress.advance(sending, together)
        for click in ready[together:]:
            if sender.send_one_click(click):
                acknowledged = time.monotonic()
                view = _wait_for_clicks(client, part, view.total + 1.0, wait_s, period_s=_LATENCY_PERIOD_S)
                latencies.append(time.monotonic() - acknowledged)
            progress.advance(sending)
        _wait_for_clicks(client, part, len(ready), wait_s)
    return latencies


def _wait_for_clicks(client: Client, part: Part, wanted: float, wait_s: float, *, period_s: float = 0.05) -> PolicyView:
    return wait_until(
        client,
        part.policy,
        lambda view: view.total >= wanted - _SLACK,
        give_up_at=time.monotonic() + wait_s,
        period_s=period_s,
    )


def _action_id(action: object) -> str:
    return str(action["id"]) if isinstance(action, dict) else str(action)
