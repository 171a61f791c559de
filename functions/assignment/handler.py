"""The use case of `assignment`: say from the catalogue at hand what a user gets, and record what the user is shown.

Neither PostgreSQL nor a healthy Redis is needed to answer: without the journal, or without what sticks to the user, the answer
is degraded. A process that never had a catalogue has nothing to say: whoever asks takes a default of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter

import msgspec

from functions.assignment.unit import Outlook, Shown, Unit, exposure_key, exposure_of, meant, sticking
from shared.edge.assignment_contracts import (
    AssignmentAnswer,
    AssignmentOut,
    AssignmentRequest,
    ExposureAnswer,
    ExposureIn,
)
from shared.edge.decoding import Bounds
from shared.errors import InvalidInput, KnudgeError, NoCatalogue
from shared.experiments.assigning import Assignment, Catalogue, Evaluation, Kept
from shared.experiments.assignment import NO_PREVIEW, Asked
from shared.experiments.compiled import hashed
from shared.experiments.experiment import USER_ID, Json
from shared.experiments.exposure import Exposure, StickyAssignment
from shared.identity import SEAL
from shared.observability.metrics import OTHER, Metrics
from shared.ports import Catalogues, Clock, ExposureJournal, Recorded, Stickies, Wakes
from shared.settings import Settings
from shared.vocabulary import Caller

CLOCK_SKEW_S = 60.0
"""How far a caller's clock may run ahead."""
_DAY_S = 86_400.0
Row = tuple[str, Exposure]
_NOTHING: Kept = {}
_SEALED = "a sealed name can be assigned nothing: only its pseudonym is known"


class Evaluated(msgspec.Struct, frozen=True):
    """What a user gets of flags and experiments, by which catalogue, and whether that is not certain, or not recorded."""

    catalogue: Catalogue
    evaluations: list[Evaluation]
    degraded: bool


class Assigner:
    """Answers for one process who sees what."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        catalogues: Catalogues,
        journal: ExposureJournal,
        stickies: Stickies,
        wakes: Wakes,
        clock: Clock,
    ) -> None:
        """Assign by `catalogues` and what sticks in `stickies`, append exposures to `journal`, and tell `wakes`."""
        self._key = settings.server_key.encode()
        self._revision = settings.k_revision
        self._retention_s = settings.retention_days * _DAY_S or float("inf")
        self._bounds = Bounds(settings)
        self._metrics = metrics
        self._catalogues = catalogues
        self._journal = journal
        self._stickies = stickies
        self._wakes = wakes
        self._clock = clock
        self._outlook = Outlook.on(Catalogue())

    async def assign(self, request: AssignmentRequest, caller: Caller) -> AssignmentAnswer:
        """Return what a user gets of experiments; where the user is shown it, once the journal holds it.

        Raises `NoCatalogue` where no catalogue is at hand.
        """
        started = perf_counter()
        self._check(request)
        outlook = self._outlook_now()
        catalogue = outlook.catalogue
        keys = request.experiments
        expose = keys is not None if request.expose is None else request.expose
        if keys is None:
            keys = outlook.offered
        unit = Unit(self._key, request.attributes, request.user_id)
        sticky, degraded = await self._sticky(outlook, unit, keys) if outlook.sticky else (_NOTHING, False)
        asked = Asked(unit.attributes, unit.pseudonym_of, sticky, NO_PREVIEW, {}, [])
        assignments = [catalogue.assigned(key, asked) for key in keys]
        shown = Shown(self._clock(), self._revision, caller.name) if expose else None
        rows, kept = self._consequences(outlook, unit, assignments, None if degraded else sticky, shown)
        if kept or rows:
            degraded |= not await self._settle(rows, kept)
        answers = [
            AssignmentOut(each.experiment, each.variation, each.value, each.in_experiment, each.reason)
            for each in assignments
        ]
        self._observe(assignments, started, degraded=degraded)
        return AssignmentAnswer(answers, degraded)

    async def evaluate(self, user_id: str, attributes: dict[str, Json], caller: Caller, key: str | None) -> Evaluated:
        """Evaluate a flag or an experiment, whose user is shown what is answered; or with None all of them, which exposes nobody.

        Raises `NoCatalogue` where no catalogue is at hand.
        """
        started = perf_counter()
        self._check_unit(user_id, "context.targetingKey", attributes, "context")
        outlook = self._outlook_now()
        catalogue = outlook.catalogue
        keys = [key] if key is not None else outlook.evaluated
        unit = Unit(self._key, attributes, user_id)
        sticky, degraded = await self._sticky(outlook, unit, keys) if outlook.sticky else (_NOTHING, False)
        evaluations = [catalogue.evaluate(each, unit.attributes, unit.pseudonym_of, sticky) for each in keys]
        assignments = [assignment for each in evaluations for assignment in each.assignments]
        shown = Shown(self._clock(), self._revision, caller.name) if key is not None else None
        rows, kept = self._consequences(outlook, unit, assignments, None if degraded else sticky, shown)
        if kept or rows:
            degraded |= not await self._settle(rows, kept)
        self._observe(assignments, started, degraded=degraded)
        return Evaluated(catalogue, evaluations, degraded)

    async def record(
        self, exposures: Sequence[ExposureIn], callers: Sequence[Caller], *, place: str = ""
    ) -> ExposureAnswer:
        """Record exposures: all of them or, where one is invalid, none; it is named by its index.

        `callers`: who says so, for each. `place`: where an exposure stands in what was sent, its index as `{}`. Raises
        `NoCatalogue` where no catalogue is at hand.
        """
        self._bounds.batch(len(exposures), "exposures")
        outlook = self._outlook_now()
        now = self._clock()
        for at, each in enumerate(exposures):
            try:
                self._check_exposure(each, outlook.catalogue, now)
            except KnudgeError as error:
                error.field = place.format(at) + (error.field or "")
                raise
        rows: list[Row] = []
        own: list[str] = []  # the exposures that were sent; further ones are to their holdouts
        degraded = False
        for each, caller in zip(exposures, callers, strict=True):
            unit = Unit(self._key, each.attributes, each.user_id)
            sticky, lacks = await self._sticky(outlook, unit, [each.experiment])
            assignment = _assignment_shown(outlook.catalogue, each, unit, sticky)
            exposed_at = now if each.occurred_at is None else each.occurred_at.timestamp()
            shown = Shown(exposed_at, self._revision, caller.name)
            if assignment.in_experiment:
                own.append(exposure_key(assignment))
            further, kept = self._consequences(outlook, unit, [assignment], None if lacks else sticky, shown)
            rows += further
            degraded |= lacks or not await self._keep(kept)
        recorded = await self._journalled(rows)
        new = {key for (key, _), is_new in zip(rows, recorded.new, strict=True) if is_new}
        accepted = len(new.intersection(own))
        return ExposureAnswer(accepted, len(own) - accepted, len(exposures) - len(own), degraded or not recorded.held)

    async def _sticky(self, outlook: Outlook, unit: Unit, keys: Iterable[str]) -> tuple[Kept, bool]:
        """Return what sticks to a unit, and whether that is not to be had though it matters."""
        units = unit.stuck_to(outlook, keys) if outlook.sticky else {}
        if not units:
            return {}, False
        found = await self._stickies.read(units)
        if found is None:
            self._wakes.exposures_due()  # an empty Redis is filled there
            return {}, True
        return found, False

    def _consequences(
        self, outlook: Outlook, unit: Unit, assignments: Sequence[Assignment], sticky: Kept | None, shown: Shown | None
    ) -> tuple[list[Row], list[StickyAssignment]]:
        """Return the exposures that are not in the journal yet, and what is to stick.

        `sticky`: None where it was not to be had: nothing is kept then, lest it replace what sticks.
        """
        rows: list[Row] = []
        kept: list[StickyAssignment] = []
        for assignment in assignments:
            for each in meant(outlook, unit, assignment, sticky or _NOTHING):
                if shown is not None and each.in_experiment:
                    key = exposure_key(each)
                    if not self._journal.holds(key):
                        rows.append((key, exposure_of(outlook, unit, each, shown)))
                if sticky is not None and each.kept is not None:
                    kept += sticking(unit, each)
        return rows, kept

    async def _settle(self, rows: list[Row], kept: list[StickyAssignment]) -> bool:
        """Keep what is to stick, and record what was shown; return whether all of it is held."""
        if not kept:
            return (await self._journalled(rows)).held
        stuck, recorded = await asyncio.gather(self._keep(kept), self._journalled(rows))
        return stuck and recorded.held

    async def _keep(self, kept: list[StickyAssignment]) -> bool:
        if not kept:
            return True
        held = await self._stickies.keep(kept)
        self._wakes.exposures_due()
        return held

    async def _journalled(self, rows: list[Row]) -> Recorded:
        recorded = await self._journal.record(rows)
        if any(recorded.new):
            self._wakes.exposures_due()
            for (_, exposure), is_new in zip(rows, recorded.new, strict=True):
                if is_new:
                    self._metrics.expose(exposure.experiment, exposure.variation)
        return recorded

    def _outlook_now(self) -> Outlook:
        catalogue = self._catalogues.held()
        if not self._catalogues.found:
            self._wakes.learning_due(None)  # whoever sweeps publishes what Redis lacks
            raise NoCatalogue("no catalogue of experiments is at hand yet; take a default, or try again")
        if catalogue is not self._outlook.catalogue:
            self._outlook = Outlook.on(catalogue)
        return self._outlook

    def _check(self, request: AssignmentRequest) -> None:
        self._check_unit(request.user_id, "user_id", request.attributes, "attributes")
        if request.experiments is not None:
            self._bounds.batch(len(request.experiments), "experiments")
            self._bounds.names(request.experiments, "experiments")

    def _check_unit(self, user_id: str, name: str, attributes: Mapping[str, Json], field: str) -> None:
        """Check a user id, called `name`, and attributes, called `field`."""
        self._bounds.string(user_id, name)
        if user_id.startswith(SEAL):
            raise InvalidInput(_SEALED, field=name)
        self._bounds.attributes(attributes, field)
        for attribute, value in attributes.items():
            if type(value) is str and value.startswith(SEAL):
                raise InvalidInput(_SEALED, field=f"{field}.{attribute}")
        _refuse_other_user(user_id, name, attributes, field)

    def _check_exposure(self, given: ExposureIn, catalogue: Catalogue, now: float) -> None:
        for field in ("experiment", "user_id", "variation"):
            self._bounds.string(getattr(given, field), field)
        self._bounds.attributes(given.attributes, "attributes")
        if given.user_id is not None:
            _refuse_other_user(given.user_id, "user_id", given.attributes, "attributes")
        experiment = catalogue.experiments.get(given.experiment)
        if experiment is None or experiment.spec.status == "draft":
            detail = f"there is no experiment {given.experiment!r}" if experiment is None else "is a draft"
            raise InvalidInput(detail, field="experiment")
        if given.variation is not None and given.variation not in experiment.value_of:
            detail = f"the experiment has no variation {given.variation!r}"
            raise InvalidInput(detail, field="variation")
        attributes = given.attributes if given.user_id is None else {**given.attributes, USER_ID: given.user_id}
        attribute, value = hashed(experiment.spec, attributes)
        if not value:
            field = "user_id" if attribute == USER_ID else f"attributes.{attribute}"
            raise InvalidInput("is required: the experiment splits by it", field=field)
        if value.startswith(SEAL) and given.variation is None:
            raise InvalidInput("is required with a sealed name: only its pseudonym is known", field="variation")
        if given.occurred_at is not None:
            moment = given.occurred_at.timestamp()
            if not max(now - self._retention_s, 0) <= moment <= now + CLOCK_SKEW_S:
                raise InvalidInput("must not lie in the future, nor before what is kept", field="occurred_at")

    def _observe(self, assignments: Iterable[Assignment], started: float, *, degraded: bool) -> None:
        for each in assignments:
            if each.reason != "unknown":
                self._metrics.assign(each.experiment, each.variation, each.reason)
            else:
                self._metrics.assign(OTHER, None, each.reason)
        series = self._metrics.assigned_degraded if degraded else self._metrics.assigned
        series.observe(perf_counter() - started)


def _assignment_shown(catalogue: Catalogue, given: ExposureIn, unit: Unit, sticky: Kept) -> Assignment:
    """Return the assignment that an exposure means: the one that was made where it says no other; testers stay out."""
    experiment = catalogue.experiments[given.experiment]
    attribute, value = hashed(experiment.spec, unit.attributes)
    key, phase = given.experiment, experiment.spec.phase
    if not experiment.active:
        return Assignment(key, phase, None, None, False, "stopped")
    if value.startswith(SEAL):  # a hash of the sealed name would be another's
        return Assignment(key, phase, given.variation, None, True, "assigned", attribute, value)
    assignment = catalogue.assign(key, unit.attributes, unit.pseudonym_of, sticky)
    is_made = assignment.in_experiment and assignment.variation == given.variation
    if given.variation is None or is_made or assignment.reason == "forced":
        return assignment
    return assignment._replace(
        variation=given.variation, in_experiment=True, hash_attribute=attribute, hash_value=value, kept=None
    )


def _refuse_other_user(user_id: str, name: str, attributes: Mapping[str, Json], field: str) -> None:
    if attributes.get(USER_ID, user_id) != user_id:
        detail = f"differs from {name}"
        raise InvalidInput(detail, field=f"{field}.{USER_ID}")
