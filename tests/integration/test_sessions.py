"""Sessions on real servers: what Q-learning learns from them, once, in an order that a refit repeats."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from functions.local.servers import LocalServers
from shared.policies.choosing import Chooser
from shared.policies.q_tables import unpack
from shared.policies.state_space import StateSpace
from shared.storage.postgres_connection import connection, open_pool
from shared.storage.postgres_learning import LearningTransaction
from shared.storage.postgres_ordered import Model
from shared.storage.postgres_retention import drop_expired
from shared.storage.redis_snapshots import decode_snapshot
from shared.vocabulary import Cells
from tests.stage import Stage, run

DAY_S = 86_400.0
PAGES = Cells(categories=("start", "rich", "dull"))
SPACE = StateSpace({"page": PAGES})
TRAP: dict[str, Any] = {
    "kind": "q_learning",
    "actions": ["bait", "plain"],
    "state": {"page": {"categories": list(PAGES.categories or ())}},
    "session_timeout_s": 1,
    "reward_window_s": 1,
    "parameters": {"exploration_visits": 5, "discount": 0.9, "initial_value": 0.0},
}
"""Bait earns more at once and spoils what comes next: 0.6 + 0.9 * 0 against 0.3 + 0.9 * 1."""


def next_page(action: str) -> str:
    """Return the page that an action on the first one leads to."""
    return "dull" if action == "bait" else "rich"


async def session(stage: Stage, policy: str, name: str) -> str:
    """Play a session of two decisions over HTTP; return what was chosen first."""
    first = await stage.recommend(policy, session_id=name, context={"page": "start"})
    action: str = first["items"][0]["action"]
    await stage.feedback(first["decision_id"], value=0.6 if action == "bait" else 0.3)
    page = next_page(action)
    second = await stage.recommend(policy, session_id=name, context={"page": page}, actions=["go on"])
    if page == "rich":
        await stage.feedback(second["decision_id"])
    return action


def at(moment: float) -> str:
    """Return a moment as requests write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f"{moment % 1:.6f}"[1:] + "Z"


async def logged(stage: Stage, policy: str, begin: float, sessions: Sequence[str], prefix: str = "s") -> list[str]:
    """Report sessions that were played elsewhere, a minute apart, each named by its first action; return the ids."""
    rows: list[dict[str, Any]] = []
    for number, action in enumerate(sessions):
        moment = begin + 60.0 * number
        common = {"policy": policy, "propensity": 0.5, "session_id": f"{prefix}-{number}"}
        for step, (page, chosen) in enumerate([("start", action), (next_page(action), "go on")]):
            rows.append(
                common
                | {
                    "action": chosen,
                    "context": {"page": page},
                    "occurred_at": at(moment + step),
                    "decision_id": f"{prefix}-{number}-{step}",
                    "actions": ["bait", "plain"] if step == 0 else ["go on"],
                }
            )
    answer = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": rows})
    assert answer.status == 200, answer
    ids: list[str] = answer.body["decision_ids"]
    for row, decision in zip(rows, ids, strict=True):
        value = {"bait": 0.6, "plain": 0.3}.get(row["action"], 1.0 if row["context"]["page"] == "rich" else 0.0)
        if value:
            await stage.feedback(decision, value=value, occurred_at=row["occurred_at"])
    return ids


async def models(stage: Stage, policy: str, *, refit: bool = False) -> tuple[bytes | None, bytes | None]:
    """Return the running model and the sealed one; `refit`: after a refit, which is undone."""
    async with (
        open_pool(stage.servers.database_url, 2) as pool,
        connection(pool) as lent,
        lent.transaction(force_rollback=True),
    ):
        work = LearningTransaction(lent, policy)
        state = await work.lock()
        if refit:
            await work.refit(state, state.posterior.as_of)
        known = await work.ordered.models()
        nothing = Model(state.spec)
        return known.get(False, nothing).model, known.get(True, nothing).model


def values(model: bytes | None, page: str) -> dict[str, Any]:
    """Return (Q, samples) of each action on a page."""
    assert model is not None
    row = unpack(model).rows.get(SPACE.state({"page": page}), {})
    return {action: ((pair[0] + pair[1]) / 2, pair[2] + pair[3]) for action, pair in row.items()}


def test_sessions_teach_what_a_bandit_cannot_learn(servers: LocalServers) -> None:
    """Over HTTP Q-learning comes to choose the action that earns less at once and more in the session; a bandit does not."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**TRAP)
        bandit = await stage.policy(actions=["bait", "plain"])
        for name in (policy, bandit):
            await asyncio.gather(*(session(stage, name, f"{name}-{number}") for number in range(40)))
            await stage.learn(name)
        assert (await models(stage, policy))[0] is None, "nothing is closed yet"
        await asyncio.sleep(1.1)
        await stage.learn(policy)
        snapshot = decode_snapshot((await stage.published(policy)) or b"")
        learned = values(snapshot.model, "start")
        assert learned["plain"][0] == pytest.approx(1.2, abs=0.2)
        assert learned["bait"][0] == pytest.approx(0.6)
        assert sum(samples for _, samples in learned.values()) == 40
        for _ in range(100):
            decision = await stage.recommend(policy, context={"page": "start"}, session_id="later")
            if decision["snapshot_version"] == snapshot.snapshot_version:
                break
            await asyncio.sleep(0.02)
        firsts = [await session(stage, policy, f"later-{number}") for number in range(40)]
        assert firsts.count("plain") >= 30
        means = (await stage.snapshot(bandit))["actions"]
        assert means["bait"]["mean"] > means["plain"]["mean"], "one decision at a time, bait is the better one"

    run(servers, play)


def test_a_refit_repeats_the_stored_order(servers: LocalServers) -> None:
    """Learned in several batches, with sessions interleaved and feedback that came too late: a refit gives the same bytes."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**TRAP)
        begin = time.time() - 7200.0
        for batch in range(4):
            ids = await logged(
                stage, policy, begin + 30.0 * batch, ["bait", "plain", "bait"] * 3, prefix=f"batch-{batch}"
            )
            await stage.learn(policy)
            await asyncio.sleep(0.1)
            await stage.learn(policy)
        running, _ = await models(stage, policy)
        assert sum(samples for _, samples in values(running, "start").values()) == 36
        await stage.feedback(ids[0], value=1.0, occurred_at=at(begin + 90.0))
        await stage.learn(policy)
        assert (await models(stage, policy))[0] == running, "what is learned is learned once"
        assert (await models(stage, policy, refit=True))[0] == running
        rows = stage.sql("select place, ends from learned_order where policy = %s order by place", policy)
        assert [row["place"] for row in rows] == list(range(1, 73))
        assert [row["ends"] for row in rows] == [False, True] * 36

    run(servers, play)


def test_a_wiped_redis_gets_the_tables_back(own_servers: LocalServers) -> None:
    """The tables are in the snapshot that PostgreSQL holds: they come back byte for byte."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**TRAP)
        await logged(stage, policy, time.time() - 7200.0, ["bait", "plain"] * 4)
        await stage.learn(policy)
        before = await stage.published(policy)
        assert values(decode_snapshot(before or b"").model, "start")
        await stage.redis.flushall()
        await stage.learn(policy)
        assert await stage.published(policy) == before

    run(own_servers, play)


def test_a_pause_ends_an_episode(servers: LocalServers) -> None:
    """After more than the time-out the same session begins another episode, and what it earns does not count for the first."""

    async def play(stage: Stage) -> None:
        changes: list[dict[str, Any]] = [
            {"session_timeout_s": timeout, "parameters": {"discount": 0.9, "initial_value": 0.6}}
            for timeout in (60, 600)
        ]
        policies = [await stage.policy(**(TRAP | change)) for change in changes]
        begin = time.time() - 7200.0
        for policy in policies:
            rows = [
                {
                    "policy": policy,
                    "action": action,
                    "propensity": 1.0,
                    "session_id": "one",
                    "context": {"page": page},
                    "occurred_at": at(begin + moment),
                    "decision_id": f"pause-{moment}",
                    "actions": [action],
                }
                for moment, page, action in ((0.0, "start", "plain"), (300.0, "rich", "go on"))
            ]
            ids = (await stage.call("feedback", "POST", "/v1/decisions", {"decisions": rows})).body["decision_ids"]
            await stage.feedback(ids[1], occurred_at=at(begin + 300.5))
            await stage.learn(policy)
        parted, whole = [values((await models(stage, policy))[0], "start") for policy in policies]
        assert parted["plain"] == (pytest.approx((0.0 + 0.6) / 2), 1.0), "one of two tables has seen it"
        traced = 0.9 * (0.5 * 0.6 + 0.5 * 1.0)
        assert whole["plain"] == (pytest.approx((traced + 0.6) / 2), 1.0)

    run(servers, play)


def test_what_comes_after_its_session_was_learned_is_an_episode_of_its_own(servers: LocalServers) -> None:
    """A decision that is archived late changes nothing that was learned, and is learned once itself."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**(TRAP | {"session_timeout_s": 60}))
        begin = time.time() - 7200.0
        await logged(stage, policy, begin, ["plain"], prefix="late")
        await stage.learn(policy)
        first = stage.sql("select * from learned_order where policy = %s order by place", policy)
        row = {
            "policy": policy,
            "action": "go on",
            "propensity": None,
            "session_id": "late-0",
            "context": {"page": "rich"},
            "occurred_at": at(begin + 0.5),
        }
        answer = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": [row]})
        assert answer.status == 200, answer
        await stage.learn(policy)
        await asyncio.sleep(1.1)
        await stage.learn(policy)
        after = stage.sql("select * from learned_order where policy = %s order by place", policy)
        assert after[:-1] == first
        assert (after[-1]["place"], after[-1]["ends"]) == (3, True)
        running, _ = await models(stage, policy)
        assert (await models(stage, policy, refit=True))[0] == running

    run(servers, play)


def test_much_is_learned_in_portions_and_endless_sessions_in_pieces(
    servers: LocalServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little a transaction learns, one run learns all that is closed, no episode is cut but by its length."""
    monkeypatch.setattr("shared.storage.postgres_ordered.CLOSED_AT_ONCE", 7)
    monkeypatch.setattr("shared.storage.postgres_ordered.LONGEST_EPISODE", 3)

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**(TRAP | {"session_timeout_s": 60}))
        begin = time.time() - 7200.0
        await logged(stage, policy, begin, ["bait", "plain"] * 5)
        rows = [
            {
                "policy": policy,
                "action": "go on",
                "propensity": 1.0,
                "session_id": "endless",
                "context": {"page": "rich"},
                "occurred_at": at(begin + 10.0 * number),
                "actions": ["go on"],
            }
            for number in range(8)
        ]
        assert (await stage.call("feedback", "POST", "/v1/decisions", {"decisions": rows})).status == 200
        await stage.learn(policy)
        order = stage.sql(
            """select o.place, o.ends, d.session_pseudonym as session from learned_order o
            join decisions d using (decided_at, decision_id) where o.policy = %s order by o.place""",
            policy,
        )
        assert [row["place"] for row in order] == list(range(1, 29))
        ends = [row["place"] for row in order if row["ends"]]
        lengths = [last - first for first, last in itertools.pairwise([0, *ends])]
        assert sorted(lengths) == [2] * 11 + [3] * 2
        for first, last in itertools.pairwise([0, *ends]):
            assert len({row["session"] for row in order[first:last]}) == 1
        running, _ = await models(stage, policy)
        assert (await models(stage, policy, refit=True))[0] == running

    run(servers, play)


def test_a_bandits_history_is_learned_when_the_kind_changes(servers: LocalServers) -> None:
    """A policy that becomes Q-learning refits: its sessions of before are closed, put in order and learned; and back again."""

    async def play(stage: Stage) -> None:
        bandit = {"kind": "thompson", "reward": {"click": 1.0}, "actions": TRAP["actions"]}
        policy = await stage.policy(**bandit)
        begin = time.time() - 7200.0
        await logged(stage, policy, begin, ["bait", "plain"] * 5)
        await stage.learn(policy)
        assert stage.sql("select 1 from learned_order where policy = %s", policy) == []
        answer = await stage.call("control", "PUT", f"/v1/policies/{policy}", TRAP | {"reward": {"click": 1.0}})
        assert answer.body["learning"] == "refitting"
        await stage.learn(policy)
        running, _ = await models(stage, policy)
        assert values(running, "start")["bait"] == (pytest.approx(0.6), 5.0)
        answer = await stage.call(
            "control",
            "PUT",
            f"/v1/policies/{policy}",
            bandit | {"reward_window_s": 1, "parameters": {"prior_alpha": 2}},
        )
        assert answer.body["learning"] == "inherited"
        await logged(stage, policy, begin + 3600.0, ["bait"], prefix="between")
        await stage.learn(policy)
        assert (await models(stage, policy))[0] == running
        await stage.call("control", "PUT", f"/v1/policies/{policy}", TRAP | {"reward": {"click": 1.0}})
        await stage.learn(policy)
        after, _ = await models(stage, policy)
        assert values(after, "start")["bait"][1] == 6.0
        assert (await models(stage, policy, refit=True))[0] == after

    run(servers, play)


def test_another_reward_or_discount_is_learned_afresh_in_the_same_order(servers: LocalServers) -> None:
    """A version that learns otherwise walks along the stored order again, for the rewards as they are counted now."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**TRAP)
        await logged(stage, policy, time.time() - 7200.0, ["bait", "plain"] * 5)
        await stage.learn(policy)
        for change, bait in (
            ({"parameters": {"discount": 0.5, "initial_value": 0.0}}, 0.6),
            ({"reward": {"click": 0.5}, "parameters": {"discount": 0.5, "initial_value": 0.0}}, 0.3),
        ):
            order = stage.sql("select place, decision_id from learned_order where policy = %s order by place", policy)
            body = TRAP | {"reward": {"click": 1.0}} | change
            answer = await stage.call("control", "PUT", f"/v1/policies/{policy}", body)
            assert answer.body["learning"] == "refitting"
            await stage.learn(policy)
            running, _ = await models(stage, policy)
            assert values(running, "start")["bait"][0] == pytest.approx(bait)
            assert order == stage.sql(
                "select place, decision_id from learned_order where policy = %s order by place", policy
            )
            assert (await models(stage, policy, refit=True))[0] == running
        body["parameters"] = {"epsilon": 0.5} | body["parameters"]
        answer = await stage.call("control", "PUT", f"/v1/policies/{policy}", body)
        assert answer.body["learning"] == "inherited", "exploration is no part of the tables"

    run(servers, play)


def test_what_retention_drops_is_sealed_into_the_tables(servers: LocalServers) -> None:
    """Weeks go with the order of their decisions; the sealed tables and what is left give the running ones, bit for bit."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**TRAP)
        now = time.time()
        for batch, days in enumerate((40, 20, 30, 0.1)):  # learned in another order than decided
            await logged(stage, policy, now - days * DAY_S, ["bait", "plain"] * 2, prefix=f"days-{batch}")
            await stage.learn(policy)
            await asyncio.sleep(0.1)
            await stage.learn(policy)
        running, nothing = await models(stage, policy)
        assert nothing is None
        async with open_pool(stage.servers.database_url, 2) as pool, connection(pool) as lent:
            assert await drop_expired(lent, now - 10 * DAY_S) >= 2
        left = stage.sql("select count(*) from learned_order where policy = %s", policy)[0]["count"]
        assert left == 8
        assert (await models(stage, policy))[0] == running
        again, sealed = await models(stage, policy, refit=True)
        assert again == running
        assert sum(samples for _, samples in values(sealed, "start").values()) == 12

    run(servers, play)


def test_what_is_open_when_its_week_is_dropped_is_learned_first(servers: LocalServers) -> None:
    """A session whose rewards could still come is learned with those that are there, before retention takes it away."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**(TRAP | {"reward_window_s": 300 * DAY_S}))
        now = time.time()
        await logged(stage, policy, now - 40 * DAY_S, ["bait", "plain"])
        await stage.learn(policy)
        version = (await stage.snapshot(policy))["snapshot_version"]
        assert (await models(stage, policy))[0] is None
        async with open_pool(stage.servers.database_url, 2) as pool, connection(pool) as lent:
            await drop_expired(lent, now - 10 * DAY_S)
        running, sealed = await models(stage, policy)
        assert running == sealed
        assert values(running, "start")["bait"] == (pytest.approx(0.3), 1.0)
        assert (await stage.snapshot(policy))["snapshot_version"] == version + 1

    run(servers, play)


def test_decisions_without_a_session_are_episodes_of_one_step(servers: LocalServers) -> None:
    """Nothing follows a decision that belongs to no session, nor one that was deferred and never shown."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**TRAP)
        for page in ("start", "rich", "rich"):
            decision = await stage.recommend(policy, context={"page": page}, defer_activation=page == "rich")
        answer = await stage.call("feedback", "POST", f"/v1/decisions/{decision['decision_id']}/activate")
        assert answer.status == 200, answer
        await stage.learn(policy)
        await asyncio.sleep(1.1)
        await stage.learn(policy)
        rows = stage.sql("select place, ends, rewards from learned_order where policy = %s order by place", policy)
        assert [(row["place"], row["ends"], row["rewards"]) for row in rows] == [(1, True, [0.0]), (2, True, [0.0])]

    run(servers, play)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("state", {"state": {}}),
        ("state", {"kind": "thompson", "parameters": {}}),
        ("state.page", {"state": {"page": {}}}),
        ("state.page", {"state": {"page": {"bins": [1], "categories": ["a"]}}}),
        ("state.page.bins", {"state": {"page": {"bins": []}}}),
        ("state.page.bins[2]", {"state": {"page": {"bins": [1, 2, 2]}}}),
        ("state.page.categories", {"state": {"page": {"categories": []}}}),
        ("state.page.categories[1]", {"state": {"page": {"categories": ["a", "a"]}}}),
        ("state[...].edges", {"state": {"page": {"edges": [1]}}}),
        ("state", {"state": {f"n{n}": {"bins": list(range(20))} for n in range(4)}}),
        ("state", {"kind": "fitted_q", "parameters": {}, "state": {"n": {"bins": list(range(498))}}}),
        ("features", {"features": {}}),
        ("session_timeout_s", {"session_timeout_s": 0.5}),
        ("session_timeout_s", {"session_timeout_s": 1e9}),
        ("parameters.discount", {"parameters": {"discount": 1.5}}),
        ("parameters.gamma", {"parameters": {"gamma": 0.5}}),
    ],
)
def test_a_policy_that_cannot_be_is_refused_by_its_field(
    servers: LocalServers, field: str, change: dict[str, Any]
) -> None:
    """What is wrong with states or sessions is told by name."""

    async def play(stage: Stage) -> None:
        body = TRAP | {"reward": {"click": 1.0}} | change
        answer = await stage.call("control", "PUT", "/v1/policies/refused", body)
        assert (answer.status, answer.body["field"]) == (400, field), answer

    run(servers, play)


def test_a_policy_shows_its_states(servers: LocalServers) -> None:
    """What was written about states and sessions is read again."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**TRAP)
        answer = await stage.call("control", "GET", f"/v1/policies/{policy}")
        assert msgspec.convert(answer.body["state"], dict[str, Cells]) == {"page": PAGES}
        assert answer.body["session_timeout_s"] == 1

    run(servers, play)


def test_training_fits_what_is_closed(servers: LocalServers) -> None:
    """Fitted Q is a bandit until it is trained; a training learns all closed sessions, and the same ones again alike."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(
            **(TRAP | {"kind": "fitted_q", "parameters": {"discount": 0.9, "ridge": 1e-3, "epsilon": 0.1}})
        )
        await logged(stage, policy, time.time() - 7200.0, ["bait", "plain"] * 20)
        await stage.learn(policy)
        await asyncio.sleep(0.1)
        await stage.learn(policy)
        assert (await models(stage, policy))[0] is None
        [order] = stage.sql("select count(*), max(place) as last from learned_order where policy = %s", policy)
        assert (order["count"], order["last"]) == (80, 80)
        answer = await stage.event("train", "dev.knudge.training.requested.v1", {"policy": policy})
        assert answer.status in {200, 204}, answer
        content = await stage.published(policy) or b""
        chooser = Chooser(decode_snapshot(content))
        assert chooser.propensities(context={"page": "start"}) == pytest.approx({"bait": 0.0545, "plain": 0.9455})
        running, sealed = await models(stage, policy)
        assert (await models(stage, policy, refit=True)) == (running, None)
        assert sealed is None
        await logged(stage, policy, time.time() - 3600.0, ["bait"], prefix="later")
        await stage.learn(policy)
        await asyncio.sleep(0.1)
        await stage.learn(policy)
        assert (await models(stage, policy))[0] == running, "closed, and not trained yet"

    run(servers, play)
