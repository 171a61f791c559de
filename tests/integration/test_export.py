"""`knudge export` from a real PostgreSQL: what stands in the file is what was decided and rewarded."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from functions.console import export_obp, export_parquet
from functions.console.main import main
from functions.local.servers import LocalServers
from shared.identity import pseudonym
from tests.integration.test_policy_experiments import splitting
from tests.stage import Stage, run

ACTIONS = [{"id": "a", "features": {"price": 1.5, "colour": "red"}}, {"id": "b", "features": {"price": 2.0}}, "c"]
LOGGED_AT = "2026-11-20T12:00:00.25Z"


@pytest.fixture
def environment(servers: LocalServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the command the same database as the functions."""
    monkeypatch.setenv("KNUDGE_DATABASE_URL", servers.database_url)


async def history(stage: Stage, policy: str) -> dict[str, Any]:
    """Make one decision of every sort; return them by what they are."""
    await stage.policy(policy, actions=ACTIONS, default_reward=0.125, exploration_floor=0.03)
    context = {"age": 41.5, "device": "phone", "member": True, "tags": ["x", "y"], "none": None, "_label": "odd"}
    made = {
        "plain": await stage.recommend(policy, context=context, user_id="ada", session_id="s1"),
        "slate": await stage.recommend(policy, count=2, actions=["b", {"id": "z", "features": {"price": 9.0}}, "a"]),
        "shown": await stage.recommend(policy, defer_activation=True),
        "hidden": await stage.recommend(policy, defer_activation=True),
    }
    await stage.feedback(made["plain"]["decision_id"], value=0.75)
    await stage.feedback(made["slate"]["decision_id"], action=made["slate"]["items"][1]["action"])
    await stage.call("feedback", "POST", f"/v1/decisions/{made['shown']['decision_id']}/activate")
    logged: list[dict[str, Any]] = [
        {"policy": policy, "action": "b", "propensity": 0.25, "context": {"age": 3}, "occurred_at": LOGGED_AT, "position": 2},
        {"policy": policy, "action": "q", "propensity": None, "context": {}, "occurred_at": LOGGED_AT, "actions": ["q", "r"]},
    ]  # fmt: skip
    taken = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": logged})
    made["logged"], made["unknown"] = ({"decision_id": name} for name in taken.body["decision_ids"])
    await stage.learn(policy)
    return made


def exported(servers: LocalServers, policy: str, form: str, out: Path) -> dict[str, Any]:
    """Make the history of a policy and export it; return the decisions."""
    made: dict[str, Any] = {}

    async def play(stage: Stage) -> None:
        made.update(await history(stage, policy))

    run(servers, play)
    assert main(["export", "--policy", policy, "--format", form, "--out", str(out)]) == 0
    return made


@pytest.mark.usefixtures("environment")
def test_parquet_holds_every_item(servers: LocalServers, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row an item in the order of the decisions, typed, with pseudonyms, and without what nobody saw."""
    out = tmp_path / "deep" / "log.parquet"
    made = exported(servers, "export-parquet", "parquet", out)
    said = capsys.readouterr()
    assert said.out == f"{out}: 6 items\n"
    assert said.err == "left out: 1, deferred and not activated\n"
    table = pq.read_table(out)
    assert table.schema.equals(export_parquet.schema())
    rows = table.to_pylist()
    by_id: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_id.setdefault(row["decision_id"], []).append(row)
    named = {name: by_id.get(given["decision_id"], []) for name, given in made.items()}
    assert {name: len(found) for name, found in named.items()} == {
        "plain": 1, "slate": 2, "shown": 1, "hidden": 0, "logged": 1, "unknown": 1
    }  # fmt: skip
    [plain] = named["plain"]
    item = made["plain"]["items"][0]
    assert (plain["action"], plain["propensity"]) == (item["action"], item["propensity"])
    assert (plain["reward"], plain["answered"], plain["settled"]) == (0.75, True, False)
    assert (plain["user"], plain["session"]) == (
        pseudonym(servers.server_key.encode(), "user", "ada"),
        pseudonym(servers.server_key.encode(), "session", "s1"),
    )
    assert plain["eligible"] == ["a", "b", "c"]
    assert json.loads(plain["context"]) == {
        "age": 41.5, "device": "phone", "member": True, "tags": ["x", "y"], "none": None, "_label": "odd"
    }  # fmt: skip
    assert (plain["exploration_floor"], plain["origin"], plain["degraded"]) == (0.03, "served", False)
    first, second = named["slate"]
    assert [first["position"], second["position"], first["items"]] == [0, 1, 2]
    assert first["eligible"] == ["b", "z", "a"]
    assert second["eligible"] == [action for action in ["b", "z", "a"] if action != first["action"]]
    assert (first["reward"], first["answered"], second["reward"], second["answered"]) == (0.125, False, 1.0, True)
    assert [row["propensity"] for row in named["slate"]] == [given["propensity"] for given in made["slate"]["items"]]
    if second["action"] == "z" or first["action"] == "z":
        theirs = first if first["action"] == "z" else second
        assert json.loads(theirs["features"]) == {"price": 9.0}
    [logged], [unknown] = named["logged"], named["unknown"]
    assert (logged["origin"], logged["propensity"], logged["exploration_floor"], logged["logged_position"]) == (
        "logged", 0.25, None, 2
    )  # fmt: skip
    assert logged["decided_at"].isoformat() == "2026-11-20T12:00:00.250000+00:00"
    assert (unknown["propensity"], unknown["eligible"]) == (None, ["q", "r"])
    assert [shown["deferred"] for shown in named["shown"]] == [True]


@pytest.mark.usefixtures("environment")
def test_parquet_says_what_a_decision_belongs_to(servers: LocalServers, tmp_path: Path) -> None:
    """The experiment, phase, variation and unit stand beside a decision that was split, and nothing beside others."""
    out = tmp_path / "log.parquet"
    found: dict[str, str] = {}

    async def play(stage: Stage) -> None:
        key, first, second = await splitting(stage)
        answer = await stage.recommend(first, user_id="ada")
        policy = answer["policy"]
        found.update(key=key, policy=policy, variation=answer["experiment"]["variation"])
        assert policy in {first, second}
        await stage.recommend(policy)
        await stage.learn(policy)

    run(servers, play)
    assert main(["export", "--policy", found["policy"], "--format", "parquet", "--out", str(out)]) == 0
    rows = pq.read_table(out).to_pylist()
    assert [(row["experiment"], row["phase"], row["variation"], row["unit"]) for row in rows] == [
        (found["key"], 1, found["variation"], pseudonym(servers.server_key.encode(), "user", "ada")),
        (None, None, None, None),
    ]


@pytest.mark.usefixtures("environment")
def test_a_log_longer_than_a_row_group(
    servers: LocalServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory holds one row group at a time; a span takes what was decided within it."""
    monkeypatch.setattr(export_parquet, "ROW_GROUP", 100)
    policy = "export-long"
    began = time.time()

    async def play(stage: Stage) -> None:
        await stage.policy(policy)
        for _ in range(2):
            answer = await stage.call(
                "recommend", "POST", "/v1/recommend/batch", {"requests": [{"policy": policy}] * 175}
            )
            assert answer.status == 200
        await stage.learn(policy)

    run(servers, play)
    out = tmp_path / "log.parquet"
    command = ["export", "--policy", policy, "--format", "parquet", "--out", str(out)]
    assert main(command) == 0
    file = pq.ParquetFile(out)
    assert [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)] == [100, 100, 100, 50]
    moments = file.read(["decided_at"]).column(0).to_pylist()
    assert moments == sorted(moments)
    middle = moments[200]
    assert main([*command, "--from", middle.isoformat()]) == 0
    assert pq.read_table(out).column("decided_at").to_pylist() == [m for m in moments if m >= middle]
    assert main([*command, "--to", middle.isoformat()]) == 0
    assert pq.read_table(out).num_rows == sum(m < middle for m in moments)
    assert moments[0].timestamp() >= began - 1
    capsys.readouterr()
    assert main([*command, "--settled"]) == 0
    assert capsys.readouterr().err == "left out: 350, reward window not over\n"
    assert pq.read_table(out).num_rows == 0


@pytest.mark.usefixtures("environment")
def test_vw_lines(servers: LocalServers, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line an item that `vw --dsjson --cb_explore_adf` reads: label, propensity, what was left to choose among."""
    out = tmp_path / "log.json"
    made = exported(servers, "export-vw", "vw", out)
    assert capsys.readouterr().err == "left out: 1, deferred and not activated\nleft out: 1, propensity unknown\n"
    lines = {line["EventId"]: line for line in map(json.loads, out.read_text().splitlines())}
    assert len(lines) == 5
    item = made["plain"]["items"][0]
    plain = lines[made["plain"]["decision_id"]]
    chosen = "abc".index(item["action"])
    timestamp = plain.pop("Timestamp")
    assert timestamp.endswith("Z")
    assert plain == {
        "_label_cost": -0.75,
        "_label_probability": item["propensity"],
        "_label_Action": chosen + 1,
        "_labelIndex": chosen,
        "Version": "1",
        "EventId": made["plain"]["decision_id"],
        "a": [chosen + 1, *[n for n in (1, 2, 3) if n != chosen + 1]],
        "c": {
            "Context": {"age": 41.5, "device": "phone", "member": True, "tags=x": True, "tags=y": True, "-_label": "odd"},
            "_multi": [
                {"Action": {"id": "a"}, "Features": {"price": 1.5, "colour": "red"}},
                {"Action": {"id": "b"}, "Features": {"price": 2.0}},
                {"Action": {"id": "c"}},
            ],
        },
        "p": [item["propensity"]],
        "VWState": {"m": "export-vw/1/1"},
    }  # fmt: skip
    slate = made["slate"]
    below = lines[f"{slate['decision_id']}.1"]
    assert below["_label_cost"] == -1.0
    assert len(below["c"]["_multi"]) == 2
    assert below["c"]["_multi"][below["_labelIndex"]]["Action"] == {"id": slate["items"][1]["action"]}
    assert lines[made["logged"]["decision_id"]]["_label_probability"] == 0.25
    assert lines[made["shown"]["decision_id"]]["_label_cost"] == -0.125


@pytest.mark.usefixtures("environment")
def test_a_bandit_feedback_dictionary(
    servers: LocalServers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Arrays as obp names them, read without pickles; context and actions by column."""
    out = tmp_path / "log.npz"
    made = exported(servers, "export-obp", "obp", out)
    assert capsys.readouterr().err == "left out: 1, deferred and not activated\nleft out: 1, propensity unknown\n"
    with np.load(out, allow_pickle=False) as stored:
        feedback = {name: stored[name] for name in stored.files}
    assert (int(feedback["n_rounds"]), int(feedback["n_actions"])) == (5, 4)
    rows = {name.decode(): row for row, name in enumerate(feedback["decision_id"].tolist())}
    actions, columns = feedback["actions"].tolist(), feedback["context_columns"].tolist()
    assert set(actions) == {"a", "b", "c", "z"}
    plain = rows[made["plain"]["decision_id"]]
    item = made["plain"]["items"][0]
    assert actions[feedback["action"][plain]] == item["action"]
    assert (feedback["pscore"][plain], feedback["reward"][plain]) == (item["propensity"], 0.75)
    assert dict(zip(columns, feedback["context"][plain].tolist(), strict=True)) == {
        "age": 41.5, "device=phone": 1.0, "member": 1.0, "tags=x": 1.0, "tags=y": 1.0, "_label=odd": 1.0
    }  # fmt: skip
    last = rows[made["slate"]["decision_id"]]  # of the two rows of a slate the later one
    items = made["slate"]["items"]
    assert feedback["slate_id"][last - 1] == feedback["slate_id"][last] != feedback["slate_id"][plain]
    assert feedback["position"][last - 1 : last + 1].tolist() == [0, 1]
    assert feedback["pscore"][last] == items[1]["propensity"]
    assert feedback["pscore_cascade"][last] == pytest.approx(items[0]["propensity"] * items[1]["propensity"])
    assert {actions[at] for at in np.flatnonzero(feedback["eligible"][last - 1])} == {"a", "b", "z"}
    assert {actions[at] for at in np.flatnonzero(feedback["eligible"][last])} == {"a", "b", "z"} - {items[0]["action"]}
    prices = feedback["action_context"][:, feedback["action_context_columns"].tolist().index("price")]
    assert dict(zip(actions, prices.tolist(), strict=True)) | {"a": 0.0} == {"a": 0.0, "b": 2.0, "c": 0.0, "z": 9.0}
    logged = rows[made["logged"]["decision_id"]]
    assert (feedback["logged"][logged], feedback["logged_position"][logged]) == (True, 2)
    assert np.isnan(feedback["exploration_floor"][logged])


@pytest.mark.usefixtures("environment")
def test_what_cannot_be_exported(
    servers: LocalServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No such policy, nothing there, too many categories, nowhere to write: one line each, and no file."""
    policy = "export-not"

    async def play(stage: Stage) -> None:
        await stage.policy(policy)
        for number in range(4):
            await stage.recommend(policy, context={"city": f"c{number}"})
        await stage.learn(policy)

    run(servers, play)
    out = tmp_path / "log"
    command = ["export", "--policy", policy, "--out", str(out), "--format"]

    def complaint(*arguments: str) -> str:
        assert main([*arguments]) == 1
        assert list(tmp_path.iterdir()) == []
        return capsys.readouterr().err

    assert "there is no policy 'nobody'" in complaint(
        "export", "--policy", "nobody", "--format", "vw", "--out", str(out)
    )
    assert "nothing to export" in complaint(*command, "obp", "--to", "2026-01-01")
    monkeypatch.setattr(export_obp, "MOST_COLUMNS", 3)
    assert "more than 3 columns ('city=c3' is one)" in complaint(*command, "obp")
    assert "cannot be written" in complaint(
        "export", "--policy", policy, "--format", "vw", "--out", "/proc/nothing/log"
    )
    monkeypatch.delenv("KNUDGE_DATABASE_URL")
    assert "KNUDGE_DATABASE_URL is missing" in complaint(*command, "vw")


def test_the_schema_is_documented() -> None:
    """Every column of the Parquet file stands in the page about decisions, in order."""
    page = (Path(__file__).parents[2] / "docs/operations/decisions.md").read_text()
    places = [page.find(f"| `{field.name}` | {_type(field.type)} |") for field in export_parquet.schema()]
    assert -1 not in places
    assert places == sorted(places)


def _type(kind: pa.DataType) -> str:
    return {"timestamp[us, tz=UTC]": "timestamp, UTC", "list<item: string>": "list of strings"}.get(
        str(kind), str(kind)
    )
