"""`knudge revisions`: lists a Knative Service's revisions and moves its traffic, by hand or by the evidence.

Only the arguments stand here; the work is done by `knative.revisions`, which is imported when a command runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from knative.revisions.cluster import Cluster
    from knative.revisions.steering import Outcome, Steering

ROLLED_BACK = 3
_OPTIONS = ("steps", "margin", "age_s", "alpha", "policies", "compares", "step_s", "step_requests", "slow_s")
"""Options that are members of a roll-out's plan; those that are not given are the plan's to choose."""


def add_to(commands: Any) -> None:  # noqa: ANN401 - argparse names no public type for what add_subparsers returns
    """Add the command to the parser's `commands`."""
    parser = commands.add_parser("revisions", help="list a Knative Service's revisions, and move its traffic")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    listing = verbs.add_parser("list", help="revisions, their shares and tags, and the roll-out")
    _add_service(listing)
    listing.set_defaults(run=_list)

    promote = verbs.add_parser("promote", help="give all traffic to a revision at once; ends a roll-out")
    _add_service(promote)
    promote.add_argument("revision", nargs="?", metavar="REVISION", help="(default: the latest ready one)")
    _add_dry_run(promote)
    promote.set_defaults(run=_promote)

    rollback = verbs.add_parser("rollback", help="give all traffic back to the revision that served before")
    _add_service(rollback)
    _add_dry_run(rollback)
    rollback.set_defaults(run=_rollback)

    _add_rollout(verbs.add_parser("rollout", help="move traffic in steps, as errors, latency and rewards allow"))


def _add_service(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SERVICE", help="the Knative Service")
    parser.add_argument("--namespace", "-n", metavar="NAME", help="(default: the context's, else knudge)")
    parser.add_argument("--context", metavar="NAME", help="of the kubeconfig (default: the current one)")


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, write nothing")


def _add_rollout(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Move traffic from the serving revision to the new one in steps, and decide before each by errors, latency and "
        "rewards: forward, hold or back. Called again, from anywhere, it goes on where it was. Ends with status 0 when "
        f"the new revision is promoted or there is nothing to do, with {ROLLED_BACK} when it went back."
    )
    _add_service(parser)
    parser.add_argument("--to", metavar="REVISION", help="the new one (default: the latest ready one)")
    parser.add_argument("--from", dest="from_", metavar="REVISION", help="(default: the one that serves)")
    parser.add_argument("--steps", type=_shares, metavar="P,P", help="shares in percent (default: 5,20,50)")
    parser.add_argument("--margin", type=float, metavar="X", help="relative loss that is too much (default: 0.1)")
    parser.add_argument("--alpha", type=float, metavar="P", help="chance of a wrong verdict, each way (default: 0.02)")
    parser.add_argument(
        "--age", dest="age_s", type=float, metavar="S", help="at which rewards are compared (default: 300)"
    )
    parser.add_argument(
        "--policy", dest="policies", action="append", metavar="NAME", help="compare these alone; may be repeated"
    )
    parser.add_argument(
        "--compare",
        dest="compares",
        choices=("rewards", "health"),
        help="health: errors and latency alone (default: rewards for recommend, else health)",
    )
    parser.add_argument("--step-time", dest="step_s", type=float, metavar="S", help="least time a step (default: 120)")
    parser.add_argument(
        "--step-requests", type=int, metavar="N", help="least requests a step without rewards (default: 500)"
    )
    parser.add_argument(
        "--slow", dest="slow_s", type=float, metavar="S", help="a latency bucket's bound (default: 0.2)"
    )
    parser.add_argument("--every", type=_seconds, default=30.0, metavar="S", help="between looks (default: 30)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="one look and one move at most, for a schedule")
    how.add_argument("--stop", action="store_true", help="forget the roll-out; the traffic stays where it is")
    _add_dry_run(parser)
    parser.set_defaults(run=_rollout)


def _connect(arguments: argparse.Namespace) -> Cluster:
    from knative.revisions.cluster import Cluster

    return Cluster.connect(arguments.context, arguments.namespace)


def _list(arguments: argparse.Namespace) -> int:
    from knative.revisions.listing import table

    cluster = _connect(arguments)
    print("\n".join(table(cluster.service(arguments.service), cluster.revisions(arguments.service))))
    return 0


def _promote(arguments: argparse.Namespace) -> int:
    from knative.revisions.by_hand import promote

    print(promote(_connect(arguments), arguments.service, arguments.revision, dry_run=arguments.dry_run))
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    from knative.revisions.by_hand import roll_back

    print(roll_back(_connect(arguments), arguments.service, dry_run=arguments.dry_run))
    return 0


def _rollout(arguments: argparse.Namespace) -> int:
    if arguments.stop:
        from knative.revisions.by_hand import forget

        print(forget(_connect(arguments), arguments.service, dry_run=arguments.dry_run))
        return 0
    from knative.revisions.steering import Outcome, Steering

    options = {name: given for name in _OPTIONS if (given := getattr(arguments, name)) is not None}
    options.setdefault("compares", "rewards" if arguments.service == "recommend" else "health")
    if "policies" in options:
        options["policies"] = tuple(options["policies"])
    database_url = os.environ.get("KNUDGE_DATABASE_URL", "").strip()
    rewards = None
    if database_url:
        from shared.storage.postgres_revisions import RevisionRewards

        rewards = RevisionRewards(database_url)
    steering = Steering(_connect(arguments), arguments.service, rewards, _say, dry_run=arguments.dry_run)
    outcome = steering.begin(options, arguments.to, arguments.from_)
    if not arguments.once:
        outcome = _until_a_verdict(steering, outcome, arguments.every)
    return ROLLED_BACK if outcome is Outcome.ROLLED_BACK else 0


def _until_a_verdict(steering: Steering, outcome: Outcome, every_s: float) -> Outcome:
    """Look again and again; a cluster or a database that is away is waited for, Ctrl-C leaves all as it is after the look under way."""
    from knative.revisions.failure import Busy, NoAnswer, WriteConflict
    from knative.revisions.steering import Outcome

    with _interruptions() as interrupted:
        while outcome is Outcome.GOING:
            if interrupted.wait(every_s):
                _say("the roll-out stays at this step; the same command goes on with it, `--stop` forgets it")
                raise KeyboardInterrupt
            try:
                outcome = steering.go_on()
            except (Busy, NoAnswer, WriteConflict) as error:
                _say(error.detail)
    return outcome


@contextmanager
def _interruptions() -> Iterator[Event]:
    """Lend what the first Ctrl-C sets, so that it is neither lost in a destructor nor cuts a write in two; the second raises."""
    interrupted = Event()

    def note(*_: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _say(line: str) -> None:
    prefix = "" if line.startswith(" ") else f"{time.strftime('%H:%M:%S')} "
    print(f"{prefix}{line}", flush=True)


def _shares(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        message = f"{text!r} is not a list of whole percents such as 5,20,50"
        raise argparse.ArgumentTypeError(message) from None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86_400:  # noqa: PLR2004 - a day
        message = f"{text!r} is not a time in seconds, above 0 and at most a day"
        raise argparse.ArgumentTypeError(message)
    return value
