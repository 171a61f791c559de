"""`knudge evaluate`: what would these candidates have earned on the logged decisions of a policy?

Off-policy, and honest about learning on the same log: see `progressive`. Writes a table, a plot and `evaluation.json`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from functions.console.moment import add_span, duration, moment, span

if TYPE_CHECKING:
    from functions.console.evaluation_report import Report
    from functions.console.evaluation_task import Task
    from shared.vocabulary import PolicySpec

BLOCKS = 100
A_DAY_S = 86_400.0


def add_to(commands: Any) -> None:  # noqa: ANN401 - argparse names no public type for what add_subparsers returns
    """Add the command to the parser's `commands`."""
    parser = commands.add_parser("evaluate", help="what would other kinds or parameters have earned on the log?")
    parser.description = (
        "Estimate from the decisions in PostgreSQL ($KNUDGE_DATABASE_URL) what candidates would have earned, each "
        "learning on the way from what was logged before, as it would have. Needs propensities and an exploration floor above 0. "
        "Where the policy or a candidate looks at sessions (q_learning, fitted_q, steering), sessions are judged: the sum of their rewards."
    )
    parser.add_argument("--policy", required=True, metavar="NAME", help="whose log")
    parser.add_argument(
        "--candidate",
        dest="candidates",
        action="append",
        required=True,
        metavar="KEY=VALUE,...",
        help="such as kind=thompson, or kind=epsilon_greedy,epsilon=0.05,0.1 (two candidates); besides parameters: floor, "
        "half_life_s, expected_delay_s, features=yes|no, steering; what is not named is the policy's. May be repeated",
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
    parser.add_argument(
        "--sessions",
        action="store_true",
        help="judge whole sessions, although neither policy nor candidates look at them",
    )
    parser.add_argument(
        "--horizon", type=_positive, metavar="N", help="judge only the first N decisions of each session (default: all)"
    )
    parser.add_argument(
        "--state",
        metavar="JSON",
        help="the cells by which states are told apart, as in a policy's `state` (default: the policy's)",
    )
    parser.add_argument(
        "--train-every",
        type=duration,
        default=A_DAY_S,
        metavar="TIME",
        help="how often fitted_q is trained, such as 6h (default: 1d, first at --from)",
    )
    parser.add_argument("--settled", action="store_true", help="judge only what no open reward window can change")
    parser.add_argument("--all", action="store_true", help="a line for every estimator")
    parser.add_argument("--json", action="store_true", help="figures as JSON instead of the table")
    parser.add_argument(
        "--output", type=Path, default=Path("build/evaluate"), metavar="DIR", help="(default: build/evaluate)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate. Raises `ConsoleFailure`, `InvalidInput`, `Misconfigured`, `Unavailable`, `UnknownPolicy`."""
    import msgspec

    from functions.console import evaluation_plot, evaluation_report, evaluation_table

    report = _report(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    figures = msgspec.json.format(msgspec.json.encode(evaluation_report.figures(report)))
    (arguments.output / "evaluation.json").write_bytes(figures + b"\n")
    evaluation_plot.draw(report, arguments.output / "evaluation.png")
    if arguments.json:
        sys.stdout.write(figures.decode() + "\n")
    else:
        evaluation_table.show(report, whole=arguments.all)
        print(f"{arguments.output}/evaluation.png, evaluation.json")
    return 0


def _report(arguments: argparse.Namespace) -> Report:
    import os
    import time

    from functions.console.candidates import candidates
    from functions.console.decided_items import DecidedItems
    from functions.console.evaluate_decisions import evaluate_decisions
    from functions.console.evaluate_sessions import evaluate_sessions
    from functions.console.failure import ConsoleFailure
    from functions.console.progress import counting
    from shared.policies.ordered_kinds import learner_of
    from shared.settings import Settings
    from shared.storage.postgres_log import opened

    settings = Settings.load(os.environ, ("database_url",))
    task = _task(arguments)
    with opened(settings.database_url) as log:
        reader = DecidedItems(log, arguments.policy, time.time(), events=True)
        if arguments.state is not None:
            reader.spec = _with_state(reader.spec, arguments.state)
        given = candidates(arguments.candidates, reader.spec)
        sizes = (
            log.size(arguments.policy, task.began, task.until),
            log.size(arguments.policy, task.learned, task.until),
        )
        if not sizes[0]:
            message = "there is no decision to judge in this span"
            raise ConsoleFailure(message, field="from")
        learners = [learner_of(spec) for spec in (reader.spec, *(one.spec for one in given))]
        if arguments.sessions or any(learner is not None and learner.EPISODIC for learner in learners):
            with counting("decisions judged", sizes[1]) as advance:
                decisions = reader.decisions(task.learned - reader.spec.session_timeout_s, task.until, advance)
                return evaluate_sessions(reader.spec, decisions, given, sizes[1], task)
        if task.horizon is not None:
            message = "--horizon is for sessions, and nothing here looks at them: add --sessions"
            raise ConsoleFailure(message, field="horizon")
        return evaluate_decisions(reader, given, sizes, task)


def _task(arguments: argparse.Namespace) -> Task:
    from datetime import datetime

    from functions.console.evaluation_task import Task
    from functions.console.failure import ConsoleFailure

    began, until = span(arguments)
    learned = began if arguments.learn_from is None else datetime.fromisoformat(arguments.learn_from).timestamp()
    if learned > began:
        message = "--learn-from must not be later than --from"
        raise ConsoleFailure(message, field="learn-from")
    return Task(began, until, learned, arguments.blocks, arguments.train_every, arguments.settled, arguments.horizon)


def _with_state(policy: PolicySpec, text: str) -> PolicySpec:
    """Return the policy with the state that `text` names, in the JSON of a policy's `state`."""
    import msgspec

    from functions.console.failure import ConsoleFailure
    from shared.vocabulary import Cells

    try:
        state = msgspec.json.decode(text, type=dict[str, Cells])
    except msgspec.DecodeError as error:
        message = f'--state is written as {{"page": {{"categories": ["home", "cart"]}}}}, as in a policy: {error}'
        raise ConsoleFailure(message, field="state") from None
    return msgspec.structs.replace(policy, state=state)


def _positive(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    message = f"{text!r} is not a whole number of at least 1"
    raise argparse.ArgumentTypeError(message)
