"""The revisions of a Service as a table, and its roll-out in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from knative.revisions.rollout import State, decode
from knative.revisions.traffic import tags
from knative.revisions.views import Revision, Service
from shared.errors import Misconfigured

_HEAD = ("REVISION", "AGE", "READY", "SHARE", "TAGS", "IMAGE")


def table(service: Service, revisions: Sequence[Revision]) -> list[str]:
    """Return the lines of the table, the newest revision first, and below them the roll-out, if there is one."""
    revision_to_tags = tags(service.targets, service.latest_ready)
    rows = [_HEAD]
    for revision in revisions:
        age_s = service.read_at - revision.created_at
        own = ",".join(revision_to_tags.get(revision.name, [])) or "-"
        share = _share(service, revision.name)
        rows.append((revision.name, age(age_s), _ready(revision), share, own, revision.image))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    follows = [target for target in service.targets if target.revision is None and target.percent]
    if follows:
        lines.append(f"{follows[0].percent} % follow the latest ready revision")
    return [*lines, *rollout_in_words(service)]


def rollout_in_words(service: Service) -> list[str]:
    """Return what the annotation says."""
    if service.state is None:
        return []
    try:
        state = decode(service.state)
    except Misconfigured as error:
        return [error.detail]
    since = datetime.fromtimestamp(state.changed_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    pair = f"{state.plan.candidate} from {state.plan.serving}"
    if state.phase != "running":
        return [f"roll-out of {pair}: {state.phase.replace('_', ' ')} since {since}: {state.reason}"]
    place = f"step {state.step + 1} of {len(state.plan.steps)} ({state.share} %)"
    return [f"roll-out of {pair}: {place} since {since}{': ' if state.reason else ''}{state.reason}", *_health(state)]


def age(seconds: float) -> str:
    """Return an age as kubectl writes it.

    >>> age(42), age(600), age(7_300), age(300_000)
    ('42s', '10m', '2h', '3d')
    """
    for unit_s, name in ((86_400, "d"), (3_600, "h"), (120, "m")):
        if seconds >= unit_s:
            return f"{int(seconds // (60 if name == 'm' else unit_s))}{name}"
    return f"{max(int(seconds), 0)}s"


def _share(service: Service, name: str) -> str:
    wanted, routed = service.shares.get(name, 0), service.routed.get(name, 0)
    return f"{wanted} %" if wanted == routed else f"{wanted} % ({routed} now)"


def _ready(revision: Revision) -> str:
    return {True: "yes", False: "no", None: "?"}[revision.ready] + (f" ({revision.reason})" if revision.reason else "")


def _health(state: State) -> list[str]:
    return [f"    {state.errors.candidate_requests:,} requests of {state.plan.candidate} were seen"]
