"""A training Job's process: where its event comes from, and what its exit codes say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from functions.train import job
from shared.edge.http import Reply
from shared.edge.problems import STATUSES, problem_reply
from shared.errors import InvalidInput, KnudgeError, UnknownEventType, UnknownPolicy
from shared.events.cloudevents import read_events
from shared.settings import Settings

ENVIRONMENT = {"KNUDGE_REDIS_URL": "redis://127.0.0.1:1/0", "KNUDGE_DATABASE_URL": "postgresql://127.0.0.1:1/none"}
EVENT = {
    "specversion": "1.0",
    "id": "7",
    "source": "/shop",
    "type": "dev.knudge.training.requested.v1",
    "datacontenttype": "application/json",
    "data": {"policy": "front-page"},
}


def test_the_event_is_a_file_in_a_folder_or_a_file(tmp_path: Path) -> None:
    """A JobSink names the folder that holds `event`; a file is read as it is."""
    (tmp_path / "event").write_bytes(b"in a folder")
    assert job.read_event_file(tmp_path) == b"in a folder"
    assert job.read_event_file(tmp_path / "event") == b"in a folder"


@pytest.mark.parametrize("name", ["", "missing", "missing/event"])
def test_an_event_that_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    """The error names the variable and the file that was looked for."""
    with pytest.raises(InvalidInput, match=r"no event can be read from .*: No such file") as refused:
        job.read_event_file(tmp_path / name)
    assert refused.value.field == "K_EVENT_PATH"


def test_the_event_is_read_as_a_jobsink_writes_it(tmp_path: Path) -> None:
    """Structured mode, whatever JSON its data is: source and id are its identity."""
    (tmp_path / "event").write_text(json.dumps(EVENT))
    request = job._request(str(tmp_path), None)
    [event], batched = read_events(dict(request.scope["headers"]), request.body, 1)
    assert (event.source, event.id, event.type, batched) == ("/shop", "7", EVENT["type"], False)
    assert json.loads(event.data) == {"policy": "front-page"}


@pytest.mark.parametrize(("path", "policy"), [("", None), ("", "front-page"), ("/nowhere", "front-page")])
def test_a_command_makes_an_event_of_its_own(path: str, policy: str | None) -> None:
    """Without an event, or for a policy that is named, the event is new each time and comes from the console."""
    seen = set()
    for _ in range(2):
        request = job._request(path, policy)
        [event], _ = read_events(dict(request.scope["headers"]), request.body, 1)
        assert (event.source, event.type) == ("knudge/console", EVENT["type"])
        assert json.loads(event.data) == {"policy": policy}
        seen.add(event.id)
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("code", "statuses"),
    [(0, (200, 202, 204)), (1, (404, 408, 409, 429, 500, 502, 503)), (2, (301, 400, 413, 422))],
)
def test_exit_codes_follow_what_a_broker_does(code: int, statuses: tuple[int, ...]) -> None:
    """What a broker would send again is 1, what it would not is 2, what was taken is 0."""
    assert {job.exit_code(status) for status in statuses} == {code}


@pytest.mark.parametrize("error", STATUSES)
def test_every_error_is_either_tried_again_or_final(error: type[KnudgeError]) -> None:
    """To an event, what lies with the event is final and what lies with the stores is tried again."""
    reply = problem_reply(error("because"), of_event=True)
    lies_with_the_stores = reply.status == 503
    assert job.exit_code(reply.status) == (job.TRY_AGAIN if lies_with_the_stores else job.POISON)
    if error in {UnknownPolicy, UnknownEventType, InvalidInput}:
        assert job.exit_code(reply.status) == job.POISON


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"KNUDGE_REDIS_URL": ""}, "KNUDGE_REDIS_URL is missing"),
        ({"KNUDGE_TRAINING_LEASE_S": "0"}, "KNUDGE_TRAINING_LEASE_S must be at least 1"),
        ({"K_EVENT_PATH": "/nowhere/at/all"}, "/nowhere/at/all"),
    ],
)
def test_what_cannot_begin_ends_with_2(
    changes: Mapping[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings or an event that are not there are said in one line, before anything connects."""
    assert job.main([], {**ENVIRONMENT, **changes}) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_the_problem_is_in_the_log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal is logged with its type, detail and field; the exit code says that it is final."""
    refused = problem_reply(UnknownPolicy("there is no policy 'x'", field="policy"), of_event=True)

    async def answer(*_: object) -> Reply:
        return refused

    monkeypatch.setattr(job, "_answer", answer)
    assert asyncio.run(job.run(job._request("", "x"), Settings())) == 2
    [line] = caplog.records
    assert (line.levelname, line.message) == ("ERROR", "the event cannot be used")
    assert line.__dict__["knudge"] == {
        "status": 422,
        "type": "urn:knudge:problem:unknown-policy",
        "detail": "there is no policy 'x'",
        "field": "policy",
    }
