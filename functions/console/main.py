"""The command `knudge`: parses arguments, runs one command, turns errors into one line and an exit status.

Exit statuses: 0 done, 1 the command failed, 2 it was called wrongly, 3 a roll-out went back, 130 interrupted. What a command needs
beyond the standard library is imported when it runs, so that `knudge --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from functions.console import audit, dead_letters, evaluate, experiment, explain, export, health, revisions
from shared.errors import KnudgeError

DEFAULT_URL = "http://localhost:8080"
_EXTRAS = {"matplotlib": "console", "rich": "console", "pyarrow": "export", "scipy": "analysis"}
_FAILED = 1
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run `knudge` with `argv` (the process's own arguments where None) and return its exit status."""
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except KnudgeError as error:
        return _complain(error.detail)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("functions."):
            return _complain(f"there is no function {arguments.name!r}")
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return _complain(f"this command needs {error.name}: install knudge with its '{extra}' extra")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at exit
        return _FAILED
    except KeyboardInterrupt:
        _complain("interrupted")
        return _INTERRUPTED


def _complain(line: str) -> int:
    sys.stderr.write(f"knudge: {' '.join(line.split())}\n")
    return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="knudge", description="Decide, learn, and see whether it helps.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    replay = commands.add_parser("replay", help="send a logged dataset through the running functions and evaluate")
    datasets = replay.add_subparsers(title="datasets", metavar="DATASET", required=True)
    _add_replay_obd(datasets.add_parser("obd", help="the Open Bandit Dataset's small logs, 60,000 impressions"))

    _add_simulate(commands.add_parser("simulate", help="run the live loop with simulated users and draw the regret"))

    revisions.add_to(commands)

    serve = commands.add_parser("serve", help="serve one function on $PORT")
    serve.add_argument("name", help="the function: recommend, feedback, learn, control, ...")
    serve.set_defaults(run=_serve)

    migrate = commands.add_parser("migrate", help="bring the database schema up to date")
    migrate.set_defaults(run=_migrate)

    train = commands.add_parser("train", help="refit policies from the whole history and publish them")
    train.description = (
        "Refit from the history in PostgreSQL ($KNUDGE_DATABASE_URL), publish to Redis ($KNUDGE_REDIS_URL), "
        "tell the sink ($K_SINK) if there is one. Status 1: try again; 2: there is no such policy."
    )
    train.add_argument("--policy", metavar="NAME", help="(default: every policy)")
    train.set_defaults(run=_train)

    dead_letters.add_to(commands, _add_url)
    explain.add_to(commands, _add_url)
    audit.add_to(commands)
    health.add_to(commands, _add_url)
    export.add_to(commands)
    evaluate.add_to(commands)
    experiment.add_to(commands, _add_url)
    return parser


def _add_replay_obd(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Send the six small logs of the Open Bandit Dataset through the functions as logged decisions "
        "and clicks, wait for the posteriors, and compare policies on held-out impressions."
    )
    _add_url(parser)
    parser.add_argument("--data", type=Path, metavar="PATH", help="the obp wheel, or a folder that holds obd/")
    parser.add_argument("--rows", type=_positive, metavar="N", help="take the first N rows of each log (default: all)")
    parser.add_argument(
        "--held-out",
        type=_share,
        default=0.5,
        metavar="SHARE",
        help="share kept for the evaluation (default: 0.5)",
    )
    parser.add_argument("--prefix", default="obd", help="policies are named PREFIX-CAMPAIGN (default: obd)")
    parser.add_argument(
        "--weeks",
        type=_positive,
        metavar="N",
        help="shift the log by N weeks (default: remembered, else to last week)",
    )
    parser.add_argument(
        "--batch", type=_positive, default=500, metavar="N", help="decisions per request (default: 500)"
    )
    parser.add_argument(
        "--wait",
        type=_positive,
        default=300,
        metavar="SECONDS",
        help="for the posteriors, at most (default: 300)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("build/replay"), metavar="DIR", help="(default: build/replay)"
    )
    parser.set_defaults(run=_replay_obd)


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Let a population whose true click rates are known (from one campaign's logs) use the functions: "
        "recommend, click or not, feed back. Draws the cumulative regret while it runs."
    )
    _add_url(parser)
    parser.add_argument("--decisions", type=_positive, default=10_000, metavar="N", help="(default: 10000)")
    parser.add_argument("--campaign", choices=("all", "men", "women"), default="men", help="(default: men)")
    parser.add_argument(
        "--scale", type=_positive_float, default=20.0, metavar="X", help="multiplies the rates (default: 20)"
    )
    parser.add_argument(
        "--taste",
        type=_at_least_zero,
        default=0.0,
        metavar="SD",
        help="how much age groups differ (default: 0)",
    )
    parser.add_argument("--users", type=_positive, default=1_000, metavar="N", help="(default: 1000)")
    parser.add_argument("--seed", type=int, default=1, help="of the population and its clicks (default: 1)")
    parser.add_argument("--policy-kind", default="thompson", metavar="KIND", help="(default: thompson)")
    parser.add_argument("--policy", metavar="NAME", help="(default: simulate-SEED-TIME, a fresh one)")
    parser.add_argument("--floor", type=_probability, metavar="P", help="exploration floor (default: the server's)")
    parser.add_argument("--concurrency", type=_positive, default=8, metavar="N", help="users at once (default: 8)")
    parser.add_argument("--data", type=Path, metavar="PATH", help="the obp wheel, or a folder that holds obd/")
    parser.add_argument(
        "--output", type=Path, default=Path("build/simulate"), metavar="DIR", help="(default: build/simulate)"
    )
    parser.set_defaults(run=_simulate)


def _add_url(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default=DEFAULT_URL, help=f"where the functions answer (default: {DEFAULT_URL})")


def _replay_obd(arguments: argparse.Namespace) -> int:
    from functions.console import replay

    return replay.run(
        replay.Options(
            url=arguments.url,
            data=arguments.data,
            rows=arguments.rows,
            held_out_share=arguments.held_out,
            prefix=arguments.prefix,
            weeks=arguments.weeks,
            batch_size=arguments.batch,
            wait_s=float(arguments.wait),
            output=arguments.output,
        )
    )


def _simulate(arguments: argparse.Namespace) -> int:
    from functions.console import simulate

    return simulate.run(
        simulate.Options(
            url=arguments.url,
            decisions=arguments.decisions,
            campaign=arguments.campaign,
            scale=arguments.scale,
            taste=arguments.taste,
            users=arguments.users,
            seed=arguments.seed,
            policy_kind=arguments.policy_kind,
            policy=arguments.policy,
            exploration_floor=arguments.floor,
            concurrency=arguments.concurrency,
            data=arguments.data,
            output=arguments.output,
        )
    )


def _serve(arguments: argparse.Namespace) -> int:
    from shared.edge import hosting

    return int(hosting.main([arguments.name]) or 0)


def _migrate(_arguments: argparse.Namespace) -> int:
    from shared.storage import migrate

    return int(migrate.main() or 0)


def _train(arguments: argparse.Namespace) -> int:
    from functions.train import job

    environment = {name: value for name, value in os.environ.items() if name != job.EVENT_PATH}
    return job.main([] if arguments.policy is None else ["--policy", arguments.policy], environment)


def _positive(text: str) -> int:
    return int(_within(text, lambda value: value >= 1 and value == int(value), "a whole number of at least 1"))


def _positive_float(text: str) -> float:
    return _within(text, lambda value: value > 0, "a number above 0")


def _at_least_zero(text: str) -> float:
    return _within(text, lambda value: value >= 0, "a number of at least 0")


def _share(text: str) -> float:
    return _within(text, lambda value: 0 < value < 1, "a share between 0 and 1")


def _probability(text: str) -> float:
    return _within(text, lambda value: 0 <= value <= 1, "a probability from 0 to 1")


def _within(text: str, allowed: Callable[[float], bool], wanted: str) -> float:
    try:
        value = float(text)
        if allowed(value):
            return value
    except (ValueError, OverflowError):
        pass
    message = f"{text!r} is not {wanted}"
    raise argparse.ArgumentTypeError(message)


if __name__ == "__main__":
    sys.exit(main())
