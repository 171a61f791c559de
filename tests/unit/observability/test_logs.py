"""Logs are JSON, one object a line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.observability.logs import JsonFormatter, configure_logs
from shared.observability.tracing import Trace, current_trace


def line(message: str = "it happened", **fields: object) -> dict[str, Any]:
    """Return the object that a record is formatted as."""
    record = logging.LogRecord("shared.somewhere", logging.WARNING, __file__, 1, message, (), None)
    record.created = 1_700_000_000.25
    vars(record).update(fields)
    text = JsonFormatter("recommend").format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line_says_when_where_and_what() -> None:
    """Time with zone, level, function, logger and message; nothing of a trace where there is none."""
    said = line()
    assert datetime.fromisoformat(said.pop("time")) == datetime.fromtimestamp(1_700_000_000.25, UTC)
    assert said == {
        "level": "warning",
        "function": "recommend",
        "logger": "shared.somewhere",
        "message": "it happened",
    }


def test_a_message_takes_its_arguments() -> None:
    """The logging module's arguments are filled in."""
    assert line("%d of %s", args=(3, "four"))["message"] == "3 of four"


def test_extras_become_members() -> None:
    """What is passed as `knudge` stands in the object, whatever its type."""
    extras = {"decision_id": "d", "count": 3, "error": ValueError("broken"), "nothing": None, "share": float("nan")}
    said = line(knudge=extras)
    assert {name: said[name] for name in extras} == {
        "decision_id": "d",
        "count": 3,
        "error": "broken",
        "nothing": None,
        "share": None,
    }


def test_a_line_within_a_trace_names_it() -> None:
    """Trace and span ids stand where a task belongs to a trace."""
    token = current_trace.set(Trace("a" * 32, "b" * 16))
    try:
        said = line()
    finally:
        current_trace.reset(token)
    assert (said["trace_id"], said["span_id"]) == ("a" * 32, "b" * 16)


def test_an_exception_is_shown_on_the_same_line() -> None:
    """A traceback is a member, its line ends escaped."""
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        said = line(exc_info=(type(error), error, error.__traceback__))
    assert said["exception"].endswith("ZeroDivisionError: division by zero")
    assert "Traceback" in said["exception"]


@pytest.mark.parametrize("text", ["two\nlines", '"quoted"', "NUL \0", "😀", "half \ud800"])
def test_any_text_is_a_line(text: str) -> None:
    """Whatever a message or an extra holds, the line is JSON and holds it too."""
    said = line(text, knudge={"detail": text})
    assert (said["message"], said["detail"]) == (text, text)


def test_logs_go_to_standard_output_from_their_level_up(capsys: pytest.CaptureFixture[str]) -> None:
    """Configured twice, each record above the level is written once, as JSON."""
    configure_logs("feedback", "debug")
    configure_logs("feedback", "Warning")
    logging.getLogger("anyone").info("not worth it")
    logging.getLogger("anyone").error("worth it", extra={"knudge": {"policy": "p"}})
    written = capsys.readouterr()
    (said,) = map(json.loads, written.out.splitlines())
    assert (said["level"], said["message"], said["policy"], said["function"]) == ("error", "worth it", "p", "feedback")
    assert written.err == ""
