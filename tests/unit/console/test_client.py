"""The HTTP client against a server that refuses, breaks and explains itself."""

from __future__ import annotations

import pytest

from functions.console.client import Client
from functions.console.failure import ConsoleFailure
from tests.unit.console.fake_functions import FakeFunctions

POLICY = {"kind": "thompson", "actions": ["a"], "reward": {"click": 1.0}}


def test_overload_is_retried_when_the_server_says(functions: FakeFunctions) -> None:
    """429 and 503 are retried after the seconds that Retry-After names, or the client's own growing pause."""
    functions.refusals += [
        (429, {"Retry-After": "3"}, b""),
        (503, {}, b"{}"),
        (503, {"Retry-After": "nonsense"}, b""),
    ]
    pauses: list[float] = []
    with Client(functions.url, sleep=pauses.append) as client:
        assert client.put("/v1/policies/p", POLICY)["version"] == 1
    assert pauses[0] == 3.0
    assert 0.0 < pauses[1] < pauses[2] < 1.0
    assert len(functions.requests) == 4


def test_overload_without_end_is_an_error(functions: FakeFunctions) -> None:
    """Retries are bounded: a wait beyond the limit is not begun."""
    functions.refusals += [(503, {"Retry-After": "120"}, b'{"title": "A store does not answer", "detail": "postgres"}')]
    with (
        Client(functions.url, retry_for_s=1.0) as client,
        pytest.raises(ConsoleFailure, match=r"A store does not answer \(503\): postgres"),
    ):
        client.get("/v1/policies/p")


def test_broken_connection_is_opened_again(functions: FakeFunctions) -> None:
    """A connection that a server closed while idle costs one retry."""
    functions.refusals += [(0, {}, b"")]
    with Client(functions.url, sleep=lambda _: None) as client:
        assert client.put("/v1/policies/p", POLICY)["version"] == 1


def test_problem_details_become_one_line(functions: FakeFunctions) -> None:
    """Title, status, detail and field of a problem are in the message."""
    body = b'{"title": "The input is not valid", "detail": "must be above 0", "field": "events[3].value"}'
    functions.refusals += [(400, {}, body)]
    with Client(functions.url) as client, pytest.raises(ConsoleFailure) as caught:
        client.post("/v1/feedback", {})
    assert caught.value.detail == (
        "POST /v1/feedback was refused: The input is not valid (400): must be above 0 [field events[3].value]"
    )


def test_another_server_is_recognised(functions: FakeFunctions) -> None:
    """An answer that is no JSON object is no Knudge."""
    functions.refusals += [(200, {}, b"<html>")]
    with Client(functions.url) as client, pytest.raises(ConsoleFailure, match="is this Knudge"):
        client.get("/v1/policies/p")


def test_absence_is_no_error_when_looked_for(functions: FakeFunctions) -> None:
    """`find` answers None for 404 and raises for the rest."""
    with Client(functions.url) as client:
        assert client.find("/v1/policies/p") is None
        functions.refusals += [(500, {}, b"")]
        with pytest.raises(ConsoleFailure, match="500"):
            client.find("/v1/policies/p")


def test_nobody_there_is_explained() -> None:
    """A refused connection names the URL and what to do."""
    with (
        Client("http://127.0.0.1:1") as client,
        pytest.raises(ConsoleFailure, match=r"127\.0\.0\.1:1.*make run"),
    ):
        client.get("/")


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://host", "http://", "http://host:port"])
def test_useless_urls_are_refused(url: str) -> None:
    """Only http and https URLs with a host and a numeric port are taken."""
    with pytest.raises(ConsoleFailure, match="is no URL"):
        Client(url)


def test_requests_say_who_asks(functions: FakeFunctions) -> None:
    """Every request carries the client's name; the path of the base URL comes first."""
    with Client(f"{functions.url}/functions/feedback/") as client, pytest.raises(ConsoleFailure):
        client.get("/v1/x")
    method, path, headers = functions.requests[0]
    assert (method, path, headers["X-Client-Id"]) == ("GET", "/functions/feedback/v1/x", "knudge-console")
