"""The HTTP interface on real servers, route by route: design.md's field names, statuses and problem details."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.local.servers import LocalServers
from shared.identity import pseudonym, route
from shared.storage.redis_drain import read_journal
from shared.vocabulary import Decision
from tests.stage import Answer, Stage, run

PATIENT = {"journal_wait_ms": 2_000}
"""So that no answer is degraded because the machine is busy."""
DECISION = "00000000-0000-8000-8000-000000000000"
"""The shape of a decision id, made in 1970."""


def moment(seconds_ago: float = 60.0) -> str:
    """Return a time before now as RFC 3339 writes it."""
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()


def check_problem(answer: Answer, status: int, slug: str, field: str | None) -> None:
    """Check that an answer is a problem detail (RFC 9457) with the members that callers rely on."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.body) == {"type", "title", "status", "detail"} | ({"field"} if field else set())
    assert answer.body["type"] == f"urn:knudge:problem:{slug}"
    assert answer.body["status"] == status
    assert answer.body.get("field") == field, answer
    assert answer.body["title"]
    assert answer.body["detail"]


async def journalled(stage: Stage, policy: str) -> dict[str, Decision]:
    """Return the decisions that stand in a policy's journal, by id."""
    decisions = (await read_journal(stage.redis, policy, 10_000)).decisions
    assert len({decision.decision_id for decision in decisions}) == len(decisions)
    return {decision.decision_id: decision for decision in decisions}


def logged(policy: str, **changes: Any) -> dict[str, Any]:
    """Return a decision as another system logs it."""
    whole = {"policy": policy, "action": "a", "propensity": 0.5, "context": {"age": 7}, "occurred_at": moment()}
    return whole | changes


# Policies


def test_a_policy_is_written_and_read_with_every_field(servers: LocalServers) -> None:
    """PUT answers 201 with what was written, and GET reads the same by the same names, with the snapshot."""
    spec = {
        "kind": "thompson",
        "parameters": {"prior_alpha": 2.0},
        "actions": ["a", {"id": "b", "features": {"colour": "red", "price": 2.5, "new": True, "tags": ["x"]}}],
        "reward": {"click": 1.0, "dwell": {"weight": 0.5, "saturation": 30.0, "combine": "sum"}},
        "reward_range": [0.0, 2.0],
        "default_reward": 0.25,
        "reward_window_s": 3600.0,
        "expected_delay_s": 60.0,
        "half_life_s": 86400.0,
        "exploration_floor": 0.05,
        "features": None,
        "diversity": {"weight": 0.5, "features": ["colour"]},
        "steering": None,
        "mode": "serve",
        "baseline": {"share": 0.02},
        "state": {},
        "session_timeout_s": 600.0,
    }

    async def play(stage: Stage) -> None:
        written = await stage.call("control", "PUT", "/v1/policies/every-field", spec)
        assert (written.status, written.headers["content-type"]) == (201, "application/json")
        expected = spec | {
            "name": "every-field",
            "version": 1,
            "active": True,
            "actions": [
                {"id": "a"},
                {"id": "b", "features": {"colour": "red", "price": 2.5, "new": True, "tags": ["x"]}},
            ],
            "reward": {"click": {"weight": 1.0}, "dwell": {"weight": 0.5, "saturation": 30.0, "combine": "sum"}},
        }
        assert written.body == expected | {"learning": "new"}
        read = await stage.call("control", "GET", "/v1/policies/every-field")
        assert read.status == 200
        snapshot, comparison = read.body.pop("snapshot"), read.body.pop("comparison")
        assert read.body == expected
        assert (comparison["arms"], comparison["uplift"]) == ({}, None)
        assert (snapshot["snapshot_version"], snapshot["policy_version"]) == (1, 1)
        assert datetime.fromisoformat(snapshot["as_of"]).tzinfo is not None
        assert [line["action"] for line in snapshot["actions"]] == ["a", "b"]
        assert [(line["weight"], line["mean"]) for line in snapshot["actions"]] == [(0.0, None)] * 2
        assert sum(line["propensity"] for line in snapshot["actions"]) == pytest.approx(1.0)

    run(servers, play, **PATIENT)


def test_the_list_of_policies_names_each(servers: LocalServers) -> None:
    """GET /v1/policies tells name, version, kind and snapshot version of every policy, by name."""

    async def play(stage: Stage) -> None:
        await stage.policy("listed-b", kind="ucb1")
        await stage.policy("listed-a")
        await stage.policy("listed-a")
        answer = await stage.call("control", "GET", "/v1/policies")
        assert answer.status == 200
        lines = [line for line in answer.body["policies"] if line["name"].startswith("listed-")]
        assert lines == [
            {"name": "listed-a", "version": 2, "kind": "thompson", "snapshot_version": 2},
            {"name": "listed-b", "version": 1, "kind": "ucb1", "snapshot_version": 1},
        ]

    run(servers, play, **PATIENT)


def test_versions_are_kept_and_promoted(servers: LocalServers) -> None:
    """A second PUT is a 200 and version 2, every version names its actor, and version 1 can be promoted again."""

    async def play(stage: Stage) -> None:
        await stage.policy("versions")
        body = {"kind": "epsilon_greedy", "actions": ["a", "b"], "reward": {"click": 1.0}}
        second = await stage.call("control", "PUT", "/v1/policies/versions", body, {"X-Client-Id": "operator"})
        assert (second.status, second.body["version"], second.body["learning"]) == (200, 2, "inherited")
        listed = (await stage.call("control", "GET", "/v1/policies/versions/versions")).body
        assert listed["policy"] == "versions"
        assert [(v["version"], v["active"], v["kind"], v["actor"]) for v in listed["versions"]] == [
            (2, True, "epsilon_greedy", "operator"),
            (1, False, "thompson", "anonymous"),
        ]
        assert all(datetime.fromisoformat(version["created_at"]).tzinfo for version in listed["versions"])
        promoted = await stage.call("control", "POST", "/v1/policies/versions/versions/1/promote")
        assert promoted.status == 200
        assert {"version": 1, "active": True, "kind": "thompson"}.items() <= promoted.body.items()
        read = (await stage.call("control", "GET", "/v1/policies/versions")).body
        assert (read["version"], read["snapshot"]["policy_version"]) == (1, 1)

    run(servers, play, **PATIENT)


def test_another_kind_inherits_what_was_learned(servers: LocalServers) -> None:
    """A version with the same reward starts from the running posterior, at once and without a learning run."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        decision = await stage.recommend(policy)
        await stage.feedback(decision["decision_id"])
        await stage.learn(policy)
        before = await stage.snapshot(policy)
        await stage.policy(policy, kind="epsilon_greedy", parameters={"epsilon": 0.2}, exploration_floor=0.0)
        after = await stage.snapshot(policy)
        chosen = decision["items"][0]["action"]
        assert after["snapshot_version"] > before["snapshot_version"]
        assert after["policy_version"] == 2
        assert (after["actions"][chosen]["weight"], after["actions"][chosen]["mean"]) == (1.0, 1.0)
        assert after["actions"][chosen]["propensity"] == pytest.approx(0.8 + 0.2 / 3)

    run(servers, play, **PATIENT)


def test_another_reward_is_refitted(servers: LocalServers) -> None:
    """A version with another reward keeps the old snapshot until the learner has refitted the history."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        decision = await stage.recommend(policy)
        await stage.feedback(decision["decision_id"])
        await stage.learn(policy)
        body = {"kind": "thompson", "actions": ["a", "b", "c"], "reward": {"click": 0.25}}
        written = await stage.call("control", "PUT", f"/v1/policies/{policy}", body)
        assert written.body["learning"] == "refitting"
        assert (await stage.snapshot(policy))["policy_version"] == 1
        await stage.learn(policy)
        snapshot = await stage.snapshot(policy)
        chosen = snapshot["actions"][decision["items"][0]["action"]]
        assert (snapshot["policy_version"], chosen["weight"], chosen["mean"]) == (2, 1.0, 0.25)

    run(servers, play, **PATIENT)


FAULTY_POLICIES: list[tuple[dict[str, Any], str]] = [
    ({"kind": "oracle"}, "kind"),
    ({"parameters": {"epsilon": 0.1}}, "parameters.epsilon"),
    ({"parameters": {"prior_alpha": 0}}, "parameters.prior_alpha"),
    ({"parameters": []}, "parameters"),
    ({"actions": ["a", "b", "a"]}, "actions[2]"),
    ({"actions": ["a", ""]}, "actions[1]"),
    ({"actions": [{"id": "a", "features": {"x": {}}}]}, "actions[0].features[...]"),
    ({"actions": [{"features": {}}]}, "actions[0].id"),
    ({"reward": {}}, "reward"),
    ({"reward": {"click": 1e13}}, "reward.click"),
    ({"reward": {"dwell": {"saturation": 0}}}, "reward.dwell.saturation"),
    ({"reward": {"dwell": {"combine": "product"}}}, "reward[...].combine"),
    ({"reward_range": [1, 1]}, "reward_range"),
    ({"reward_range": [0]}, "reward_range"),
    ({"kind": "ucb1", "reward_range": None}, "reward_range"),
    ({"default_reward": 2}, "default_reward"),
    ({"reward_window_s": 0}, "reward_window_s"),
    ({"expected_delay_s": 0}, "expected_delay_s"),
    ({"half_life_s": 1}, "half_life_s"),
    ({"exploration_floor": 1}, "exploration_floor"),
    ({"exploration_floor": -0.1}, "exploration_floor"),
    ({"explorationfloor": 0.1}, "explorationfloor"),
]


def test_a_faulty_policy_is_refused_by_field(servers: LocalServers) -> None:
    """Every rule about a policy names the field at fault, and nothing is written."""

    async def play(stage: Stage) -> None:
        whole = {"kind": "thompson", "actions": ["a", "b"], "reward": {"click": 1.0}}
        for changes, field in FAULTY_POLICIES:
            answer = await stage.call("control", "PUT", "/v1/policies/faulty", whole | changes)
            check_problem(answer, 400, "invalid-input", field)
        for missing in ("kind", "reward"):
            body = {name: value for name, value in whole.items() if name != missing}
            check_problem(
                await stage.call("control", "PUT", "/v1/policies/faulty", body), 400, "invalid-input", missing
            )
        for name in ("UPPER", "-begins", "é", "a" * 65, "with space"):
            answer = await stage.call("control", "PUT", f"/v1/policies/{name}", whole)
            check_problem(answer, 400, "invalid-input", "name")
        check_problem(await stage.call("control", "GET", "/v1/policies/faulty"), 404, "unknown-policy", "name")

    run(servers, play, **PATIENT)


def test_an_unknown_policy_or_version_is_a_404(servers: LocalServers) -> None:
    """What does not exist is told from what is malformed."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        for method, path, field in [
            ("GET", "/v1/policies/nobody", "name"),
            ("GET", "/v1/policies/nobody/versions", "name"),
            ("POST", "/v1/policies/nobody/versions/1/promote", "version"),
            ("POST", f"/v1/policies/{policy}/versions/2/promote", "version"),
            ("POST", f"/v1/policies/{policy}/versions/0/promote", "version"),
        ]:
            check_problem(await stage.call("control", method, path), 404, "unknown-policy", field)
        for version in ("one", "-1", "1.0", "²", "9" * 40):
            answer = await stage.call("control", "POST", f"/v1/policies/{policy}/versions/{version}/promote")
            check_problem(answer, 400, "invalid-input", "version")

    run(servers, play, **PATIENT)


# Recommendations


def test_a_recommendation_has_the_designs_fields(servers: LocalServers) -> None:
    """The answer names decision, policy, versions and items; what is journalled repeats it, without the user's name."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        context = {"age": 30, "city": "Bern", "new": True, "tags": ["a", "b"], "none": None}
        body = {"policy": policy, "user_id": "ann", "session_id": "s1", "context": context, "default_action": "a"}
        answer = await stage.call("recommend", "POST", "/v1/recommend", body, {"X-Client-Id": "shop"})
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        given = answer.body
        assert set(given) == {"decision_id", "policy", "policy_version", "snapshot_version", "items", "degraded"}
        assert (given["policy"], given["policy_version"], given["degraded"]) == (policy, 1, False)
        [item] = given["items"]
        assert set(item) == {"action", "propensity", "score"}
        assert item["action"] in {"a", "b", "c"}
        assert 0 < item["propensity"] <= 1
        assert abs(route(given["decision_id"]).decided_at - time.time()) < 5
        decision = (await journalled(stage, policy))[given["decision_id"]]
        assert (decision.actions, decision.propensities) == ((item["action"],), (item["propensity"],))
        assert (decision.context, decision.default_action) == (context, "a")
        assert (decision.actor, decision.revision, decision.origin) == ("shop", "local", "served")
        key = servers.server_key.encode()
        assert decision.user == pseudonym(key, "user", "ann")
        assert decision.session == pseudonym(key, "session", "s1")
        raw: Any = await stage.redis.xrange(f"knudge:journal:{policy}")
        assert raw
        assert b"ann" not in b"".join(fields[b"block"] for _, fields in raw)

    run(servers, play, **PATIENT)


def test_actions_of_the_request_replace_the_policys(servers: LocalServers) -> None:
    """Actions come as ids or with features, are chosen among alone, and are journalled with their features."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        actions = ["b", {"id": "z", "features": {"price": 3}}]
        answers = [await stage.recommend(policy, actions=actions) for _ in range(40)]
        assert {answer["items"][0]["action"] for answer in answers} == {"b", "z"}
        decision = (await journalled(stage, policy))[answers[0]["decision_id"]]
        assert decision.eligible is not None
        assert [(action.id, action.features) for action in decision.eligible] == [("b", {}), ("z", {"price": 3})]

    run(servers, play, **PATIENT)


def test_excluded_actions_are_never_chosen(servers: LocalServers) -> None:
    """`exclude` takes actions away, of the policy's and of the request's, and excluding all of them is refused."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        for actions in ({}, {"actions": ["a", "b", "c"]}):
            for _ in range(10):
                answer = await stage.recommend(policy, exclude=["a", "c", "unheard-of"], **actions)
                assert [(item["action"], item["propensity"]) for item in answer["items"]] == [("b", 1.0)]
            body = {"policy": policy, "exclude": ["a", "b", "c"], **actions}
            answer = await stage.call("recommend", "POST", "/v1/recommend", body)
            check_problem(answer, 400, "invalid-input", "exclude")

    run(servers, play, **PATIENT)


def test_a_slate_has_different_actions(servers: LocalServers) -> None:
    """`count` items come back, no action twice, the last of all with certainty; fewer where there are fewer actions."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        for count, size in [(2, 2), (3, 3), (7, 3)]:
            items = (await stage.recommend(policy, count=count))["items"]
            assert len({item["action"] for item in items}) == len(items) == size
            assert size < 3 or items[-1]["propensity"] == pytest.approx(1.0)
        for wrong in (0, 51, 2.5, None):
            answer = await stage.call("recommend", "POST", "/v1/recommend", {"policy": policy, "count": wrong})
            check_problem(answer, 400, "invalid-input", "count")

    run(servers, play, **PATIENT)


def test_deferred_activation_counts_once_activated(servers: LocalServers) -> None:
    """A deferred decision does not count until it is activated; activating twice says so and counts once."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        answer = await stage.recommend(policy, defer_activation=True)
        decision, action = answer["decision_id"], answer["items"][0]["action"]
        assert (await journalled(stage, policy))[decision].deferred
        await stage.feedback(decision)
        await stage.learn(policy)
        assert (await stage.snapshot(policy))["actions"][action]["weight"] == 0
        for activated in (True, False):
            activation = await stage.call("feedback", "POST", f"/v1/decisions/{decision}/activate")
            assert activation.status == 200
            assert activation.body == {"decision_id": decision, "activated": activated}
        await stage.learn(policy)
        known = (await stage.snapshot(policy))["actions"][action]
        assert (known["weight"], known["mean"]) == (1.0, 1.0)

    run(servers, play, **PATIENT)


def test_an_activation_of_no_decision_is_refused(servers: LocalServers) -> None:
    """An id that this system did not give, or gave too long ago, is named."""

    async def play(stage: Stage) -> None:
        for decision in ("nonsense", "0" * 36, DECISION, DECISION.replace("0", "g"), "f" * 8):
            answer = await stage.call("feedback", "POST", f"/v1/decisions/{decision}/activate")
            check_problem(answer, 400, "invalid-input", "decision_id")

    run(servers, play, **PATIENT)


def test_a_request_id_is_answered_once(servers: LocalServers) -> None:
    """The same request repeated gets the same answer, and one decision is journalled."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        body = {"request_id": "r1", "context": {"age": 3}, "count": 2}
        first = await stage.recommend(policy, **body)
        assert [await stage.recommend(policy, **body) for _ in range(5)] == [first] * 5
        assert set(await journalled(stage, policy)) == {first["decision_id"]}

    run(servers, play, **PATIENT)


def test_a_request_id_belongs_to_body_caller_and_policy(servers: LocalServers) -> None:
    """Another body under the same request id is a conflict; another caller or policy is another request."""

    async def play(stage: Stage) -> None:
        policy, other = await stage.policy(), await stage.policy()
        first = await stage.recommend(policy, request_id="r1")
        body = {"policy": policy, "request_id": "r1", "count": 2}
        answer = await stage.call("recommend", "POST", "/v1/recommend", body)
        check_problem(answer, 409, "conflict", "request_id")
        theirs = await stage.call("recommend", "POST", "/v1/recommend", body, {"X-Client-Id": "other"})
        assert theirs.status == 200
        elsewhere = await stage.recommend(other, request_id="r1")
        ids = {first["decision_id"], theirs.body["decision_id"], elsewhere["decision_id"]}
        assert len(ids) == 3
        assert len(await journalled(stage, policy)) == 2

    run(servers, play, **PATIENT)


def test_a_request_id_sent_twice_at_once_decides_once(servers: LocalServers) -> None:
    """Two requests with one id that race get one answer, and one decision is journalled."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        for number in range(10):
            pair = await asyncio.gather(*(stage.recommend(policy, request_id=f"race-{number}") for _ in range(2)))
            assert pair[0] == pair[1]
        assert len(await journalled(stage, policy)) == 10

    run(servers, play, **PATIENT)


def test_a_batch_answers_in_order(servers: LocalServers) -> None:
    """Every request of a batch gets its own answer, in the order sent, and each is journalled."""

    async def play(stage: Stage) -> None:
        policies = [await stage.policy(), await stage.policy()]
        requests = [{"policy": policies[at % 2], "count": at % 3 + 1} for at in range(12)]
        answer = await stage.call("recommend", "POST", "/v1/recommend/batch", {"requests": requests})
        assert answer.status == 200
        assert set(answer.body) == {"results"}
        results = answer.body["results"]
        assert [(r["policy"], len(r["items"])) for r in results] == [(r["policy"], r["count"]) for r in requests]
        stored = (await journalled(stage, policies[0])) | (await journalled(stage, policies[1]))
        assert set(stored) == {result["decision_id"] for result in results}
        assert len(stored) == 12

    run(servers, play, **PATIENT)


def test_a_faulty_member_refuses_its_batch(servers: LocalServers) -> None:
    """One faulty request is named by its index, and none of the batch is decided."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        for faulty, status, slug, field in [
            ({"policy": policy, "count": 99}, 400, "invalid-input", "requests[1].count"),
            ({"policy": policy, "exclude": ["a", "b", "c"]}, 400, "invalid-input", "requests[1].exclude"),
            ({"policy": policy, "context": {"x": {}}}, 400, "invalid-input", "requests[1].context[...]"),
            ({"policy": policy, "user_id": "u" * 300}, 413, "too-large", "requests[1].user_id"),
            ({"policy": "nobody"}, 404, "unknown-policy", "requests[1].policy"),
        ]:
            body = {"requests": [{"policy": policy}, faulty]}
            check_problem(await stage.call("recommend", "POST", "/v1/recommend/batch", body), status, slug, field)
        empty = await stage.call("recommend", "POST", "/v1/recommend/batch", {"requests": []})
        check_problem(empty, 400, "invalid-input", "requests")
        assert not await journalled(stage, policy)

    run(servers, play, **PATIENT)


def test_an_unknown_policy_is_named(servers: LocalServers) -> None:
    """A recommendation for a policy that nobody wrote is a 404 that names the field, with actions or without."""

    async def play(stage: Stage) -> None:
        await stage.policy()
        for more in ({}, {"actions": ["a"]}, {"request_id": "r"}):
            answer = await stage.call("recommend", "POST", "/v1/recommend", {"policy": "nobody", **more})
            check_problem(answer, 404, "unknown-policy", "policy")

    run(servers, play, **PATIENT)


# Feedback


def test_feedback_is_taken_once(servers: LocalServers) -> None:
    """The same event is a duplicate by its event id or by its content; another caller's is another event."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        decision = (await stage.recommend(policy))["decision_id"]
        new, known = {"accepted": 1, "duplicates": 0}, {"accepted": 0, "duplicates": 1}
        assert await stage.feedback(decision, event_id="e1") == new
        assert await stage.feedback(decision, event_id="e1", value=0.5) == known
        assert await stage.feedback(decision, "dwell", value=3) == new
        assert await stage.feedback(decision, "dwell", value=3) == known
        assert await stage.feedback(decision, "dwell", value=4) == new
        body = {"decision_id": decision, "kind": "click", "event_id": "e1"}
        theirs = await stage.call("feedback", "POST", "/v1/feedback", body, {"X-Client-Id": "other"})
        assert (theirs.status, theirs.body) == (200, new)
        rows = stage.sql("select source, event_id, value from feedback where decision_id = %s", decision)
        assert len(rows) == 4
        assert ("client/anonymous", "e1", 1.0) in [(row["source"], row["event_id"], row["value"]) for row in rows]

    run(servers, play, **PATIENT)


def test_a_feedback_batch_counts_new_and_known(servers: LocalServers) -> None:
    """A batch says how many events were new, counting repeats within itself."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        decision = (await stage.recommend(policy))["decision_id"]
        event = {"decision_id": decision, "kind": "click", "value": 1, "occurred_at": moment(0)}
        events = [event | {"event_id": name} for name in ("1", "2", "1")]
        answer = await stage.call("feedback", "POST", "/v1/feedback", {"events": events})
        assert (answer.status, answer.body) == (200, {"accepted": 2, "duplicates": 1})

    run(servers, play, **PATIENT)


def test_a_feedback_batch_is_taken_whole_or_not(servers: LocalServers) -> None:
    """An invalid event is named by its index and keeps the whole batch out."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        slate = (await stage.recommend(policy, count=2))["decision_id"]
        good = {"decision_id": (await stage.recommend(policy))["decision_id"], "kind": "click"}
        for faulty, field in [
            ({"decision_id": "nonsense"}, "events[2].decision_id"),
            ({"decision_id": DECISION}, "events[2].decision_id"),
            ({"decision_id": slate}, "events[2].action"),
            ({"kind": ""}, "events[2].kind"),
            ({"kind": None}, "events[2].kind"),
            ({"value": 1e13}, "events[2].value"),
            ({"value": "1"}, "events[2].value"),
            ({"occurred_at": moment(-3600)}, "events[2].occurred_at"),
            ({"occurred_at": moment(3 * 86400)}, "events[2].occurred_at"),
            ({"occurred_at": "2024-05-01T00:00:00"}, "events[2].occurred_at"),
            ({"valeu": 1}, "events[2].valeu"),
        ]:
            answer = await stage.call("feedback", "POST", "/v1/feedback", {"events": [good, good, good | faulty]})
            check_problem(answer, 400, "invalid-input", field)
        alone = await stage.call("feedback", "POST", "/v1/feedback", {"events": [good | {"kind": ""}]})
        check_problem(alone, 400, "invalid-input", "events[0].kind")
        long = await stage.call("feedback", "POST", "/v1/feedback", {"events": [good, good | {"kind": "k" * 300}]})
        check_problem(long, 413, "too-large", "events[1].kind")
        empty = await stage.call("feedback", "POST", "/v1/feedback", {"events": []})
        check_problem(empty, 400, "invalid-input", "events")
        both = await stage.call("feedback", "POST", "/v1/feedback", {"events": [good], "kind": "click"})
        check_problem(both, 400, "invalid-input", "kind")
        assert stage.sql("select 1 from feedback where decision_id = %s", good["decision_id"]) == []

    run(servers, play, **PATIENT)


def test_feedback_for_a_slate_names_its_action(servers: LocalServers) -> None:
    """With several items the action is required, and the reward goes to it."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        slate = await stage.recommend(policy, count=2)
        answer = await stage.call(
            "feedback", "POST", "/v1/feedback", {"decision_id": slate["decision_id"], "kind": "click"}
        )
        check_problem(answer, 400, "invalid-input", "action")
        second = slate["items"][1]["action"]
        await stage.feedback(slate["decision_id"], action=second)
        await stage.learn(policy)
        known = (await stage.snapshot(policy))["actions"]
        assert [known[item["action"]]["mean"] for item in slate["items"]] == [0.0, 1.0]

    run(servers, play, **PATIENT)


# Decisions that another system made


def test_logged_decisions_are_taken_once(servers: LocalServers) -> None:
    """Decisions without ids get derived ones; sending them again says duplicates, with the same ids, in order."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        decisions = [
            logged(policy, user_id="ann", session_id="s", position=2, actions=["a", "b"]),
            logged(policy, action="z", propensity=None, actions=["a", {"id": "z", "features": {"price": 1}}]),
            logged(policy, action="b", context={}),
        ]
        first = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": decisions})
        assert first.status == 200
        assert set(first.body) == {"accepted", "duplicates", "decision_ids"}
        assert (first.body["accepted"], first.body["duplicates"]) == (3, 0)
        again = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": decisions[::-1]})
        assert again.body == {"accepted": 0, "duplicates": 3, "decision_ids": first.body["decision_ids"][::-1]}
        rows = stage.sql("select * from decisions where policy = %s order by array_length(propensities, 1)", policy)
        stored = {str(row["decision_id"]): row for row in rows}
        assert set(stored) == set(first.body["decision_ids"])
        one, two, _ = (stored[name] for name in first.body["decision_ids"])
        assert (one["position"], one["context"], one["origin"]) == (2, {"age": 7}, "logged")
        assert one["user_pseudonym"] == pseudonym(servers.server_key.encode(), "user", "ann")
        assert (two["propensities"], two["eligible"][1]) == ([None], {"id": "z", "features": {"price": 1}})

    run(servers, play, **PATIENT)


def test_a_logged_decision_takes_feedback_and_is_learned_from(servers: LocalServers) -> None:
    """The id that a logged decision is given is the one that its feedback names."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        answer = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": [logged(policy, action="b")]})
        [decision] = answer.body["decision_ids"]
        assert await stage.feedback(decision) == {"accepted": 1, "duplicates": 0}
        await stage.learn(policy)
        known = (await stage.snapshot(policy))["actions"]["b"]
        assert (known["weight"], known["mean"]) == (1.0, 1.0)

    run(servers, play, **PATIENT)


def test_a_logged_decisions_own_id_is_its_identity(servers: LocalServers) -> None:
    """Its own name for a decision tells repeats apart, whatever else differs; a name of ours is kept as it is."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        at = moment()
        named = [logged(policy, occurred_at=at, decision_id=name) for name in ("one", "two", "one")]
        answer = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": named})
        assert (answer.body["accepted"], answer.body["duplicates"]) == (2, 1)
        ids = answer.body["decision_ids"]
        assert ids[0] == ids[2] != ids[1]
        theirs = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": named[:1]}, {"X-Client-Id": "b"})
        assert (theirs.body["accepted"], theirs.body["duplicates"]) == (1, 0)
        ours = logged(policy, occurred_at=at, decision_id=ids[1])
        kept = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": [ours]})
        assert kept.body == {"accepted": 0, "duplicates": 1, "decision_ids": [ids[1]]}
        changes: list[dict[str, Any]] = [{"occurred_at": moment(61)}, {"policy": await stage.policy()}]
        for change in changes:
            answer = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": [ours | change]})
            check_problem(answer, 400, "invalid-input", "decisions[0].decision_id")

    run(servers, play, **PATIENT)


def test_faulty_logged_decisions_are_refused_whole(servers: LocalServers) -> None:
    """A faulty decision is named by its index, and nothing of its batch is taken."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        faults: list[tuple[dict[str, Any], int, str]] = [
            ({"policy": "nobody"}, 404, "policy"),
            ({"action": "x", "actions": ["a", "b"]}, 400, "action"),
            ({"actions": ["a", "a"]}, 400, "actions[1]"),
            ({"propensity": 0}, 400, "propensity"),
            ({"propensity": 1.5}, 400, "propensity"),
            ({"occurred_at": moment(-3600)}, 400, "occurred_at"),
            ({"occurred_at": moment(401 * 86400)}, 400, "occurred_at"),
            ({"occurred_at": "yesterday"}, 400, "occurred_at"),
            ({"position": -1}, 400, "position"),
            ({"position": 1001}, 400, "position"),
            ({"context": {"x": [1]}}, 400, "context[...][0]"),
            ({"action": None}, 400, "action"),
            ({"decision_id": ""}, 400, "decision_id"),
        ]
        for changes, status, field in faults:
            slug = "unknown-policy" if status == 404 else "invalid-input"
            body = {"decisions": [logged(policy), logged(policy) | changes]}
            answer = await stage.call("feedback", "POST", "/v1/decisions", body)
            check_problem(answer, status, slug, f"decisions[1].{field}")
        for missing in ("policy", "action", "propensity", "context", "occurred_at"):
            partial = {name: value for name, value in logged(policy).items() if name != missing}
            answer = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": [partial]})
            check_problem(answer, 400, "invalid-input", f"decisions[0].{missing}")
        assert stage.sql("select 1 from decisions where policy = %s", policy) == []

    run(servers, play, **PATIENT)


# What every function answers


@pytest.mark.parametrize("function", ["recommend", "feedback", "learn", "control"])
def test_every_function_says_how_it_is(servers: LocalServers, function: str) -> None:
    """Health and OpenAPI answer by GET alone; other paths are a 404, other methods a 405, as problem details."""

    async def play(stage: Stage) -> None:
        for path in ("/health/live", "/health/ready"):
            answer = await stage.call(function, "GET", path)
            assert (answer.status, answer.body) == (200, {"status": "ok"})
            check_problem(await stage.call(function, "POST", path), 405, "wrong-method", "method")
        document = await stage.call(function, "GET", "/openapi.json")
        assert (document.status, document.body["openapi"]) == (200, "3.1.0")
        for method, path in [
            ("GET", "/v1/nothing"),
            ("GET", "/health/else"),
            ("GET", "/v1/policies/a/b"),
            ("PUT", "/x"),
        ]:
            check_problem(await stage.call(function, method, path), 404, "unknown-route", "path")

    run(servers, play, **PATIENT)


def test_a_known_path_refuses_other_methods(servers: LocalServers) -> None:
    """Every route answers 405 to a method that it does not take."""

    async def play(stage: Stage) -> None:
        for function, method, path in [
            ("recommend", "GET", "/v1/recommend"),
            ("recommend", "PUT", "/v1/recommend/batch"),
            ("feedback", "GET", "/v1/feedback"),
            ("feedback", "DELETE", "/v1/decisions"),
            ("feedback", "GET", f"/v1/decisions/{DECISION}/activate"),
            ("control", "POST", "/v1/policies"),
            ("control", "DELETE", "/v1/policies/a"),
            ("control", "POST", "/v1/policies/a/versions"),
            ("control", "GET", "/v1/policies/a/versions/1/promote"),
        ]:
            check_problem(await stage.call(function, method, path), 405, "wrong-method", "method")

    run(servers, play, **PATIENT)


def test_a_caller_with_an_impossible_name_is_refused(servers: LocalServers) -> None:
    """X-Client-Id is 1 to 128 printable ASCII characters, and the header is named where it is not."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        for name in ("", "ü", "a" * 129, "tab\there"):
            answer = await stage.call("recommend", "POST", "/v1/recommend", {"policy": policy}, {"X-Client-Id": name})
            check_problem(answer, 400, "invalid-input", "X-Client-Id")

    run(servers, play, **PATIENT)
