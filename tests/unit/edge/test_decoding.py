"""What callers send is decoded, or refused by the name of the field at fault."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.edge.contracts import FeedbackBatch, FeedbackIn, LoggedDecisions, PolicyIn, RecommendRequest
from shared.edge.decoding import (
    Bounds,
    decode,
    decode_arguments,
    decode_each,
    decode_one_or_many,
    decode_time,
)
from shared.edge.learning_contracts import LearningDue
from shared.edge.letters import DeadLettersAsked
from shared.errors import InvalidInput, KnudgeError, TooLarge
from shared.identity import seal
from shared.settings import Settings

RECOMMEND = msgspec.json.Decoder(RecommendRequest)
FEEDBACK = msgspec.json.Decoder(FeedbackIn)
EVENTS = msgspec.json.Decoder(FeedbackBatch)
DECISIONS = msgspec.json.Decoder(LoggedDecisions)
SWEEP = msgspec.json.Decoder(LearningDue)
POLICY = msgspec.json.Decoder(PolicyIn)


def field_at_fault(decoder: msgspec.json.Decoder[Any], body: bytes) -> str | None:
    """Return the field that a body is refused for."""
    with pytest.raises(InvalidInput) as refused:
        decode(decoder, body)
    assert refused.value.detail
    return refused.value.field


def context(value: bytes) -> bytes:
    """Return a request whose context holds a value."""
    return b'{"policy": "p", "context": {"a": ' + value + b"}}"


def test_a_whole_request_is_decoded() -> None:
    """Every field of the documented request arrives as it was sent."""
    body = """{"policy": "p", "user_id": "u", "session_id": "s", "count": 2, "exclude": ["x"], "request_id": "r",
        "context": {"n": 1.5, "t": "täglich 😀", "b": true, "l": ["a"], "z": null},
        "actions": ["a", {"id": "b", "features": {"n": 2}}], "defer_activation": true, "default_action": "a"}"""
    request = decode(RECOMMEND, body.encode())
    assert request.context == {"n": 1.5, "t": "täglich 😀", "b": True, "l": ["a"], "z": None}
    assert (request.policy, request.count, request.exclude, request.request_id) == ("p", 2, ["x"], "r")
    assert (request.user_id, request.session_id, request.defer_activation) == ("u", "s", True)
    assert msgspec.to_builtins(request.actions) == ["a", {"id": "b", "features": {"n": 2.0}}]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "policy"),
        (b'{"policy": 1}', "policy"),
        (b'{"policy": null}', "policy"),
        (b'{"policy": "p", "polcy": 1}', "polcy"),
        (b'{"policy": "p", "count": 0}', "count"),
        (b'{"policy": "p", "count": 1.5}', "count"),
        (b'{"policy": "p", "count": "1"}', "count"),
        (b'{"policy": "p", "count": true}', "count"),
        (b'{"policy": "p", "defer_activation": 1}', "defer_activation"),
        (b'{"policy": "p", "exclude": "a"}', "exclude"),
        (b'{"policy": "p", "exclude": ["a", 2]}', "exclude[1]"),
        (b'{"policy": "p", "actions": ["a", 3]}', "actions[1]"),
        (b'{"policy": "p", "actions": [{"features": {}}]}', "actions[0].id"),
        (b'{"policy": "p", "actions": ["a", {"id": "b", "feature": {}}]}', "actions[1].feature"),
        (b'{"policy": "p", "context": []}', "context"),
        (context(b"{}"), "context[...]"),
        (context(b'["x", 1]'), "context[...][1]"),
    ],
)
def test_faults_of_shape_name_their_field(body: bytes, field: str) -> None:
    """What is missing, misspelt or of the wrong type is named by its path."""
    assert field_at_fault(RECOMMEND, body) == field


@pytest.mark.parametrize(
    ("decoder", "body", "field"),
    [
        (EVENTS, b'{"events": [{"decision_id": "d", "kind": "k"}, {"decision_id": "d"}]}', "events[1].kind"),
        (EVENTS, b'{"events": [{"decision_id": "d", "kind": "k", "value": true}]}', "events[0].value"),
        (EVENTS, b'{"events": [{"decision_id": "d", "kind": "k", "vale": 1}]}', "events[0].vale"),
        (DECISIONS, b'{"decisions": [{"policy": "p"}]}', "decisions[0].action"),
        (POLICY, b'{"kind": "k", "reward": {"click": {"wieght": 1}}}', "reward[...].wieght"),
        (POLICY, b'{"kind": "k", "reward": {"click": {"combine": "median"}}}', "reward[...].combine"),
        (POLICY, b'{"kind": "k", "reward": {}, "reward_range": [0]}', "reward_range"),
    ],
)
def test_faults_deep_inside_name_their_path(decoder: msgspec.json.Decoder[Any], body: bytes, field: str) -> None:
    """An invalid event in a batch names its index, an invalid rule its member."""
    assert field_at_fault(decoder, body) == field


@pytest.mark.parametrize("propensity", [b"0", b"-0.1", b"1.0001", b"0.0"])
def test_propensities_lie_above_0_and_not_above_1(propensity: bytes) -> None:
    """A logged propensity is a probability of something that happened."""
    body = b'{"decisions": [{"policy": "p", "action": "a", "propensity": %s, "context": {}, "occurred_at": "%s"}]}'
    moment = b"2026-01-01T00:00:00Z"
    assert field_at_fault(DECISIONS, body % (propensity, moment)) == "decisions[0].propensity"
    for good in (b"1", b"1e-9", b"null"):
        assert decode(DECISIONS, body % (good, moment)).decisions[0].action == "a"


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"1" + b"0" * 400])
def test_numbers_beyond_floats_are_refused(number: bytes) -> None:
    """1e400 is no number that can be stored, in a context or as a value."""
    assert field_at_fault(RECOMMEND, context(number)) == "context[...]"
    assert field_at_fault(FEEDBACK, b'{"decision_id": "d", "kind": "k", "value": %s}' % number) == "value"


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"nan"])
def test_what_is_no_number_of_json_is_refused(number: bytes) -> None:
    """NaN and infinities are no JSON."""
    assert field_at_fault(RECOMMEND, context(number)) == "body"


@pytest.mark.parametrize(
    "text", [rb"\ud800", rb"\udc00", rb"\ud800x", rb"\ud800\u0041", rb"\ud800\ud800", rb"\udc00\ud800", rb"a\udfffb"]
)
def test_lone_surrogates_are_refused(text: bytes) -> None:
    """Half a character cannot be stored, neither as a value nor as a key; a pair is a character."""
    assert field_at_fault(RECOMMEND, b'{"policy": "' + text + b'"}') == "body"
    assert field_at_fault(RECOMMEND, b'{"policy": "p", "context": {"' + text + b'": 1}}') == "body"
    assert decode(RECOMMEND, rb'{"policy": "\ud83d\ude00"}').policy == "😀"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (rb'{"policy": "p\u0000"}', "policy"),
        (rb'{"policy": "p", "user_id": "\u0000"}', "user_id"),
        (rb'{"policy": "p", "exclude": ["a", "\u0000b"]}', "exclude[1]"),
        (rb'{"policy": "p", "context": {"a": "\u0000"}}', "context.a"),
        (rb'{"policy": "p", "context": {"a": ["x", "y\u0000"]}}', "context.a[1]"),
        (rb'{"policy": "p", "context": {"a\u0000": 1}}', "context.a\0"),
        (rb'{"policy": "p", "actions": ["a", "b\u0000"]}', "actions[1]"),
        (rb'{"policy": "p", "actions": [{"id": "a", "features": {"f": "\u0000"}}]}', "actions[0].features.f"),
        (rb'{"policy": "a\\\u0000"}', "policy"),
    ],
)
def test_nul_is_refused_wherever_it_stands(body: bytes, field: str) -> None:
    """An escaped NUL, which PostgreSQL cannot store, names its field."""
    assert field_at_fault(RECOMMEND, body) == field


def test_an_escaped_backslash_is_no_nul() -> None:
    r"""The six characters \u0000 are text where the backslash is escaped."""
    assert decode(RECOMMEND, rb'{"policy": "a\\u0000"}').policy == r"a\u0000"


def test_a_raw_nul_is_no_json() -> None:
    """Control characters must be escaped in JSON, and this one may not be there at all."""
    assert field_at_fault(RECOMMEND, b'{"policy": "p\0"}') is not None


@pytest.mark.parametrize("text", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"a\xf0\x9f\x98"])
def test_broken_utf_8_is_refused(text: bytes) -> None:
    """Bytes that are no UTF-8 (overlong NUL and encoded surrogates among them) are refused as value and as key."""
    assert field_at_fault(RECOMMEND, b'{"policy": "' + text + b'"}') == "body"
    assert field_at_fault(RECOMMEND, b'{"policy": "p", "context": {"' + text + b'": 1}}') == "body"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"[",
        b"{",
        b"[]",
        b"null",
        b"3",
        b'"x"',
        b'{"policy": "p"} {}',
        b'\xef\xbb\xbf{"policy": "p"}',
        b"{'policy': 1}",
    ],
)
def test_what_is_no_object_is_refused_as_the_body(body: bytes) -> None:
    """Where there is no object there is no field to name but the body."""
    assert field_at_fault(RECOMMEND, body) == "body"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"policy": "p", "context": {"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}}",
        b'{"events": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"more": ' + b"[" * 200_000 + b"]" * 200_000 + b', "events": []}',
    ],
    ids=["arrays", "objects", "context", "events", "unknown"],
)
def test_deep_nesting_is_refused(body: bytes) -> None:
    """Nesting that would exhaust a stack ends as an ordinary refusal."""
    assert field_at_fault(RECOMMEND, body)
    assert field_at_fault(SWEEP, body)
    with pytest.raises(InvalidInput):
        decode_one_or_many(FEEDBACK, EVENTS, body)


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    """Whatever arrives, nothing but `InvalidInput` with a field comes out."""
    decoders: list[msgspec.json.Decoder[Any]] = [RECOMMEND, EVENTS]
    for decoder in decoders:
        try:
            decode(decoder, body)
        except InvalidInput as refused:
            assert refused.field  # noqa: PT017


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_in_a_context_is_decoded_or_refused(value: object) -> None:
    """What is accepted is a feature: a number, text, truth, list of texts, or nothing, and free of NUL."""
    body = msgspec.json.encode({"policy": "p", "context": {"a": value}})
    try:
        accepted = decode(RECOMMEND, body).context["a"]
    except InvalidInput as refused:
        assert (refused.field or "").startswith("context")  # noqa: PT017
    else:
        assert isinstance(accepted, list | str | float | bool | None)
        assert "\0" not in str(accepted)


def test_a_sealed_name_fits_wherever_a_name_did() -> None:
    """Bounds shorter than a sealed name let it pass, and nothing else that is too long; one that is longer is not it."""
    bounds = Bounds(Settings(string_limit=8))
    sealed = seal(b"0123456789abcdef", "user", "ada")
    bounds.string(sealed, "user_id")
    for text in ("x" * 9, "x" * len(sealed), seal(b"0123456789abcdef", "user", "a" * 300)):
        with pytest.raises(TooLarge):
            bounds.string(text, "user_id")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"before": "-1"}, "before"),
        ({"before": "9" * 30}, "before"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-01-01T00:00:00"}, "since"),
        ({"open": "perhaps"}, "open"),
        ({"tpye": "x"}, "tpye"),
    ],
)
def test_arguments_of_a_query_are_refused_by_name(arguments: dict[str, str], field: str) -> None:
    """What is no argument, or no value for one, is named."""
    with pytest.raises(InvalidInput) as refused:
        decode_arguments(DeadLettersAsked, arguments)
    assert refused.value.field == field


def test_arguments_of_a_query_are_typed() -> None:
    """Text becomes numbers, truth and moments; what is left out has its default."""
    asked = decode_arguments(
        DeadLettersAsked, {"limit": "7", "open": "true", "since": "2026-01-01T00:00:00Z", "type": "t"}
    )
    assert asked == DeadLettersAsked("t", datetime(2026, 1, 1, tzinfo=UTC), True, None, 7)
    assert decode_arguments(DeadLettersAsked, {}) == DeadLettersAsked()


def test_a_batch_is_told_from_one_event() -> None:
    """A member `events` makes a batch, whatever else is wrong with it."""
    one = decode_one_or_many(FEEDBACK, EVENTS, b'{"decision_id": "d", "kind": "k"}')
    many = decode_one_or_many(FEEDBACK, EVENTS, b'{"events": [{"decision_id": "d", "kind": "k"}]}')
    assert isinstance(one, FeedbackIn)
    assert isinstance(many, FeedbackBatch)
    for body, field in [
        (b'{"events": [], "kind": "k"}', "kind"),
        (b'{"events": null}', "events"),
        (b'{"kind": "k"}', "decision_id"),
        (b"[]", "body"),
    ]:
        with pytest.raises(InvalidInput) as refused:
            decode_one_or_many(FEEDBACK, EVENTS, body)
        assert refused.value.field == field


def test_several_bodies_name_the_index() -> None:
    """In a batch of events the index comes before the field; a single one has none."""
    good, bad = b'{"decision_id": "d", "kind": "k"}', b'{"decision_id": "d"}'
    assert [event.kind for event in decode_each(FEEDBACK, [good, good])] == ["k", "k"]
    for bodies, field in [([good, good, bad], "[2].kind"), ([bad], "kind")]:
        with pytest.raises(InvalidInput) as refused:
            decode_each(FEEDBACK, bodies)
        assert refused.value.field == field


def test_times_need_a_zone_and_a_calendar() -> None:
    """Times are RFC 3339 with a zone, to the microsecond, within the calendar."""
    body = '{"decision_id": "d", "kind": "k", "occurred_at": "%s"}'
    event = decode(FEEDBACK, (body % "2026-03-01T12:00:00.123456+02:00").encode())
    assert event.occurred_at == datetime(2026, 3, 1, 10, 0, 0, 123456, tzinfo=UTC)
    assert decode_time("2026-03-01T10:00:00Z") == datetime(2026, 3, 1, 10, tzinfo=UTC)
    for text in ["", "yesterday", "2026-03-01", "2026-03-01T12:00:00", "10000-01-01T00:00:00Z", "2026-02-30T00:00:00Z"]:
        assert field_at_fault(FEEDBACK, (body % text).encode()) == "occurred_at"
        with pytest.raises(InvalidInput) as refused:
            decode_time(text)
        assert refused.value.field == "time"
    for text in ["\0", "\ud800"]:
        with pytest.raises(InvalidInput):
            decode_time(text)


BOUNDS = Bounds(Settings(string_limit=4, action_limit=3, feature_limit=2, batch_limit=3))


def refused(kind: type[KnudgeError], check: Any, *arguments: object) -> str | None:
    """Return the field that a bound is refused for."""
    with pytest.raises(KnudgeError) as error:
        check(*arguments)
    assert type(error.value) is kind
    return error.value.field


def test_strings_have_a_longest() -> None:
    """At the bound a text passes, beyond it is too large, empty it is invalid, and none at all is fine."""
    BOUNDS.string("abcd", "policy")
    BOUNDS.string("😀😀😀😀", "policy")
    BOUNDS.string(None, "policy")
    assert refused(TooLarge, BOUNDS.string, "abcde", "policy") == "policy"
    assert refused(InvalidInput, BOUNDS.string, "", "policy") == "policy"


def test_actions_are_few_short_and_different() -> None:
    """At the bound actions pass; one more, one twice, an empty and an overlong one are refused by their place."""
    BOUNDS.actions(["a", "b", "c"], "actions")
    BOUNDS.actions([], "actions")
    BOUNDS.actions(iter(["abcd"]), "actions")
    assert refused(TooLarge, BOUNDS.actions, ["a", "b", "c", "d"], "actions") == "actions"
    assert refused(InvalidInput, BOUNDS.actions, ["a", "b", "a"], "actions") == "actions[2]"
    assert refused(InvalidInput, BOUNDS.actions, ["a", ""], "actions") == "actions[1]"
    assert refused(TooLarge, BOUNDS.actions, ["a", "b", "abcde"], "actions") == "actions[2]"


def test_contexts_are_small() -> None:
    """At each bound a context passes; one more feature, entry or character is refused by its place."""
    BOUNDS.context({}, "context")
    BOUNDS.context({"abcd": "abcd", "b": ["abcd", "abcd"]}, "context")
    BOUNDS.context({"a": 1e300, "b": ""}, "context")
    BOUNDS.context({"a": None, "b": [""]}, "context")
    assert refused(TooLarge, BOUNDS.context, {"a": 1.0, "b": 2.0, "c": 3.0}, "context") == "context"
    assert refused(TooLarge, BOUNDS.context, {"abcde": 1.0}, "context") == "context"
    assert refused(InvalidInput, BOUNDS.context, {"": 1.0}, "context") == "context"
    assert refused(TooLarge, BOUNDS.context, {"a": "abcde"}, "context") == "context.a"
    assert refused(TooLarge, BOUNDS.context, {"a": ["a", "b", "c"]}, "context") == "context.a"
    assert refused(TooLarge, BOUNDS.context, {"a": ["a", "abcde"]}, "actions[0].features") == "actions[0].features.a"


def test_batches_have_a_largest_and_are_not_empty() -> None:
    """One thing and as many as the bound pass, none and one more do not."""
    BOUNDS.batch(1, "events")
    BOUNDS.batch(3, "events")
    assert refused(InvalidInput, BOUNDS.batch, 0, "events") == "events"
    assert refused(TooLarge, BOUNDS.batch, 4, "events") == "events"
