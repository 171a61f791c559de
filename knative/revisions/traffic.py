"""The traffic of a Knative Service, as a list of targets: who has which share, and the list after a move. Pure.

What is not ours stays: tags, the shares of third revisions, targets that follow the latest revision for their tag.
Only one thing changes its nature: a target that follows the latest revision *and* carries a share is pinned to the
revision that it means now, for otherwise the next deployment would take that share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from shared.errors import Conflict, InvalidInput

Targets = tuple["Target", ...]
WHOLE = 100
_KNOWN = {"percent", "revisionName", "latestRevision", "tag"}


class Target(msgspec.Struct, frozen=True):
    """One entry of `spec.traffic`.

    `percent`: of all requests to the Service's own address. `revision`: None follows the latest ready one. `tag`: gives
    an address of its own. `more`: members that are not known here, kept.
    """

    percent: int = 0
    revision: str | None = None
    tag: str | None = None
    more: Mapping[str, Any] = {}


def read_targets(traffic: Sequence[Mapping[str, Any]] | None) -> Targets:
    """Return the targets of a manifest's `spec.traffic`; without any, all goes to the latest revision, as in Knative.

    >>> read_targets([{"revisionName": "web-1", "latestRevision": False, "percent": 100}])
    (Target(percent=100, revision='web-1', tag=None, more={}),)
    """
    if not traffic:
        return (Target(WHOLE),)
    return tuple(
        Target(
            percent=int(entry.get("percent") or 0),
            revision=entry.get("revisionName") or None,
            tag=entry.get("tag") or None,
            more={name: value for name, value in entry.items() if name not in _KNOWN},
        )
        for entry in traffic
    )


def written(targets: Targets) -> list[dict[str, Any]]:
    """Return the targets as `spec.traffic` wants them: `latestRevision` is true exactly where no revision is named.

    >>> written((Target(0, tag="preview"),))
    [{'latestRevision': True, 'percent': 0, 'tag': 'preview'}]
    """
    entries = []
    for target in targets:
        entry: dict[str, Any] = {**target.more, "latestRevision": target.revision is None, "percent": target.percent}
        if target.revision is not None:
            entry["revisionName"] = target.revision
        if target.tag is not None:
            entry["tag"] = target.tag
        entries.append(entry)
    return entries


def shares(targets: Targets, latest: str | None) -> dict[str, int]:
    """Return the percents of the revisions that have any; `latest`: the latest ready revision.

    >>> shares((Target(90, "web-1"), Target(10), Target(0, "web-3", "old")), "web-2")
    {'web-1': 90, 'web-2': 10}
    """
    revision_to_share: dict[str, int] = {}
    for target in targets:
        revision = target.revision or latest
        if target.percent and revision:
            revision_to_share[revision] = revision_to_share.get(revision, 0) + target.percent
    return revision_to_share


def tags(targets: Targets, latest: str | None) -> dict[str, list[str]]:
    """Return the tags of the revisions that have any."""
    revision_to_tags: dict[str, list[str]] = {}
    for target in targets:
        revision = target.revision or latest
        if target.tag and revision:
            revision_to_tags.setdefault(revision, []).append(target.tag)
    return revision_to_tags


def steer(targets: Targets, *, latest: str | None, new: str, serving: str, percent: int) -> Targets:
    """Give `percent` of all traffic to the revision `new`, and to `serving` the rest of what the two have together.

    Third revisions keep their shares, so `new` gets less than `percent` where the two have less. Raises `Conflict`
    where they have nothing.

    >>> before = (Target(90), Target(10, "web-1", "canary"))
    >>> written(steer(before, latest="web-2", new="web-3", serving="web-2", percent=5))[0]
    {'latestRevision': False, 'percent': 85, 'revisionName': 'web-2'}
    """
    if new == serving:
        raise InvalidInput(f"{new} cannot take over from itself", field="to")
    if not 0 <= percent <= WHOLE:
        raise InvalidInput(f"a share is from 0 to {WHOLE} percent, not {percent}", field="percent")
    pinned = tuple(_pinned(targets, latest))
    both = sum(target.percent for target in pinned if target.revision in {new, serving})
    if not both:
        others = ", ".join(f"{name} {share} %" for name, share in shares(pinned, latest).items())
        raise Conflict(
            f"neither {serving} nor {new} has traffic ({others}): another hand has moved it", field="traffic"
        )
    share = min(percent, both)
    return _give(_give(pinned, serving, both - share), new, share)


def all_to(targets: Targets, revision: str) -> Targets:
    """Give everything to one revision; all tags stay.

    >>> [(target.percent, target.revision) for target in all_to((Target(60), Target(40, "web-1", "old")), "web-2")]
    [(0, 'web-1'), (100, 'web-2')]
    """
    kept = tuple(_without_share(targets, revision))
    return _give(kept, revision, WHOLE)


def _pinned(targets: Targets, latest: str | None) -> Iterator[Target]:
    for target in targets:
        if target.revision is not None or not target.percent:
            yield target
            continue
        if latest is None:
            raise Conflict("traffic goes to the latest revision, and none is ready", field="traffic")
        if target.tag is None:
            yield msgspec.structs.replace(target, revision=latest)
        else:  # the tag goes on following the latest revision, the share does not
            yield msgspec.structs.replace(target, percent=0)
            yield Target(target.percent, latest)


def _without_share(targets: Targets, but: str) -> Iterator[Target]:
    for target in targets:
        if target.revision == but:
            yield target
        elif target.tag is not None:
            yield msgspec.structs.replace(target, percent=0)


def _give(targets: Targets, revision: str, percent: int) -> Targets:
    """Let one entry of a revision carry its whole share: the one that does already, else one without a tag."""

    def preference(at: int) -> tuple[bool, bool, int]:
        return (not targets[at].percent, targets[at].tag is not None, at)

    own = [at for at, target in enumerate(targets) if target.revision == revision]
    carrier = min(own, key=preference, default=None)
    given = list(_kept(targets, revision, carrier, percent))
    if carrier is None and percent:
        given.append(Target(percent, revision))
    return tuple(given)


def _kept(targets: Iterable[Target], revision: str, carrier: int | None, percent: int) -> Iterator[Target]:
    for at, target in enumerate(targets):
        share = percent if at == carrier else 0
        if target.revision != revision:
            yield target
        elif share or target.tag is not None:  # without share and tag an entry means nothing, and keeps pods alive
            yield msgspec.structs.replace(target, percent=share)
