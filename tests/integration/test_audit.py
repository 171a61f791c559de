"""Stored decisions, recomputed: one by one through `control`, those of every kind from the log (10,000 of each: `make audit`)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from functions.console.main import main
from functions.local.servers import LocalServers
from shared.policies.kinds import CONTEXTUAL_KINDS, KINDS, SEQUENTIAL_KINDS
from shared.storage.redis_snapshots import decode_snapshot
from tests import stage as stage_of_tests
from tests.hosted import Hosted
from tests.integration.test_http_interface import check_problem
from tests.stage import Stage, run

BATCH = 250
FEATURES = {"interactions": [["age", "action.price"], ["device", "action.colour"]]}
SESSIONS = {
    "state": {"age": {"bins": [30.0, 40.0, 50.0]}, "device": {"categories": ["phone", "desktop"]}},
    "session_timeout_s": 1,
    "reward_window_s": 1,
}
VARIANTS: list[dict[str, Any]] = [
    *({"kind": kind} for kind in KINDS),
    *({"kind": kind, "features": FEATURES} for kind in CONTEXTUAL_KINDS),
    *({"kind": kind} | SESSIONS for kind in SEQUENTIAL_KINDS),
    {"kind": "thompson", "reward_range": None},
]
"""The policies that decide: every kind, and every kind that looks at features or at sessions."""
CLOSED_S = 2.2
"""After which a session of a policy of `SESSIONS` is over, and what it earned."""
ROUNDS = 4
"""How many snapshots of each policy decide."""
ACTIONS: list[dict[str, Any]] = [
    {"id": f"a{n}", "features": {"price": 1.0 + n, "colour": "red" if n % 2 else "blue"}} for n in range(8)
]


def request(policy: str, random: np.random.Generator) -> dict[str, Any]:
    """Return a request: plain, a subset, strangers among them, exclusions, slates, deferred, with and without context."""
    asked: dict[str, Any] = {"policy": policy, "count": int(random.choice([1, 1, 1, 2, 3, 8]))}
    if random.random() < 0.7:
        asked["context"] = {
            "age": float(random.normal(40, 12)),
            "device": str(random.choice(["phone", "desktop", "t\u00e9l\u00e9"])),
            "member": bool(random.random() < 0.5),
            "tags": [str(tag) for tag in random.choice(["x", "y", "z"], 2)],
        }
    match random.integers(4):
        case 1:
            asked["actions"] = [ACTIONS[n] for n in random.permutation(8)[: random.integers(1, 8)]]
        case 2:
            asked["actions"] = ["a3", {"id": "stranger", "features": {"price": 2.5}}, "a1", "another"]
        case 3:
            asked["exclude"] = [f"a{n}" for n in random.permutation(8)[: random.integers(1, 7)]]
    if random.random() < 0.6:
        asked["session_id"] = f"s{random.integers(40)}"
    if random.random() < 0.1:
        asked["defer_activation"] = True
    return asked


async def decide(stage: Stage, policy: str, decisions: int, random: np.random.Generator, rounds: int = ROUNDS) -> None:
    """Have a policy decide, in rounds between which it learns from clicks."""
    for _ in range(rounds):
        answers: list[Any] = []
        while len(answers) < decisions / rounds:
            asked = [request(policy, random) for _ in range(min(BATCH, round(decisions / rounds) - len(answers)))]
            answer = await stage.call("recommend", "POST", "/v1/recommend/batch", {"requests": asked})
            assert answer.status == 200, answer
            answers += answer.body["results"]
        events = [
            {"decision_id": given["decision_id"], "kind": "click", "action": item["action"], "value": float(random.random())}
            for given in answers
            for item in given["items"]
            if random.random() < 0.2
        ]  # fmt: skip
        for start in range(0, len(events), 1_000):
            taken = await stage.call("feedback", "POST", "/v1/feedback", {"events": events[start : start + 1_000]})
            assert taken.status == 200, taken
        before = (await stage.recommend(policy))["snapshot_version"]
        await stage.learn(policy)
        for _ in range(200):
            if (await stage.recommend(policy))["snapshot_version"] > before:
                break
            await asyncio.sleep(0.02)
    await stage.learn(policy)


async def close_sessions(stage: Stage, policy: str) -> None:
    """Let a policy learn the sessions that are over, and be trained on them."""
    before = (await stage.recommend(policy))["snapshot_version"]
    await asyncio.sleep(CLOSED_S)
    await stage.learn(policy)
    answer = await stage.event("train", "dev.knudge.training.requested.v1", {"policy": policy})
    assert answer.status in {200, 204}, answer
    content = decode_snapshot(await stage.published(policy) or b"")
    assert content.model is not None
    for _ in range(200):
        if (await stage.recommend(policy))["snapshot_version"] >= content.snapshot_version > before:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("what was learned of sessions was not served")


def audit(policy: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Run `knudge audit` over all that a policy decided; return the exit status and the figures."""
    status = main(["audit", "--policy", policy, "--json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.fixture
def environment(servers: LocalServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the command the same database and key as the functions."""
    monkeypatch.setenv("KNUDGE_DATABASE_URL", servers.database_url)
    monkeypatch.setenv("KNUDGE_SERVER_KEY", servers.server_key)


def decided_and_audited(servers: LocalServers, capsys: pytest.CaptureFixture[str], name: str, each: int) -> None:
    """Have policies of every kind decide, and check that all of it recomputes."""
    random = np.random.default_rng(4)
    policies: dict[str, str] = {}

    async def play(stage: Stage) -> None:
        for number, variant in enumerate(VARIANTS):
            floor = (0.0, 0.01, 0.2)[number % 3]
            policy = await stage.policy(f"{name}-{number}", actions=ACTIONS, exploration_floor=floor, **variant)
            policies[policy] = variant["kind"]
            if "state" in variant:
                await decide(stage, policy, each // 2, random, rounds=1)
                await close_sessions(stage, policy)
                await decide(stage, policy, -(-each // 2), random, rounds=1)
            else:
                await decide(stage, policy, each, random)

    run(servers, play)
    for policy, kind in policies.items():
        status, figures = audit(policy, capsys)
        assert (status, figures["different"]) == (0, [])
        assert set(figures["by_kind"]) == {kind}
        assert figures["by_kind"][kind]["as stored"] >= each


@pytest.mark.usefixtures("environment")
def test_decisions_of_every_kind_recompute(servers: LocalServers, capsys: pytest.CaptureFixture[str]) -> None:
    """Every stored action is what the draw chooses, every stored propensity what the snapshot gives, to 1e-9."""
    decided_and_audited(servers, capsys, "audit", 200)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("environment")
def test_ten_thousand_decisions_of_every_kind_recompute(
    servers: LocalServers, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for 10,000 decisions of each."""
    monkeypatch.setattr(stage_of_tests, "PLAY_S", 1_500.0)
    decided_and_audited(servers, capsys, "audit-long", 10_000)


ARMS: list[dict[str, Any]] = [
    {"baseline": {"share": 0.3}},
    {"baseline": {"share": 0.3, "serve": "default_action"}},
    {"baseline": {"share": 0.3, "serve": "policy", "policy": "audit-arm-other"}},
    {"mode": "apprentice", "baseline": {"share": 0.3}},
    {"diversity": {"weight": 0.5}},
]


@pytest.mark.usefixtures("environment")
def test_what_others_decided_recomputes_too(servers: LocalServers, capsys: pytest.CaptureFixture[str]) -> None:
    """Baselines of every sort, default actions and diverse slates: who decided, by which law, and what the policy itself gave."""
    seen: dict[str, dict[str, Any]] = {}

    async def play(stage: Stage) -> None:
        await stage.policy("audit-arm-other", kind="epsilon_greedy", actions=ACTIONS)
        for number, arm in enumerate(ARMS):
            policy = await stage.policy(f"audit-arm-{number}", actions=ACTIONS, **arm)
            default: dict[str, Any] = {} if "diversity" in arm else {"default_action": "a1"}
            asked: list[dict[str, Any]] = [
                {"policy": policy, "user_id": f"u{user}", "count": 3 if "diversity" in arm else 1} | default
                for user in range(60)
            ]
            answer = await stage.call("recommend", "POST", "/v1/recommend/batch", {"requests": asked})
            assert answer.status == 200, answer
            await stage.learn(policy)
            status, seen[policy] = audit(policy, capsys)
            assert (status, seen[policy]["different"]) == (0, [])
            others = [made for made in answer.body["results"] if made.get("served_by", "policy") != "policy"]
            for made in others[:1]:
                told = await stage.call("control", "GET", f"/v1/decisions/{made['decision_id']}/explanation")
                assert (told.status, told.body["agrees"]) == (200, True), told
                assert "not the policy decided" in told.body["notes"][0]
                watched = await stage.call("control", "GET", f"/v1/policies/{policy}/propensities")
                assert not any(version["alarm"] for version in watched.body["versions"])
        [row] = stage.sql(
            "update decisions set served_by = jsonb_set(served_by, '{own_propensities,0}', '0.123') where decision_id = "
            "(select decision_id from decisions where policy = 'audit-arm-0' and served_by is not null limit 1) "
            "returning decision_id::text as id"
        )
        status, changed = audit("audit-arm-0", capsys)
        assert status == 1
        assert changed["different"][0]["decision_id"] == row["id"]
        assert "the policy's own propensity 0.123" in changed["different"][0]["differences"]

    run(servers, play)
    assert set(seen["audit-arm-0"]["by_kind"]) == {"thompson", "thompson, served by baseline"}
    assert set(seen["audit-arm-3"]["by_kind"]) == {"thompson, served by baseline", "thompson, served by default_action"}
    assert set(seen["audit-arm-4"]["by_kind"]) == {"thompson"}


@pytest.mark.usefixtures("environment")
def test_what_was_changed_is_named(servers: LocalServers, capsys: pytest.CaptureFixture[str]) -> None:
    """An action, a propensity or a context other than decided, or a snapshot that is gone: each is found."""
    policy = "audit-changed"

    async def play(stage: Stage) -> None:
        await stage.policy(policy, actions=["a", "b", "c"])
        await decide(stage, policy, 60, np.random.default_rng(5))
        rows = stage.sql(
            "select decision_id::text as id, actions from decisions where policy = %s and cardinality(actions) = 1 "
            "and eligible is null order by decision_id",
            policy,
        )
        one, two, three = rows[0], rows[1], rows[2]
        other = next(action for action in "abc" if action != one["actions"][0])
        stage.sql("update decisions set actions = array[%s] where decision_id = %s::uuid", other, one["id"])
        stage.sql(
            "update decisions set propensities[1] = propensities[1] + 1e-8 where decision_id = %s::uuid", two["id"]
        )
        stage.sql("update decisions set snapshot_version = 999 where decision_id = %s::uuid", three["id"])

        status, figures = audit(policy, capsys)
        assert status == 1
        assert figures["by_kind"]["thompson"]["different"] == 2
        assert figures["by_kind"]["snapshot gone"] == {"not recomputable": 1}
        found = {row["decision_id"]: row["differences"] for row in figures["different"]}
        assert set(found) == {one["id"], two["id"]}
        assert f"'{other}' is stored, the draw" in found[one["id"]]
        assert "the propensity" in found[two["id"]]
        assert main(["audit", "--policy", policy]) == 1
        assert f"{two['id']} differs: position 0: the propensity" in capsys.readouterr().out
        told = await stage.call("control", "GET", f"/v1/decisions/{one['id']}/explanation")
        assert (told.status, told.body["agrees"]) == (200, False)
        assert any("key" in note for note in told.body["notes"])
        gone = await stage.call("control", "GET", f"/v1/decisions/{three['id']}/explanation")
        check_problem(gone, 409, "not-kept", "snapshot_version")

    run(servers, play)
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("KNUDGE_SERVER_KEY", "another key than that which drew")
        _, figures = audit(policy, capsys)
        assert figures["by_kind"]["thompson"]["different"] > figures["by_kind"]["thompson"]["as stored"]


@pytest.mark.usefixtures("environment")
def test_a_span_and_a_policy_that_are_not_there(servers: LocalServers, capsys: pytest.CaptureFixture[str]) -> None:
    """A policy that nobody wrote is an error; a span without decisions says so."""

    async def play(stage: Stage) -> None:
        await stage.policy("audit-empty")

    run(servers, play)
    assert main(["audit", "--policy", "audit-nobody"]) == 1
    assert "there is no policy 'audit-nobody'" in capsys.readouterr().err
    assert main(["audit", "--policy", "audit-empty", "--from", "2026-01-01", "--to", "2026-01-02"]) == 0
    assert capsys.readouterr().out == "no decisions\n"


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_explanation_says_what_a_decision_was_made_of(servers: LocalServers, variant: dict[str, Any]) -> None:
    """Position by position: every eligible action's chance given the items above, the draw, and that it agrees."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(actions=ACTIONS, **variant)
        await decide(stage, policy, 20, np.random.default_rng(6), rounds=1)
        made = await stage.recommend(policy, count=3, exclude=["a0"], context={"age": 41.5})
        await stage.feedback(made["decision_id"], action=made["items"][1]["action"])
        await stage.learn(policy)
        told = await stage.call("control", "GET", f"/v1/decisions/{made['decision_id']}/explanation")
        assert told.status == 200, told
        body = told.body
        assert (body["agrees"], body["differences"], body["notes"]) == (True, [], [])
        assert (body["kind"], body["origin"], body["shown"], body["context"]) == (
            variant["kind"], "served", True, {"age": 41.5}
        )  # fmt: skip
        left = {action["id"] for action in ACTIONS} - {"a0"}
        for item, given in zip(body["items"], made["items"], strict=True):
            assert {action["action"] for action in item["actions"]} == left
            assert sum(action["propensity"] for action in item["actions"]) == pytest.approx(1.0, abs=1e-12)
            chances = {action["action"]: action for action in item["actions"]}
            assert item["action"] == item["drawn"] == given["action"]
            assert item["recomputed"] == pytest.approx(given["propensity"], abs=1e-12)
            assert chances[given["action"]]["score"] == given["score"]
            assert (
                chances[given["action"]]["features"]
                == next(a for a in ACTIONS if a["id"] == given["action"])["features"]
            )
            if "features" in variant:
                assert all(
                    sum(a["contributions"].values()) == pytest.approx(a["score"], abs=1e-9) for a in chances.values()
                )
                assert any("price" in name for name in chances[given["action"]]["contributions"])
            else:
                assert not any(action["contributions"] for action in item["actions"])
            below = 0.0
            for action in item["actions"]:
                if action["action"] == item["action"]:
                    assert below <= item["draw"] < below + action["propensity"] + 1e-12
                below += action["propensity"]
            left.remove(given["action"])
        assert [item["reward"] for item in body["items"]] == [None, 1.0, None]

    run(servers, play)


def test_logged_and_deferred_decisions_are_explained_in_words(servers: LocalServers) -> None:
    """A logged one has no law; a deferred one says whether it was activated."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        moment = "2026-11-20T12:00:00Z"
        logged: dict[str, Any] = {
            "policy": policy,
            "action": "a",
            "propensity": None,
            "context": {},
            "occurred_at": moment,
        }
        taken = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": [logged]})
        [name] = taken.body["decision_ids"]
        told = await stage.call("control", "GET", f"/v1/decisions/{name}/explanation")
        assert (told.body["agrees"], told.body["items"], told.body["kind"]) == (None, [], None)
        assert "another system decided" in told.body["notes"][0]
        assert "without a propensity" in told.body["notes"][0]

        deferred = (await stage.recommend(policy, defer_activation=True))["decision_id"]
        await stage.learn(policy)
        told = await stage.call("control", "GET", f"/v1/decisions/{deferred}/explanation")
        assert (told.body["agrees"], told.body["shown"]) == (True, False)
        assert "has not come" in told.body["notes"][0]
        await stage.call("feedback", "POST", f"/v1/decisions/{deferred}/activate")
        told = await stage.call("control", "GET", f"/v1/decisions/{deferred}/explanation")
        assert (told.body["shown"], told.body["notes"]) == (True, ["activation was deferred, and came"])

    run(servers, play)


def test_a_decision_without_a_snapshot_is_uniform(own_servers: LocalServers) -> None:
    """What was decided before Redis held anything recomputes too: every action had the same chance."""

    async def write(stage: Stage) -> None:
        await stage.policy("early")
        await stage.redis.flushall()

    async def play(stage: Stage) -> None:
        made = await stage.recommend("early", actions=["x", "y", "z", "w"], count=2)
        assert made["degraded"]
        await stage.learn("early")
        told = await stage.call("control", "GET", f"/v1/decisions/{made['decision_id']}/explanation")
        assert (told.body["agrees"], told.body["degraded"], told.body["snapshot_version"]) == (True, True, 0)
        assert [item["recomputed"] for item in told.body["items"]] == pytest.approx([1 / 4, 1 / 3])
        assert "no snapshot was at hand" in told.body["notes"][0]

    run(own_servers, write)
    run(own_servers, play)


def test_what_is_not_there_is_not_explained(servers: LocalServers) -> None:
    """No decision id is a 400, a decision that is not archived a 404."""

    async def play(stage: Stage) -> None:
        answer = await stage.call("control", "GET", "/v1/decisions/seven/explanation")
        check_problem(answer, 400, "invalid-input", "decision_id")
        made = await stage.recommend(await stage.policy())
        answer = await stage.call("control", "GET", f"/v1/decisions/{made['decision_id']}/explanation")
        check_problem(answer, 404, "unknown-decision", "decision_id")

    run(servers, play)


def test_the_command_shows_an_explanation(servers: LocalServers, capsys: pytest.CaptureFixture[str]) -> None:
    """A table a position, in words whether it agrees; as JSON what `control` answers; 1 where it differs."""
    made: dict[str, Any] = {}

    async def play(stage: Stage) -> None:
        policy = await stage.policy("explained", actions=ACTIONS)
        made.update(await stage.recommend(policy, count=2, context={"age": 3.0}))
        await stage.learn(policy)

    run(servers, play)
    with Hosted("control", servers) as control:
        command = ["explain", made["decision_id"], "--url", f"http://127.0.0.1:{control.port}"]
        assert main(command) == 0
        shown = capsys.readouterr().out
        assert "as stored" in shown
        assert "position 1: " + made["items"][1]["action"] in shown
        assert "context age=3.0" in shown
        assert all(str(action["id"]) in shown for action in ACTIONS)
        assert main([*command, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["agrees"] is True

        async def change(stage: Stage) -> None:
            stage.sql("update decisions set propensities[1] = 0.5 where decision_id = %s::uuid", made["decision_id"])

        run(servers, change)
        assert main(command) == 1
        assert "differs: position 0: the propensity 0.5" in capsys.readouterr().out.replace("\n", " ")
        assert main(["explain", "seven", "--url", command[-1]]) == 1
        assert "not a decision id" in capsys.readouterr().err
