"""The rule by which decisions are closed, as it is said in Python, against the queries that close them."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np
import pytest

from functions.local.servers import LocalServers
from shared.policies.closing import OpenDecisions, OpenEpisodes, waits_s
from shared.policies.ordered_kinds import LEARNERS
from shared.storage.postgres_connection import connection, open_pool
from shared.storage.postgres_learning import LearningTransaction
from tests.integration.test_sessions import at
from tests.stage import Stage, run

TIMEOUT_S, LONGEST, AT_ONCE = 5.0, 4, 7
POLICIES: dict[str, dict[str, Any]] = {
    "q_learning": {"state": {"page": {"categories": ["x"]}}, "session_timeout_s": TIMEOUT_S},
    "logistic_thompson": {"features": {"hash_dimension": 2}},
}


async def reported(stage: Stage, policy: str, begin: float, seed: int) -> None:
    """Report decisions of a few sessions, at whole seconds, so that pauses and ages fall on the limits; some have no session."""
    random = np.random.default_rng(seed)
    rows = [
        {
            "policy": policy,
            "action": "a",
            "propensity": 0.5,
            "context": {"page": "x"},
            "occurred_at": at(begin + int(random.integers(0, 120))),
            "decision_id": f"{policy}-{seed}-{number}",
        }
        | ({"session_id": f"s-{random.integers(12)}"} if random.random() < 0.8 else {})
        for number in range(150)
    ]
    answer = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": rows})
    assert answer.status == 200, answer


@pytest.mark.parametrize("window_s", [2.0, TIMEOUT_S, 20.0])
@pytest.mark.parametrize("kind", POLICIES)
def test_memory_and_sql_close_alike(
    servers: LocalServers, monkeypatch: pytest.MonkeyPatch, kind: str, window_s: float
) -> None:
    """Look after look, the same decisions are closed in the same order, and episodes or batches end at the same ones."""
    monkeypatch.setattr("shared.storage.postgres_ordered.CLOSED_AT_ONCE", AT_ONCE)
    monkeypatch.setattr("shared.storage.postgres_ordered.LONGEST_EPISODE", LONGEST)
    learner = LEARNERS[kind]

    async def play(stage: Stage) -> None:
        policy = await stage.policy(kind=kind, actions=["a", "b"], reward_window_s=86_400.0, **POLICIES[kind])
        begin = float(int(time.time()) - 1_000)
        await reported(stage, policy, begin, int(window_s))
        await stage.learn(policy)
        log = stage.sql(
            "select extract(epoch from decided_at)::float8 as moment, decision_id::text as name, session_pseudonym as session"
            " from decisions where policy = %s order by decided_at, decision_id",
            policy,
        )
        assert len(log) == 150
        opened = (
            OpenEpisodes(max(window_s, TIMEOUT_S), TIMEOUT_S, LONGEST)
            if learner.EPISODIC
            else OpenDecisions(window_s, AT_ONCE)
        )
        expected, looks = [], 0
        async with (
            open_pool(stage.servers.database_url, 1) as pool,
            connection(pool) as lent,
            lent.transaction(force_rollback=True),
        ):
            work = LearningTransaction(lent, policy)
            spec = msgspec.structs.replace((await work.lock()).spec, reward_window_s=window_s)
            assert waits_s(learner, spec) == (max(window_s, TIMEOUT_S) if learner.EPISODIC else window_s)
            for now in np.arange(begin, begin + 170, 9.0).tolist():
                # in memory a log comes as it goes on, in storage all of it is there
                while log and log[0]["moment"] <= now:
                    row = log.pop(0)
                    opened.add(row["moment"], row["name"], row["session"])
                expected += opened.closed(now)
                while (await work.ordered.close(spec, now)).more:
                    pass
                cursor = await lent.execute(
                    "select decision_id::text as name, ends from learned_order where policy = %s and place is not null"
                    " order by place",
                    (policy,),
                )
                found = [(row["name"], row["ends"]) for row in await cursor.fetchall()]
                assert found == [(one.decision_id, one.ends) for one in expected], now
                looks += bool(found) and len(found) < 150
        assert len(expected) == 150
        assert looks > 5
        assert len({one.ends for one in expected}) == 2

    run(servers, play)
