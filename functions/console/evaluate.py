"""`knudge evaluate`: what would these candidates have earned on the logged decisions of a policy?

Off-policy, and honest about learning on the same log: see `progressive`. Writes a table, a plot and `evaluation.json`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from functions.console.moment import add_span, moment, span

if TYPE_CHECKING:
    from functions.console.evaluation_report import Report

BLOCKS = 100


def add_to(commands: Any) -> None:  # noqa: ANN401 - argparse names no public type for what add_subparsers returns
    """Add the command to the parser's `commands`."""
    parser = commands.add_parser("evaluate", help="what would other kinds or parameters have earned on the log?")
    parser.description = (
        "Estimate from the decisions in PostgreSQL ($KNUDGE_DATABASE_URL) what candidates would have earned, each "
        "learning on the way from what was logged before, as it would have. Needs propensities and an exploration floor above 0."
    )
    parser.add_argument("--policy", required=True, metavar="NAME", help="whose log")
    parser.add_argument(
        "--candidate",
        dest="candidates",
        action="append",
        required=True,
        metavar="KEY=VALUE,...",
        help="such as kind=thompson, or kind=epsilon_greedy,epsilon=0.05,0.1 (two candidates); besides parameters: floor, "
        "half_life_s, expected_delay_s, features=yes|no; what is not named is the policy's. May be repeated",
    )
    add_span(parser)
    parser.add_argument(
        "--learn-from",
        type=moment,
        metavar="WHEN",
        help="let candidates learn from decisions since then, judging none before --from (default: --from)",
    )
    parser.add_argument(
        "--blocks",
        type=_positive,
        default=BLOCKS,
        metavar="N",
        help=f"how often candidates learn, over the whole span (default: {BLOCKS})",
    )
    parser.add_argument("--settled", action="store_true", help="judge only decisions whose reward window is over")
    parser.add_argument("--all", action="store_true", help="a line for every estimator")
    parser.add_argument("--json", action="store_true", help="figures as JSON instead of the table")
    parser.add_argument(
        "--output", type=Path, default=Path("build/evaluate"), metavar="DIR", help="(default: build/evaluate)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate. Raises `ConsoleFailure`, `InvalidInput`, `Misconfigured`, `Unavailable`, `UnknownPolicy`."""
    import msgspec

    from functions.console import evaluation_plot, evaluation_report

    report = _report(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    figures = msgspec.json.format(msgspec.json.encode(evaluation_report.figures(report)))
    (arguments.output / "evaluation.json").write_bytes(figures + b"\n")
    evaluation_plot.draw(report, arguments.output / "evaluation.png")
    if arguments.json:
        sys.stdout.write(figures.decode() + "\n")
    else:
        evaluation_report.show(report, whole=arguments.all)
        print(f"{arguments.output}/evaluation.png, evaluation.json")
    return 0


def _report(arguments: argparse.Namespace) -> Report:
    import os
    import time
    from datetime import datetime

    from functions.console.candidates import candidates
    from functions.console.decided_items import DecidedItems
    from functions.console.evaluation_log import EvaluationLog, Survey, usable
    from functions.console.evaluation_report import judge
    from functions.console.failure import ConsoleFailure
    from functions.console.progress import counting
    from functions.console.progressive import Progress
    from shared.settings import Settings
    from shared.storage.postgres_log import opened

    settings = Settings.load(os.environ, ("database_url",))
    began, until = span(arguments)
    learned = began if arguments.learn_from is None else datetime.fromisoformat(arguments.learn_from).timestamp()
    if learned > began:
        message = "--learn-from must not be later than --from"
        raise ConsoleFailure(message, field="learn-from")
    with opened(settings.database_url) as log:
        reader = DecidedItems(log, arguments.policy, time.time(), events=True)
        given = candidates(arguments.candidates, reader.spec)
        size = log.size(arguments.policy, learned, until)
        survey = Survey()
        with counting("decisions surveyed", log.size(arguments.policy, began, until)) as advance:
            for items in reader.decisions(began, until, advance):
                if usable(items, reader.left_out, slates=False) and (items[0].settled or not arguments.settled):
                    survey.look_at(items)
        reader.left_out.clear()
        if not survey.decisions:
            message = "there is no decision to judge in this span"
            raise ConsoleFailure(message, field="from")
        judged = EvaluationLog(survey, len(given))
        progress = Progress(given, reader.spec, -(-size // arguments.blocks))
        with counting("decisions judged", size) as advance:
            for items in reader.decisions(learned, until, advance):
                decided_at = items[0].stored.decided_at
                progress.go_on(decided_at)
                if decided_at >= began and usable(items, reader.left_out, slates=survey.has_slates):
                    if arguments.settled and not items[0].settled:
                        reader.left_out["reward window not over"] += 1
                    else:
                        judged.add(items, progress.judge(items))
                progress.remember(items)
        return judge(reader, judged, survey, given, progress.blocks)


def _positive(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    message = f"{text!r} is not a whole number of at least 1"
    raise argparse.ArgumentTypeError(message)
