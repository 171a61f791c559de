"""Experiments that split a policy's calls: which policy decides a call, and what its decision belongs to.

A call is split by what it says itself (its context, its user and session) and the catalogue in memory: nothing is asked of
anybody. A process splits a policy's calls only while it holds the snapshots of all policies that the experiment names, so that no variation
is served more than another when one of them is missing; until then the policy decides, and no decision says that it was part of
the experiment.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from shared.edge.contracts import RecommendRequest
from shared.errors import UnknownPolicy
from shared.experiments.assigning import Assignment, Catalogue
from shared.identity import unit_pseudonym
from shared.ports import Catalogues, Snapshots
from shared.vocabulary import InExperiment

if TYPE_CHECKING:
    from shared.policies.choosing import Chooser

_log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """A call as it is decided: the request, to the policy that decides; its snapshot; and what the decision belongs to."""

    request: RecommendRequest
    chooser: Chooser | None
    experiment: InExperiment | None


class Split(NamedTuple):
    """An experiment that splits a policy's calls, of which catalogue, and the policies that it hands calls to."""

    catalogue: Catalogue
    experiment: str
    policies: tuple[str, ...]


class Splitter:
    """Splits the calls of one process by the catalogue that it holds."""

    def __init__(self, key: bytes, catalogues: Catalogues, snapshots: Snapshots) -> None:
        """Make pseudonyms by the server's key."""
        self._key = key
        self._catalogues = catalogues
        self._snapshots = snapshots
        self._catalogue = Catalogue()
        self._splits: Mapping[str, Split] = {}

    def of(self, policy: str) -> Split | None:
        """Return what splits the calls of a policy; None for nothing."""
        catalogue = self._catalogues.held()
        if catalogue is not self._catalogue:
            self._catalogue, self._splits = catalogue, _splits(catalogue)
        return self._splits.get(policy)

    async def split(self, split: Split, request: RecommendRequest, chooser: Chooser) -> Asked:
        """Return the call as its variation has it decided."""
        for policy in split.policies:
            if self._snapshots.held(policy) is None and not await self._found(policy):
                return Asked(request, chooser, None)
        attributes: dict[str, Any] = dict(request.context)
        if request.user_id is not None:
            attributes["user_id"] = request.user_id
        if request.session_id is not None:
            attributes["session_id"] = request.session_id
        assignment = split.catalogue.assign(split.experiment, attributes, self._pseudonym_of)
        decides = _policy_of(assignment.value) if assignment.variation is not None else None
        if decides is None or decides == request.policy:
            return Asked(request, chooser, self._belongs(assignment))
        request = msgspec.structs.replace(request, policy=decides)
        return Asked(request, self._snapshots.held(decides), self._belongs(assignment))

    def _belongs(self, assignment: Assignment) -> InExperiment | None:
        """Return what a decision belongs to: the experiment, or, for whoever is kept out of it, the holdout."""
        holdout = assignment.holdout
        if not assignment.in_experiment and holdout is None:
            return None
        unit = self._pseudonym_of(assignment.hash_attribute, assignment.hash_value)
        if not assignment.in_experiment or assignment.variation is None:
            return None if holdout is None else InExperiment(*holdout, unit)
        return InExperiment(assignment.experiment, assignment.phase, assignment.variation, unit, holdout)

    async def _found(self, policy: str) -> bool:
        try:
            return await self._snapshots.find(policy) is not None
        except UnknownPolicy:
            _log.warning("an experiment's policy is unknown", extra={"knudge": {"policy": policy}})
            return False

    def _pseudonym_of(self, attribute: str, value: str) -> str:
        return unit_pseudonym(self._key, attribute, value)


def _splits(catalogue: Catalogue) -> dict[str, Split]:
    """Return what splits each policy's calls: the experiment that is running, or the one that has released a variation."""
    released = {
        compiled.spec.policy: compiled
        for compiled in catalogue.experiments.values()
        if compiled.spec.policy is not None and compiled.spec.status == "stopped" and compiled.spec.released is not None
    }
    return {
        policy: Split(
            catalogue,
            compiled.spec.key,
            tuple({named for value in compiled.value_of.values() if (named := _policy_of(value))}),
        )
        for policy, compiled in {**released, **catalogue.by_policy}.items()
    }


def _policy_of(value: Any) -> str | None:  # noqa: ANN401
    """Return the policy that a variation's value names."""
    named = value.get("policy") if isinstance(value, Mapping) else None
    return named if isinstance(named, str) else None
