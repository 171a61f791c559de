"""What no function takes, in a local run: kept, shown, sent again once the cause is mended, and counted once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from functions.console.main import main
from functions.local.servers import LocalServers
from shared.identity import pseudonym
from tests.integration.test_local_run import Run, run, wait_until

GIVEN = "dev.knudge.feedback.given.v1"
LOGGED = "dev.knudge.decision.logged.v1"
REQUESTED = "dev.knudge.recommendation.requested.v1"
OUTAGE_S = 60.0


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Return a run that the tests of this file share."""
    with run(tmp_path_factory.mktemp("run") / ".knudge") as running:
        yield running


def send(local: Run, event_type: str, event_id: str, data: Any, **attributes: str) -> None:
    """Give the broker an event."""
    given = {"specversion": "1.0", "id": event_id, "source": "/shop", "type": event_type} | attributes
    assert local.call("POST", "/", data, {f"ce-{name}": value for name, value in given.items()})[0] == 202


def letters(local: Run, event_id: str) -> list[dict[str, Any]]:
    """Return the dead letters of an event."""
    _, page = local.call("GET", "/v1/dead-letters?limit=1000")
    return [letter for letter in page["letters"] if letter["event_id"] == event_id]


def logged(policy: str) -> dict[str, Any]:
    """Return a decision as another system logs it."""
    at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    return {"policy": policy, "action": "a", "propensity": 0.5, "context": {}, "occurred_at": at, "user_id": "ada"}


def test_a_poison_event_ends_among_the_dead_letters(local: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused once, kept without names, and the list says what it was, where it failed and why."""
    send(local, GIVEN, "poison", {"decision_id": "nonsense", "kind": "click", "user_id": "ada"}, subject="ada")
    assert wait_until(lambda: bool(letters(local, "poison")))
    [letter] = letters(local, "poison")
    assert (letter["type"], letter["error_code"], letter["arrivals"], letter["open"]) == (GIVEN, 400, 1, True)
    assert letter["destination"].endswith("/functions/feedback/")
    assert main(["deadletters", "list", "--url", local.url, "--type", GIVEN]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "\tpoison\t" in line]
    assert "give one of the two [user_id]" in line
    _, whole = local.call("GET", f"/v1/dead-letters/{letter['id']}")
    assert whole["data"]["decision_id"] == "nonsense"
    assert "ada" not in str(whole)


def test_a_letter_that_fails_again_is_open_again(local: Run) -> None:
    """Sent again without mending, the event comes back to the same letter."""
    send(local, LOGGED, "stubborn", logged("never-written"))
    assert wait_until(lambda: bool(letters(local, "stubborn")))
    [letter] = letters(local, "stubborn")
    assert local.call("POST", f"/v1/dead-letters/{letter['id']}/replay")[0] == 200
    assert wait_until(lambda: letters(local, "stubborn")[0]["arrivals"] == 2)
    [again] = letters(local, "stubborn")
    assert (again["id"], again["replays"], again["open"]) == (letter["id"], 1, True)
    assert again["error_data"] == letter["error_data"]


def test_feedback_outlives_an_outage_of_postgresql(local: Run) -> None:
    """Feedback that comes while PostgreSQL is away is tried until it is back, and is no dead letter."""
    before = local.clicks()
    decision = local.recommend()
    assert wait_until(lambda: local.call("GET", "/v1/policies/demo")[0] == 200)
    os.kill(int((local.data / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    send(local, GIVEN, "patient", {"decision_id": decision, "kind": "click"})
    deadline = time.monotonic() + OUTAGE_S
    learned = False
    while not learned and time.monotonic() < deadline:
        time.sleep(0.25)
        learned = local.call("GET", "/v1/policies/demo")[0] == 200 and local.clicks() > before + 0.5
    assert learned
    assert letters(local, "patient") == []
    assert local.call("GET", "/")[1]["broker"]["retried"] > 0


def test_a_letter_of_a_function_that_was_broken_is_taken_once(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """After mending, all letters sent again (and again) are taken once, and stored as the originals would have been."""
    data = tmp_path_factory.mktemp("mended") / ".knudge"
    with run(data) as local:
        decision = logged("late")
        send(local, LOGGED, "logged", decision)
        send(local, REQUESTED, "requested", {"policy": "late", "user_id": "ada", "session_id": "s"})
        assert wait_until(lambda: bool(letters(local, "logged") and letters(local, "requested")))
        spec = {"kind": "thompson", "actions": ["a", "b"], "reward": {"click": 1.0}}
        assert local.call("PUT", "/v1/policies/late", spec)[0] == 201
        assert main(["deadletters", "replay", "--url", local.url, "--all"]) == 0
        assert capsys.readouterr().err == "2 of 2 sent again\n"
        numbers = [str(letters(local, name)[0]["id"]) for name in ("logged", "requested")]
        assert main(["deadletters", "replay", "--url", local.url, *numbers]) == 0
        send(local, LOGGED, "logged", decision)  # the source repeats the original, too
        send(local, LOGGED, "other", decision)

        def shown() -> float:
            _, policy = local.call("GET", "/v1/policies/late")
            return float(sum(each["weight"] for each in policy["snapshot"]["actions"]))

        assert wait_until(lambda: shown() == 3.0)
        assert not any(letter["open"] for letter in letters(local, "logged") + letters(local, "requested"))
        assert local.stop()[0] == 0
    with (
        LocalServers.start(data) as servers,
        psycopg.connect(servers.database_url, row_factory=dict_row) as connection,
    ):
        rows = connection.execute("select * from decisions where policy = 'late'").fetchall()
        assert sorted(row["origin"] for row in rows) == ["logged", "logged", "served"]
        key = servers.server_key.encode()
        assert {row["user_pseudonym"] for row in rows} == {pseudonym(key, "user", "ada")}
        assert {row["session_pseudonym"] for row in rows} == {None, pseudonym(key, "session", "s")}
        replayed, original = (
            {column: value for column, value in row.items() if column != "decision_id"}
            for row in rows
            if row["origin"] == "logged"
        )
        assert replayed == original
