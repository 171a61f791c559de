"""The table of revisions."""

from __future__ import annotations

import msgspec

from knative.revisions.listing import table
from knative.revisions.plan import Plan
from knative.revisions.rollout import begin, encode, ended
from knative.revisions.traffic import Target
from knative.revisions.views import Revision, Service

REVISIONS = [
    Revision("web-2", 9_000.0, 2, None, "Deploying", "knudge:2"),
    Revision("web-1", 1_000.0, 1, True, "", "knudge:1"),
]
TARGETS = (Target(20, "web-2"), Target(80, "web-1", "stable"), Target(0, None, "preview"))


def shown(state: str | None, targets: tuple[Target, ...] = TARGETS) -> list[str]:
    """Return the lines for a Service in that state."""
    return table(Service("web", "7", targets, {"web-1": 80, "web-2": 20}, "web-2", "web-2", state, 10_000.0), REVISIONS)


def test_every_revision_has_a_line() -> None:
    """Newest first, with age, readiness and its reason, share and tags; a tag that follows the latest one stands there."""
    assert shown(None) == [
        "REVISION  AGE  READY          SHARE  TAGS     IMAGE",
        "web-2     16m  ? (Deploying)  20 %   preview  knudge:2",
        "web-1     2h   yes            80 %   stable   knudge:1",
    ]


def test_what_is_wanted_and_not_yet_routed_is_seen() -> None:
    """A share that Knative has not set up yet is shown with what is."""
    lines = shown(None, (Target(100),))
    assert "100 % (20 now)" in lines[1]
    assert lines[-1] == "100 % follow the latest ready revision"


def test_a_rollout_is_told_in_words() -> None:
    """Where it is, since when, and why; what has ended says how."""
    state = begin(Plan("web-1", "web-2", steps=(20, 50)), {}, 9_900.0)
    assert shown(encode(state))[3] == "roll-out of web-2 from web-1: step 1 of 2 (20 %) since 1970-01-01 02:45:00 UTC"
    back = ended(msgspec.structs.replace(state), "rolled_back", 9_950.0, "errors rose")
    assert shown(encode(back))[3:] == [
        "roll-out of web-2 from web-1: rolled back since 1970-01-01 02:45:50 UTC: errors rose"
    ]
    assert "cannot be read" in shown("{")[3]
