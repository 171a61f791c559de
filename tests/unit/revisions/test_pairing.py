"""Which revision is new and which serves, where nobody says so."""

from __future__ import annotations

import msgspec
import pytest

from knative.revisions.failure import NotThere
from knative.revisions.pairing import Nothing, Pair, pair, served_before
from knative.revisions.plan import Plan
from knative.revisions.rollout import State
from knative.revisions.traffic import Target
from knative.revisions.views import Revision, Service
from shared.errors import InvalidInput


def revisions(count: int, **number_to_ready: bool | None) -> list[Revision]:
    """Return so many revisions, the newest first; `_2=False` makes the second one fail."""
    return [
        Revision(f"web-{n}", float(n), n, number_to_ready.get(f"_{n}", True), "" if f"_{n}" not in number_to_ready else "Broken", "image")
        for n in range(count, 0, -1)
    ]  # fmt: skip


def service(*targets: Target, latest: int = 3, created: int | None = None) -> Service:
    """Return a Service with this traffic; `latest` is the number of its latest ready revision."""
    return Service("web", "7", targets, {}, f"web-{latest}", f"web-{created or latest}", None, 1_000.0)


def judged(candidate: int, serving: int, phase: str) -> State:
    """Return what is remembered of a roll-out that has ended."""
    state = State(Plan(f"web-{serving}", f"web-{candidate}"), reason="so it was")
    return msgspec.structs.replace(state, phase=phase)


def test_a_new_revision_beside_a_pinned_one() -> None:
    """The latest ready one is new, the one with the largest share serves."""
    assert pair(service(Target(10, "web-1"), Target(90, "web-2")), revisions(3), None) == Pair("web-3", "web-2")


def test_an_ordinary_deployment_has_the_one_before_as_serving() -> None:
    """All traffic is on the latest one already: the previous ready revision is what it is compared with."""
    assert pair(service(Target(100)), revisions(3), None) == Pair("web-3", "web-2")
    assert pair(service(Target(100)), revisions(3, _2=False), None) == Pair("web-3", "web-1")


def test_a_revision_that_went_back_does_not_serve_after_an_ordinary_deployment() -> None:
    """What a roll-out remembers as serving comes before the order of the revisions."""
    assert pair(service(Target(100)), revisions(3), judged(2, 1, "rolled_back")) == Pair("web-3", "web-1")
    assert pair(service(Target(100)), revisions(3), judged(2, 1, "promoted")) == Pair("web-3", "web-2")


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (pair(service(Target(100, "web-3")), revisions(3), None), "serves already"),
        (pair(service(Target(90, "web-3"), Target(10, "web-1")), revisions(3), None), "serves already"),
        (pair(service(Target(100, "web-2")), revisions(3), judged(3, 2, "rolled_back")), "web-3 was rolled back"),
        (pair(service(Target(100, "web-2")), revisions(3), judged(3, 2, "promoted")), "web-3 was promoted"),
        (pair(service(Target(100, "web-1"), latest=2), revisions(3), judged(3, 1, "rolled_back")), "nothing newer"),
        (pair(service(Target(100, "web-2"), latest=2, created=3), revisions(3, _3=False), None), "Broken"),
        (pair(service(Target(100, "web-2"), latest=2, created=4), revisions(3), None), "nothing is known yet"),
        (pair(service(Target(100), latest=1), revisions(1), None), "no ready revision before web-1"),
    ],
)
def test_nothing_to_do_is_said(found: Pair | Nothing, reason: str) -> None:
    """What serves, was judged, is not ready or stands alone is not taken up, and the reason says which."""
    assert isinstance(found, Nothing)
    assert reason in found.reason


def test_a_newer_revision_is_taken_up_after_a_verdict() -> None:
    """What was judged is forgotten as soon as something newer is ready."""
    assert pair(service(Target(100, "web-1")), revisions(3), judged(2, 1, "rolled_back")) == Pair("web-3", "web-1")


def test_who_names_a_revision_gets_it() -> None:
    """`to` takes up again what went back; `from` says with whom to compare."""
    one = service(Target(100, "web-2"))
    assert pair(one, revisions(3), judged(3, 2, "rolled_back"), to="web-3") == Pair("web-3", "web-2")
    assert pair(one, revisions(3), None, from_="web-1") == Pair("web-3", "web-1")


def test_a_revision_that_cannot_serve_is_refused() -> None:
    """By the option that names it."""
    with pytest.raises(NotThere) as caught:
        pair(service(Target(100)), revisions(3), None, to="web-9")
    assert caught.value.field == "to"
    with pytest.raises(InvalidInput, match="web-3 is not ready: Broken") as refused:
        pair(service(Target(100, "web-2")), revisions(3, _3=False), None, to="web-3")
    assert refused.value.field == "to"
    with pytest.raises(InvalidInput, match="web-2 is not ready") as refused:
        pair(service(Target(100, "web-2")), revisions(3, _2=None), None)
    assert refused.value.field == "from"


def test_who_served_before() -> None:
    """The remembered one if it is ready and older, else the newest older one that is ready."""
    assert served_before(revisions(3), "web-3", judged(3, 1, "promoted")) == "web-1"
    assert served_before(revisions(3, _1=False), "web-3", judged(3, 1, "promoted")) == "web-2"
    assert served_before(revisions(3), "web-1", judged(3, 1, "rolled_back")) is None
    assert served_before(revisions(3), "web-2", None) == "web-1"
