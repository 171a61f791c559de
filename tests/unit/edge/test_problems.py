"""Every error becomes problem details with a stable type, and what must not be tried again by a broker is not."""

from __future__ import annotations

import msgspec
import pytest

from shared import errors
from shared.edge.problems import STATUSES, Problem, fault_reply, problem_reply

TYPES = {
    "InvalidInput": ("invalid-input", "The input is not valid", 400),
    "TooLarge": ("too-large", "The input exceeds a bound", 413),
    "UnknownRoute": ("unknown-route", "There is nothing at this path", 404),
    "WrongMethod": ("wrong-method", "This path does not take that method", 405),
    "UnknownPolicy": ("unknown-policy", "No such policy", 404),
    "UnknownDecision": ("unknown-decision", "No such decision", 404),
    "UnknownExperiment": ("unknown-experiment", "No such experiment", 404),
    "UnknownFlag": ("unknown-flag", "No such flag", 404),
    "UnknownDeadLetter": ("unknown-dead-letter", "No such dead letter", 404),
    "NotKept": ("not-kept", "What this would need was not kept", 409),
    "SinkUnavailable": ("sink-unavailable", "The sink does not take the event", 503),
    "UnknownEventType": ("unknown-event-type", "This function does not take events of that type", 422),
    "Conflict": ("conflict", "The request contradicts an earlier one", 409),
    "NotBootstrapped": (
        "not-bootstrapped",
        "No snapshot is at hand and the request names no actions to choose among",
        503,
    ),
    "NoCatalogue": ("no-catalogue", "No catalogue of experiments is at hand", 503),
    "Unavailable": ("unavailable", "A store does not answer", 503),
    "Overloaded": ("overloaded", "More requests are waiting than this process takes", 503),
}
"""Callers rely on these: add, never change."""

every_error = pytest.mark.parametrize("error", STATUSES, ids=lambda error: error.__name__)


def tried_again(status: int) -> bool:
    """Tell whether Knative's broker delivers an event again after this answer."""
    return status in {404, 408, 409, 429} or status >= 500


@pytest.mark.parametrize("name", TYPES)
def test_types_titles_and_statuses_are_stable(name: str) -> None:
    """A caller may match on type and status for ever."""
    slug, title, status = TYPES[name]
    reply = problem_reply(getattr(errors, name)("what happened", field="actions[3].id"))
    assert reply.status == status
    assert dict(reply.headers)[b"content-type"] == b"application/problem+json"
    assert msgspec.json.decode(reply.body) == {
        "type": f"urn:knudge:problem:{slug}",
        "title": title,
        "status": status,
        "detail": "what happened",
        "field": "actions[3].id",
    }


def test_every_error_of_a_request_has_a_status() -> None:
    """No error that a request can meet falls through to 500, and no two share a type."""
    members = [member for member in vars(errors).values() if isinstance(member, type)]
    kinds = {member for member in members if issubclass(member, errors.KnudgeError)} - {errors.KnudgeError}
    assert kinds - set(STATUSES) == {errors.Misconfigured}
    assert {kind.__name__ for kind in STATUSES} == set(TYPES)
    assert len({kind.slug for kind in kinds}) == len(kinds)


def test_several_faults_are_all_named() -> None:
    """A problem of several faults holds each, and stands by the first; a broker is sent what fits its dead letters."""
    error = errors.InvalidInput.of([("weights", "must sum to 1"), ("layer.low", "must be at least 0")])
    body = msgspec.json.decode(problem_reply(error).body)
    assert (body["field"], body["detail"]) == ("weights", "weights: must sum to 1; layer.low: must be at least 0")
    assert body["errors"] == [
        {"field": "weights", "detail": "must sum to 1"},
        {"field": "layer.low", "detail": "must be at least 0"},
    ]
    assert "errors" not in msgspec.json.decode(problem_reply(error, of_event=True).body)


def test_a_problem_without_field_names_none() -> None:
    """Where no input is at fault there is no member `field`."""
    assert "field" not in msgspec.json.decode(problem_reply(errors.Unavailable("Redis is away")).body)


@every_error
def test_only_what_may_work_later_asks_to_come_back(error: type[errors.KnudgeError]) -> None:
    """503 carries `Retry-After`, nothing else does, to callers and to the broker alike."""
    for of_event in (False, True):
        reply = problem_reply(error("what happened"), of_event=of_event)
        assert (b"retry-after" in dict(reply.headers)) == (reply.status == 503)


@every_error
def test_a_poison_event_is_not_tried_again(error: type[errors.KnudgeError]) -> None:
    """The broker gets a status that it retries exactly where a later attempt may succeed; the body says the same."""
    reply = problem_reply(error("what happened"), of_event=True)
    may_work_later = error in {
        errors.NotBootstrapped,
        errors.NoCatalogue,
        errors.Unavailable,
        errors.SinkUnavailable,
        errors.Overloaded,
    }
    assert tried_again(reply.status) == may_work_later
    assert msgspec.json.decode(reply.body, type=Problem).status == reply.status


def test_an_error_without_a_status_of_its_own_is_a_500() -> None:
    """What is nobody's fault outside is the server's."""
    assert problem_reply(errors.Misconfigured("KNUDGE_SERVER_KEY is missing")).status == 500


def test_text_of_any_kind_is_shown() -> None:
    """Details may hold quotes, NUL and any character; the body stays JSON."""
    detail = 'the action "\0\u2028😀" stands twice'
    assert msgspec.json.decode(problem_reply(errors.InvalidInput(detail)).body, type=Problem).detail == detail


@pytest.mark.parametrize("text", ["x" * 5_000, "é" * 5_000, "\x01" * 5_000, "😀" * 400, "short"])
def test_an_answer_to_an_event_is_handed_on_whole(text: str) -> None:
    """A broker hands on 768 bytes of an answer: an answer to an event has no more, and still says what is at fault."""
    for detail, field in [(text, None), (text, "body"), ("at fault", text), (text, text)]:
        reply = problem_reply(errors.InvalidInput(detail, field=field), of_event=True)
        problem = msgspec.json.decode(reply.body, type=Problem)
        assert len(reply.body) <= 768
        assert problem.detail
        assert detail.startswith(problem.detail)
        assert (field or "").startswith(problem.field or "")
        whole = msgspec.json.decode(problem_reply(errors.InvalidInput(detail, field=field)).body, type=Problem)
        assert whole.detail == detail


def test_a_fault_tells_nothing_of_its_cause() -> None:
    """An error that nobody foresaw is a 500 whose cause stands in the log alone."""
    reply = fault_reply()
    problem = msgspec.json.decode(reply.body, type=Problem)
    assert (reply.status, problem.status, problem.type) == (500, 500, "urn:knudge:problem:fault")
    assert dict(reply.headers)[b"content-type"] == b"application/problem+json"
    assert problem.detail == "the log of the function says more"
