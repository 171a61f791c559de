"""What an analysis costs (`make bench-analysis`): reading what the units of an experiment did from a real PostgreSQL, and judging it.

Seconds of one core, by the processes' own clocks, so that what else the machine does matters little.
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from pathlib import Path

import psycopg

from functions.analyse.judging import judged
from functions.local.servers import LocalServers
from shared.experiments.experiment import ExperimentSpec, Variation
from shared.experiments.plan import AnalysisPlan, Metric
from shared.storage.migrate import migrate
from shared.storage.postgres_connection import open_pool
from shared.storage.postgres_metrics import read_units
from shared.storage.postgres_results import Phase

SIZES = ((200_000, 1_000_000), (1_000_000, 1_000_000))
"""Units, and decisions with feedback."""
DAY_S = 86_400.0
WEEKS = 4
TICKS_S = 0.01
METRICS = (
    Metric("conversion", "click"),
    Metric("revenue", "purchase", kind="mean", covariate_s=7 * DAY_S, winsorise=0.99),
    Metric("purchases a decision", "purchase", kind="ratio", denominator="decisions"),
    Metric("order value", "purchase", kind="ratio", denominator="purchase"),
    Metric("large orders", "purchase", kind="quantile", quantile=0.9),
)
FILL = """
insert into exposures
select %(key)s, 1, md5(i::text), case when random() < 0.5 then 'off' else 'on' end, md5(i::text),
       to_timestamp(%(began)s) + make_interval(secs => i::float8 / %(units)s * 14 * 86400),
       jsonb_build_object('country', (array['at', 'ch', 'de'])[1 + i %% 3]), null, 'r', 'bench'
from generate_series(1, %(units)s) i;
insert into decisions (decided_at, decision_id, policy, policy_version, snapshot_version, actions, propensities, context,
                       user_pseudonym, deferred, degraded, origin, revision, actor)
select to_timestamp(%(began)s) + make_interval(secs => random() * 21 * 86400), gen_random_uuid(), 'p', 1, 1, array['a'], array[0.5],
       '{"device": "phone", "age": 31}', md5((1 + floor(random() * %(units)s))::int::text), false, false, 'served', 'r', 'bench'
from generate_series(1, %(decisions)s);
insert into feedback
select decided_at, decision_id, 'bench', decision_id::text, case when random() < 0.3 then 'purchase' else 'click' end, random() * 10,
       null, decided_at + interval '1 minute', decided_at, 'bench', null
from decisions;
insert into user_feedback
select user_pseudonym, 'bench', decision_id::text, 'purchase', random(), decided_at, decided_at, 'bench'
from decisions where random() < 0.1;
vacuum analyze
"""


def main() -> None:
    """Print a line for each size."""
    print(
        f"{'units':>10} {'decisions':>10} {'PostgreSQL':>11} {'reading':>8} {'judging':>8} {'five looks':>11} {'MB':>5}"
    )
    for units, decisions in SIZES:
        with tempfile.TemporaryDirectory() as folder, LocalServers.start(Path(folder) / "servers") as servers:
            migrate(servers.database_url)
            now = time.time()
            fill(servers, units, decisions, now)
            asyncio.run(measure(servers, units, decisions, now))


def fill(servers: LocalServers, units: int, decisions: int, now: float) -> None:
    """Write three weeks of an experiment whose units came in the first two."""
    given = {"key": "bench", "units": units, "decisions": decisions, "began": now - 21 * DAY_S}
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        for week in range(WEEKS):
            connection.execute("select ensure_partition(to_timestamp(%s))", [now - 7 * week * DAY_S])
        for statement in FILL.split(";"):
            connection.execute(statement.encode(), given if "%(" in statement else None)


async def measure(servers: LocalServers, units: int, decisions: int, now: float) -> None:
    """Read and judge once, and print what that took."""
    async with open_pool(servers.database_url, 1) as pool:
        async with pool.connection() as lent:
            row = await (await lent.execute("select pg_backend_pid() as process")).fetchone()
            assert row is not None
        before = ticks(row["process"]), time.process_time()
        read = await read_units(pool, spec("sequential"), now)
        server_s, reading_s = ticks(row["process"]) - before[0], time.process_time() - before[1]
    took = []
    for plan in (spec("sequential"), spec("group_sequential")):
        began = time.process_time()
        assert judged(Phase(plan, now - 21 * DAY_S, None), read, now, now).results.units == units
        took.append(time.process_time() - began)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{units:10,} {decisions:10,} {server_s:9.1f} s {reading_s:6.1f} s {took[0]:6.1f} s {took[1]:9.1f} s {megabytes:5}",
        flush=True,
    )


def spec(inference: str) -> ExperimentSpec:
    """Return the experiment with five metrics and strata."""
    plan = AnalysisPlan(metrics=METRICS, strata="country", inference=inference, planned_units=100_000)  # type: ignore[arg-type]
    return ExperimentSpec("bench", 1, (Variation("off"), Variation("on")), analysis=plan)


def ticks(process: int) -> float:
    """Return the seconds of processor time that a process has had."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICKS_S


if __name__ == "__main__":
    main()
