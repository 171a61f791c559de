"""What of a dead letter is kept holds no name in the clear, and works again for those who may use it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.control.sealing import KINDS, Sealing
from shared.identity import pseudonym, seal

KEY = b"0123456789abcdef"


def kept(value: object) -> Any:
    """Return what is kept of JSON data."""
    data = Sealing(KEY).data(json.dumps(value).encode())
    assert data is not None
    return json.loads(data)


def test_names_are_sealed_wherever_they_stand() -> None:
    """At any depth, in lists and in misspelt members, which is what many a dead letter died of; the rest stays."""
    data = {
        "policy": "p",
        "user_id": "ada",
        "session_id": "s-1",
        "context": {"user_id": "ada", "n": 1.5, "t": "täglich 😀", "z": None, "b": True},
        "events": [{"userId": "bob", "SESSION-ID": "s-2", "id": "user_id"}],
    }
    assert kept(data) == {
        "policy": "p",
        "user_id": seal(KEY, "user", "ada"),
        "session_id": seal(KEY, "session", "s-1"),
        "context": {"user_id": seal(KEY, "user", "ada"), "n": 1.5, "t": "täglich 😀", "z": None, "b": True},
        "events": [{"userId": seal(KEY, "user", "bob"), "SESSION-ID": seal(KEY, "session", "s-2"), "id": "user_id"}],
    }


@pytest.mark.parametrize("value", [7, 1.5, True, ["ada"], {"name": "ada"}, []])
def test_what_stands_for_a_name_and_is_no_text_is_withheld(value: object) -> None:
    """It was refused for its type and will be, for the same member; what it was is not told."""
    found = kept({"user_id": value})["user_id"]
    assert set(found) == {"withheld"}
    assert found["withheld"] == seal(KEY, "user", json.dumps(value))


def test_nobody_is_sealed_as_nobody() -> None:
    """None and the empty text name nobody, and stay what they were refused or taken for."""
    assert kept({"user_id": None, "session_id": ""}) == {"user_id": None, "session_id": ""}


def test_a_name_that_was_sealed_stays_so() -> None:
    """A letter that was replayed and failed again holds the same sealed name."""
    once = kept({"user_id": "ada"})
    assert kept(once) == once


@pytest.mark.parametrize(
    "content",
    [
        b"ada",
        b'"ada"',
        b"user_id=ada",
        b"\xff\xfe",
        '{"user_id": "ada"}'.encode("utf-16"),
        b'{"user_id": "ada", "value": NaN}',
        b'{"user_id": "ada", "value": 1e400}',
        b'{"user_id": "ada"',
        b'{"user_id": "ada"} {}',
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"1" * 5_000,
        rb'{"user_id": "\ud800"}',
    ],
)
def test_what_may_hold_anything_is_not_kept(content: bytes) -> None:
    """Text, bytes and broken JSON are left out: nobody can tell who is named in them."""
    assert Sealing(KEY).data(content) is None


def test_a_member_that_stands_twice_hides_nothing() -> None:
    """Only the last of two members of one name is kept, which is the one that a function reads."""
    data = Sealing(KEY).data(b'{"user_id": "ada", "user_id": null}')
    assert data == b'{"user_id":null}'


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"1", rb'{"a":"\ud800"}', rb'{"a":"\u0000"}'])
def test_what_names_nobody_is_kept_as_it_is(content: bytes) -> None:
    """Empty data, plain values, and text that no column could hold as text."""
    assert Sealing(KEY).data(content) == content


NAME = "Ada-7f3c"
members = st.text().filter(lambda member: member.lower().replace("_", "").replace("-", "") not in KINDS)
values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(members, inner)
        | st.fixed_dictionaries({"x": inner}, optional={"user_id": st.just(NAME), "session_id": st.just(NAME)})
    ),
    max_leaves=20,
)


@given(st.dictionaries(members, values))
def test_any_json_survives_without_its_names(value: dict[str, Any]) -> None:
    """What is kept does not hold a name, and is the same value once sealed names are put back."""
    found = Sealing(KEY).data(json.dumps(value).encode())
    assert found is not None
    assert NAME.encode() not in found
    text = found.decode()
    for kind in ("user", "session"):
        text = text.replace(seal(KEY, kind, NAME), NAME)
    assert json.loads(text) == value


def test_attributes_that_name_somebody_are_sealed() -> None:
    """By their names, or because they hold a name that stands in the data; a trace is left as it is."""
    sealing = Sealing(KEY)
    sealing.data(b'{"user_id": "ada", "session_id": "s-1"}')
    assert sealing.attributes(
        {"traceparent": "00-a-b-01", "partitionkey": "k", "authid": "x", "userid": "bob", "tenant": "s-1"}
    ) == {
        "traceparent": "00-a-b-01",
        "partitionkey": seal(KEY, "partition", "k"),
        "authid": seal(KEY, "auth", "x"),
        "userid": seal(KEY, "user", "bob"),
        "tenant": seal(KEY, "session", "s-1"),
    }


def test_what_is_said_of_the_failure_names_nobody() -> None:
    """Names that stand in the event are struck out of the failure's text, whole words of it only."""
    sealing = Sealing(KEY)
    sealing.data(b'{"user_id": "ada", "session_id": "a"}')
    sealing.name("subject", "ada@example.org")
    said = "Canada: no user 'ada' (ada@example.org), a session"
    assert sealing.text(said) == "Canada: no user '…' (…), … session"
    assert pseudonym(KEY, "user", "ada") not in sealing.text(said)
