"""Whatever the traffic was, a move leaves it valid, moves what it should, and keeps what is not its own."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from knative.revisions.traffic import Target, Targets, all_to, read_targets, shares, steer, tags, written
from shared.errors import Conflict, InvalidInput
from tests.fake_kubernetes import traffic_faults

NEW, SERVING, LATEST = "web-00003", "web-00002", "web-00004"
NAMES = ["web-00001", SERVING, NEW, LATEST, None]


@st.composite
def traffic(draw: st.DrawFn) -> Targets:
    """Draw any traffic that Knative accepts, entries of one revision several times and useless ones included."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=7))
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=len(names) - 1, max_size=len(names) - 1)))
    percents = [high - low for low, high in zip([0, *cuts], [*cuts, 100], strict=True)]
    tagged = draw(st.lists(st.booleans(), min_size=len(names), max_size=len(names)))
    targets = tuple(
        Target(percent, name, f"tag-{at}" if tag else None)
        for at, (percent, name, tag) in enumerate(zip(percents, names, tagged, strict=True))
    )
    assert traffic_faults(written(targets)) == []
    return targets


def tag_to_revision(targets: Targets) -> dict[str, str | None]:
    """Return what each tag stands for; None is "the latest one"."""
    return {target.tag: target.revision for target in targets if target.tag}


@given(traffic(), st.integers(0, 100), st.sampled_from([NEW, SERVING, LATEST, "web-00001"]))
def test_a_step_is_valid_and_keeps_what_is_not_its_own(targets: Targets, percent: int, latest: str) -> None:
    """Any traffic stays valid; tags mean what they meant; third revisions keep their shares; the two keep their sum."""
    before = shares(targets, latest)
    both = before.get(NEW, 0) + before.get(SERVING, 0)
    assume(both)
    after = steer(targets, latest=latest, new=NEW, serving=SERVING, percent=percent)
    assert traffic_faults(written(after)) == []
    assert tag_to_revision(after) == tag_to_revision(targets)
    now = shares(after, None)  # nothing with a share follows the latest revision any more
    assert sum(now.values()) == 100
    assert now.get(NEW, 0) == min(percent, both)
    assert now.get(SERVING, 0) == both - min(percent, both)
    others = before.keys() - {NEW, SERVING}
    assert {name: now.get(name, 0) for name in others} == {name: before[name] for name in others}


@given(traffic(), st.integers(0, 100))
def test_a_step_repeated_changes_nothing(targets: Targets, percent: int) -> None:
    """Steering to where it is already gives the same list, so that a run that resumes writes nothing new."""
    assume(any(target.percent and target.revision in {NEW, SERVING} for target in targets))
    once = steer(targets, latest=LATEST, new=NEW, serving=SERVING, percent=percent)
    assert steer(once, latest=LATEST, new=NEW, serving=SERVING, percent=percent) == once


@given(traffic(), st.lists(st.integers(0, 100), min_size=1, max_size=6))
def test_a_rollout_does_not_pile_up_entries(targets: Targets, steps: list[int]) -> None:
    """However many steps there are, a revision has one entry without a tag at most, and no useless one is left."""
    assume(any(target.percent and target.revision in {NEW, SERVING} for target in targets))
    for percent in steps:
        targets = steer(targets, latest=LATEST, new=NEW, serving=SERVING, percent=percent)
    untagged = Counter(target.revision for target in targets if target.tag is None)
    assert untagged[NEW] <= 1
    assert untagged[SERVING] <= 1
    assert all(target.percent for target in targets if target.tag is None and target.revision in {NEW, SERVING})


@given(traffic(), st.sampled_from([NEW, SERVING, "web-00001"]))
def test_everything_to_one_revision(targets: Targets, revision: str) -> None:
    """It has 100 percent by its name, nobody else has any, and every tag is kept."""
    after = all_to(targets, revision)
    assert traffic_faults(written(after)) == []
    assert tag_to_revision(after) == tag_to_revision(targets)
    assert shares(after, "web-00009") == {revision: 100}


@given(traffic())
def test_reading_what_was_written(targets: Targets) -> None:
    """A list survives being written and read."""
    assert read_targets(written(targets)) == targets


def test_an_ordinary_deployment_is_pinned() -> None:
    """All traffic on the latest revision becomes two names, so that a deployment in between takes nothing."""
    after = steer(read_targets(None), latest=NEW, new=NEW, serving=SERVING, percent=5)
    assert written(after) == [
        {"latestRevision": False, "percent": 5, "revisionName": NEW},
        {"latestRevision": False, "percent": 95, "revisionName": SERVING},
    ]


def test_a_tag_that_follows_the_latest_revision_goes_on_doing_so() -> None:
    """Its share is pinned by an entry of its own, and a tagged latest entry without a share stays as it is."""
    targets = (Target(100, None, "current"), Target(0, None, "preview"), Target(0, SERVING, "stable"))
    after = steer(targets, latest=NEW, new=NEW, serving=SERVING, percent=20)
    assert after == (
        Target(0, None, "current"),
        Target(20, NEW),
        Target(0, None, "preview"),
        Target(80, SERVING, "stable"),
    )
    assert tags(after, NEW) == {NEW: ["current", "preview"], SERVING: ["stable"]}


def test_a_share_stays_in_the_tagged_entry_that_carries_it() -> None:
    """Where a revision's entry has tag and percent it stays one entry."""
    targets = (Target(10, NEW, "canary"), Target(90, SERVING))
    assert steer(targets, latest=NEW, new=NEW, serving=SERVING, percent=50) == (
        Target(50, NEW, "canary"),
        Target(50, SERVING),
    )
    assert steer(targets, latest=NEW, new=NEW, serving=SERVING, percent=0) == (
        Target(0, NEW, "canary"),
        Target(100, SERVING),
    )


def test_members_that_are_not_known_are_kept() -> None:
    """A field of a newer Knative is not lost by a move."""
    targets = read_targets([{"revisionName": SERVING, "percent": 100, "headers": {"a": "b"}}])
    after = written(steer(targets, latest=NEW, new=NEW, serving=SERVING, percent=1))
    assert after[0]["headers"] == {"a": "b"}


def test_a_move_that_makes_no_sense_is_refused() -> None:
    """Without any traffic of the two there is nothing to share; a revision cannot take over from itself."""
    with pytest.raises(Conflict, match="neither web-00002 nor web-00003 has traffic"):
        steer((Target(100, "web-00001"),), latest=NEW, new=NEW, serving=SERVING, percent=5)
    with pytest.raises(Conflict, match="none is ready"):
        steer((Target(100),), latest=None, new=NEW, serving=SERVING, percent=5)
    with pytest.raises(InvalidInput) as caught:
        steer((Target(100, NEW),), latest=NEW, new=NEW, serving=NEW, percent=5)
    assert caught.value.field == "to"
    with pytest.raises(InvalidInput) as caught:
        steer((Target(100, NEW),), latest=NEW, new=NEW, serving=SERVING, percent=101)
    assert caught.value.field == "percent"
