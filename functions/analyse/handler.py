"""The use case of `analyse`: what an experiment shows is computed from what its units did, kept, and told when it changes.

Results are computed afresh for whoever asks, one computation at a time for each experiment and phase, which all who ask meanwhile share,
and for some seconds after. Only analyses that an event asked for are kept: they make the course of the results.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from shared.edge.result_contracts import CoursePoint, ExperimentDecided, Results
from shared.edge.runs import Runs
from shared.edge.sink import Sink
from shared.errors import Unavailable
from shared.events.types import EXPERIMENT_DECIDED
from shared.experiments.plan import Verdict
from shared.identity import content_identity
from shared.ports import Clock
from shared.settings import Settings
from shared.storage.postgres_connection import Pool
from shared.storage.postgres_experiments import ExperimentStore
from shared.storage.postgres_metrics import Units, read_units
from shared.storage.postgres_results import Phase, ResultsStore
from shared.storage.publication import publish_experiments
from shared.storage.redis_connection import Redis

if TYPE_CHECKING:
    from functions.analyse.judging import Judged

SETTLE_S = 60.0
"""How long what users did may be under way: results speak of the time up to so long ago."""
CACHE_S = 10.0
"""For how long results are answered again as they are."""
_AT_ONCE = 2
"""How many experiments are analysed at once: each holds its units in memory and a core while it is judged."""
_MOST_CACHED = 100
ACTOR = "knudge/analyse"
"""Who stops experiments whose guardrails are crossed."""
UNDECIDED: Verdict = "keep_running"
"""The verdict before the first."""

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class _Computed(NamedTuple):
    task: asyncio.Task[Judged]
    until: float


class Analyst:
    """Analyses experiments."""

    def __init__(self, settings: Settings, pool: Pool, client: Redis, sink: Sink, clock: Clock) -> None:
        """Read from PostgreSQL and keep results there, tell the sink where there is one."""
        self._has_sink = bool(settings.k_sink)
        self._pool = pool
        self._client = client
        self._sink = sink
        self._clock = clock
        self._store = ResultsStore(pool)
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._computed: dict[tuple[str, int | None], _Computed] = {}
        self._runs = Runs[str | None, None](self._run)

    async def results(self, key: str, phase: int | None = None) -> Results:
        """Return what an experiment shows, in its newest phase where none is named. Raises `UnknownExperiment`, `Unavailable`."""
        now = self._clock()
        for name, earlier in list(self._computed.items()):
            if earlier.until < now and earlier.task.done():
                del self._computed[name]
        known = self._computed.get((key, phase))
        if known is None:
            task = asyncio.create_task(self._fresh(key, phase))
            known = _Computed(task, now + CACHE_S)
            if len(self._computed) < _MOST_CACHED:
                self._computed[key, phase] = known
        try:
            results = (await asyncio.shield(known.task)).results
        except Exception:
            if self._computed.get((key, phase)) is known:
                del self._computed[key, phase]  # the next one tries again
            raise
        course = await self._store.course(key, results.phase)
        return msgspec.structs.replace(results, course=msgspec.convert(course, tuple[CoursePoint, ...]))

    async def analyse_all(self) -> None:
        """Analyse and keep every running experiment; raises what went wrong with the first that failed, after the others.

        Who asks meanwhile is answered by the next analysis, which all of them share; so it is with one experiment.
        """
        await self._runs.asked(None)

    async def analyse(self, key: str) -> None:
        """Analyse an experiment and keep what it shows; tell the sink where the verdict is another than the last one kept.

        Told first and kept then, under a lock and with an id that the last kept analysis determines: where keeping fails, the next
        analysis tells the same event again, which its recipients drop. A crossed guardrail stops the experiment, where its plan says
        so, before the analysis is kept. Raises `UnknownExperiment`, `Unavailable`.
        """
        await self._runs.asked(key)

    async def _run(self, key: str | None) -> None:
        await (self._analyse_all() if key is None else self._analyse(key))

    async def _analyse_all(self) -> None:
        failed: list[Exception] = []
        for key in await self._store.running():
            try:
                await self.analyse(key)
            except Unavailable as error:
                failed.append(error)
            except Exception as error:
                _log.exception("an experiment is not analysed", extra={"knudge": {"experiment": key}})
                failed.append(error)
        if failed:
            raise failed[0]

    async def _analyse(self, key: str) -> None:
        results, stop = await self._fresh(key, None)
        async with self._store.keeping(key, results.phase) as keeping:
            before = keeping.verdict or UNDECIDED
            if results.verdict != before:
                await self._tell(results, before, keeping.analysed_at, stopped=stop)
            analysed_at = results.analysed_at.timestamp()
            if stop:
                await self._stop(results)
            await keeping.keep(results.version, analysed_at, results.verdict, _encode(results))
        _log.info("analysed", extra={"knudge": {"experiment": key, "verdict": results.verdict, "units": results.units}})

    async def _tell(self, results: Results, before: Verdict, since: float | None, *, stopped: bool) -> None:
        """Tell that the verdict is another than `before`, which was last kept at `since`. Raises `Unavailable`."""
        decided = ExperimentDecided(
            results.experiment,
            results.version,
            results.phase,
            results.verdict,
            before,
            results.variation,
            results.reasons,
            results.analysed_at,
            stopped=stopped,
        )
        change = f"{results.experiment}\0{results.phase}\0{since}\0{results.verdict}"
        identity = content_identity(change.encode())
        if self._has_sink and not await self._sink.send(EXPERIMENT_DECIDED, decided, event_id=identity):
            raise Unavailable(f"the sink did not take {EXPERIMENT_DECIDED}; the analysis is not kept")

    async def _stop(self, results: Results) -> None:
        """Stop an experiment, unless a new phase has begun meanwhile, and publish that where Redis answers; the learner does later."""
        store = ExperimentStore(self._pool)
        if (await store.read(results.experiment)).spec.phase != results.phase:
            return
        await store.stop(results.experiment, None, ACTOR)
        _log.warning("a guardrail stops an experiment", extra={"knudge": {"experiment": results.experiment}})
        try:
            await publish_experiments(self._pool, self._client)
        except Unavailable as error:
            _log.warning("not published yet", extra={"knudge": {"error": error.detail}})

    async def _fresh(self, key: str, phase: int | None) -> Judged:
        known = await self._store.phase(key, phase)
        async with self._at_once:
            now = self._clock()
            as_of = now - SETTLE_S if known.ended_at is None else min(known.ended_at, now - SETTLE_S)
            units = await read_units(self._pool, known.spec, as_of)
            return await asyncio.to_thread(_judged, known, units, now, as_of)


def _judged(known: Phase, units: Units, now: float, as_of: float) -> Judged:
    from functions.analyse.judging import judged  # brings SciPy, off the start-up path and off the loop's thread

    return judged(known, units, now, as_of)
