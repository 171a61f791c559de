"""`knudge deadletters` against `control` as a process, on a real PostgreSQL, with a sink that takes events or does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from functions.console import dead_letters
from functions.console.main import main
from functions.local.servers import LocalServers
from tests.hosted import ROOT, Hosted
from tests.subscriber import Subscriber

PATH = "/v1/dead-letters"
_numbers = count(1)


@dataclass
class Desk:
    """A `control` that runs, the sink that it sends to, and what that sink answers."""

    control: Hosted
    sink: Subscriber
    answers: dict[str, int]
    kind: str = ""

    @property
    def url(self) -> str:
        """Where `control` answers."""
        return f"http://127.0.0.1:{self.control.port}"

    def bury(self, data: Any = None, **attributes: str) -> int:
        """Give it a dead letter; return its number."""
        given = {"specversion": "1.0", "id": f"e-{next(_numbers)}", "source": "/shop", "type": self.kind} | attributes
        headers = {f"ce-{name}": value for name, value in given.items()}
        assert self.control.request("POST", PATH, {"n": 1} if data is None else data, headers)[0] == 204
        _, page = self.control.request("GET", f"{PATH}?limit=1")
        return int(page["letters"][0]["id"])

    def sent(self) -> list[str]:
        """Return the ids of the events of this test that the sink was sent, in order."""
        return [headers["ce-id"] for _, headers, _ in self.sink.requests if headers["ce-type"] == self.kind]


@pytest.fixture(scope="module")
def started(servers: LocalServers) -> Iterator[Desk]:
    """Run `control` for the tests of this file."""
    answers = {"status": 202}
    sink = Subscriber(lambda _: (answers["status"], {}, b""))
    with sink.serving(), Hosted("control", servers, environment={"K_SINK": sink.url}) as control:
        yield Desk(control, sink, answers)


@pytest.fixture
def desk(started: Desk) -> Desk:
    """Return the desk with an event type of this test's own and a sink that takes events."""
    started.kind = f"type.{next(_numbers)}"
    started.answers["status"] = 202
    return started


def test_a_list_is_lines_where_nobody_looks(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a letter, newest first, fields parted by tabs: what failed, where, how often, why."""
    import base64

    problem = base64.b64encode(b'{"detail": "there is no\\tpolicy", "field": "policy"}').decode()
    first = desk.bury(
        id="a\u00a0b", knativeerrordest="http://feedback/", knativeerrorcode="422", knativeerrordata=problem
    )
    second = desk.bury(knativeerrordata="said plainly")
    assert main(["deadletters", "list", "--url", desk.url, "--type", desk.kind]) == 0
    newer, older = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert len(newer) == len(older) == len(dead_letters.COLUMNS) + 1
    assert (newer[0], newer[2], newer[-1]) == (str(second), desk.kind, "said plainly")
    assert older[0] == str(first)
    assert older[2:] == [
        desk.kind, "/shop", "a b", "http://feedback/", "422", "1", "0", "open", "there is no policy [policy]"
    ]  # fmt: skip


def test_a_list_is_a_table_in_a_terminal(desk: Desk) -> None:
    """Whoever looks at a terminal sees headings, and the reason in words."""
    desk.bury(knativeerrorcode="422", knativeerrordata="said [bold]plainly")
    leader, follower = os.openpty()
    command = [sys.executable, "-m", "functions.console.main", "deadletters", "list", "--url", desk.url]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(
        [*command, "--type", desk.kind], cwd=ROOT, env=environment, stdout=follower, check=True, timeout=60
    )
    os.close(follower)
    shown = os.read(leader, 65_536).decode()
    os.close(leader)
    assert done.returncode == 0
    assert "source, id" in shown
    assert "422 said [bold]plainly" in shown
    assert "open" in shown


def test_a_list_is_narrowed(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """By type, moment, state and number; where nothing is left, that is said beside the list."""
    numbers = [desk.bury() for _ in range(3)]

    def shown(*arguments: str) -> list[int]:
        assert main(["deadletters", "list", "--url", desk.url, "--type", desk.kind, *arguments]) == 0
        return [int(line.split("\t")[0]) for line in capsys.readouterr().out.splitlines()]

    assert shown() == numbers[::-1]
    assert shown("--limit", "2") == numbers[:0:-1]
    assert shown("--since", "10m") == numbers[::-1]
    assert shown("--since", (datetime.now(UTC) + timedelta(hours=1)).isoformat()) == []
    assert main(["deadletters", "replay", "--url", desk.url, str(numbers[1])]) == 0
    capsys.readouterr()
    assert shown("--open") == [numbers[2], numbers[0]]
    assert main(["deadletters", "list", "--url", desk.url, "--type", "type.nobody"]) == 0
    assert capsys.readouterr() == ("", "no dead letters\n")


def test_letters_are_read_page_by_page(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More letters than a page holds are listed and sent all the same, each once, the oldest first."""
    monkeypatch.setattr(dead_letters, "PAGE", 2)
    numbers = [desk.bury(id=f"page-{n}") for n in range(5)]
    assert main(["deadletters", "list", "--url", desk.url, "--type", desk.kind]) == 0
    assert [int(line.split("\t")[0]) for line in capsys.readouterr().out.splitlines()] == numbers[::-1]
    assert main(["deadletters", "replay", "--url", desk.url, "--all", "--type", desk.kind]) == 0
    assert desk.sent() == [f"page-{n}" for n in range(5)]
    assert main(["deadletters", "replay", "--url", desk.url, "--all", "--type", desk.kind]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "0 of 0 sent again"


def test_letters_are_sent_again_by_number(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Named once or twice they are sent once, as often as the command is given; a number of nobody's ends with 1."""
    one, two = desk.bury(id="one"), desk.bury(id="two")
    for replays in (1, 2):
        assert main(["deadletters", "replay", "--url", desk.url, str(two), str(one), str(two)]) == 0
        said = capsys.readouterr()
        assert said.out.splitlines() == [
            f"{two} sent again, replay {replays}",
            f"{one} sent again, replay {replays}",
        ]
    assert desk.sent() == ["two", "one"] * 2
    _, letter = desk.control.request("GET", f"{PATH}/{one}")
    assert (letter["replays"], letter["replayed_by"], letter["open"]) == (2, "knudge-console", False)
    assert main(["deadletters", "replay", "--url", desk.url, "999999999"]) == 1
    assert "no dead letter" in capsys.readouterr().err


def test_a_sink_that_is_away_ends_a_replay(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The letter stays open, and the command says what became of the others."""
    monkeypatch.setattr(dead_letters, "RETRY_FOR_S", 0.0)
    for _ in range(2):
        desk.bury()
    desk.answers["status"] = 503
    arguments = ["deadletters", "replay", "--url", desk.url, "--all", "--type", desk.kind]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "0 of 2 sent again" in said
    assert "the sink does not take" in said.lower()
    desk.answers["status"] = 202
    assert main(arguments) == 0
    assert capsys.readouterr().err == "2 of 2 sent again\n"


def test_what_was_not_kept_is_left_out_of_all(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """A letter without its data does not keep the others from being sent; by its number it says why."""
    lost, kept = desk.bury("text"), desk.bury()
    assert main(["deadletters", "replay", "--url", desk.url, "--all", "--type", desk.kind]) == 0
    said = capsys.readouterr()
    assert said.out == f"{kept} sent again, replay 1\n"
    assert "1 cannot be sent again" in said.err
    assert main(["deadletters", "replay", "--url", desk.url, str(lost)]) == 1
    assert "not kept" in capsys.readouterr().err
