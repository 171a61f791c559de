"""Names made from keys and clocks."""

from __future__ import annotations

import hashlib
import hmac
import uuid
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.errors import InvalidInput
from shared.identity import (
    RANDOM_BITS,
    SEAL,
    SEALED_CHARS,
    Routing,
    content_identity,
    decision_id,
    policy_key,
    pseudonym,
    route,
    seal,
    uniform,
)

KEY = b"0123456789abcdef"

keys = st.integers(0, 2**32 - 1)
microseconds = st.integers(0, 2**52 - 1)
randoms = st.integers(0, 2**RANDOM_BITS - 1)


@given(keys, microseconds, randoms, st.booleans())
@example(2**32 - 1, 2**52 - 1, 2**37 - 1, True)
@example(0, 0, 0, False)
def test_a_decision_id_carries_what_routes_its_feedback(key: int, at_us: int, random: int, several: bool) -> None:
    """Over the full ranges, policy, microsecond and number of items are read back exactly."""
    routing = route(decision_id(key, at_us, random, several=several))
    assert (routing.policy_key, routing.several) == (key, several)
    assert round(Fraction(routing.decided_at) * 10**6) == at_us


@given(keys, microseconds, randoms, st.booleans())
def test_a_decision_id_is_a_uuid_of_version_8(key: int, at_us: int, random: int, several: bool) -> None:
    """Python's uuid module reads the id as version 8 of RFC 9562's variant and spells it the same way."""
    text = decision_id(key, at_us, random, several=several)
    parsed = uuid.UUID(text)
    assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)
    assert str(parsed) == text


@given(st.lists(st.tuples(keys, microseconds, randoms, st.booleans()), min_size=2, max_size=2, unique=True))
def test_different_decisions_have_different_ids(two: list[tuple[int, int, int, bool]]) -> None:
    """No two of policy, microsecond, random bits and number of items share an id: nothing overlaps."""
    one, other = (decision_id(key, at_us, random, several=several) for key, at_us, random, several in two)
    assert one != other


@given(keys, randoms, st.lists(microseconds, min_size=2, max_size=2, unique=True))
def test_ids_sort_by_time(key: int, random: int, times: list[int]) -> None:
    """An index over ids grows at its end."""
    early, late = (decision_id(key, at_us, random, several=False) for at_us in sorted(times))
    assert early < late


def test_the_layout_is_the_documented_one() -> None:
    """The bits stand where the module says, so that another language can read an id."""
    text = decision_id(0xAABBCCDD, 0x6_1234_5678_9ABC, 0x15 << 30 | 0x2345_6789, several=True)
    bits = uuid.UUID(text).int
    assert bits >> 80 == 0x6_1234_5678_9AB
    assert bits >> 72 & 0xF == 0xC
    assert bits >> 71 & 1 == 1
    assert bits >> 64 & 0x7F == 0x15
    assert bits >> 30 & 0xFFFFFFFF == 0xAABBCCDD
    assert bits & 0x3FFFFFFF == 0x2345_6789


GOOD = decision_id(7, 1_700_000_000_000_001, 99, several=False)


@pytest.mark.parametrize(
    "foreign",
    [
        "",
        "not an id",
        GOOD.upper(),
        GOOD.replace("-", ""),
        GOOD[:-1],
        GOOD + "0",
        GOOD + "\n",
        f"{{{GOOD}}}",
        f"urn:uuid:{GOOD}",
        " " + GOOD[1:],
        "+" + GOOD[1:],
        "-" + GOOD[1:],
        GOOD[:7] + "_" + GOOD[8:],
        GOOD[:-1] + "g",
        GOOD[:-1] + "\u0663",
        GOOD[:-1] + "\0",
        GOOD[:9] + GOOD[8:9] + GOOD[9:-1],
        GOOD[:7] + "-" + GOOD[7:8] + GOOD[9:],
        "-" * 36,
        str(uuid.UUID(int=0)),
        str(uuid.UUID(int=2**128 - 1)),
        str(uuid.uuid5(uuid.NAMESPACE_URL, "foreign")),
    ],
)
def test_what_is_no_decision_id_is_refused(foreign: str) -> None:
    """Malformed, foreign and differently spelled ids are refused by the name of their field."""
    with pytest.raises(InvalidInput) as refused:
        route(foreign)
    assert refused.value.field == "decision_id"


@pytest.mark.parametrize("version", [digit for digit in "0123456789abcdef" if digit != "8"])
def test_other_versions_of_uuids_are_refused(version: str) -> None:
    """Only version 8 was made here."""
    with pytest.raises(InvalidInput):
        route(GOOD[:14] + version + GOOD[15:])


@pytest.mark.parametrize("variant", "01234567cdef")
def test_other_variants_of_uuids_are_refused(variant: str) -> None:
    """Only the variant of RFC 9562 was made here."""
    with pytest.raises(InvalidInput):
        route(GOOD[:19] + variant + GOOD[20:])


@given(st.text(max_size=40) | st.text("0123456789abcdefABCDEF-_+ ", min_size=36, max_size=36))
def test_any_text_is_routed_or_refused(text: str) -> None:
    """Whatever callers send ends as a routing that spells the same id, or as `InvalidInput`."""
    try:
        routing = route(text)
    except InvalidInput as refused:
        assert refused.field == "decision_id"  # noqa: PT017
    else:
        assert isinstance(routing, Routing)
        assert str(uuid.UUID(text)) == text


def test_policy_keys_are_32_bits_and_pinned() -> None:
    """A policy's key is stored with its feedback: it may never change, and names have keys of their own."""
    assert policy_key("news") == 0x422E2C5A
    many = {policy_key(f"policy-{at}") for at in range(10_000)}
    assert all(0 <= key < 2**32 for key in many)
    assert len(many) >= 9_990


def test_draws_are_pinned() -> None:
    """An old decision must recompute for ever: the number of a key, policy, id and position is fixed."""
    digest = hmac.new(KEY, f"news\0{GOOD}\0000".encode(), hashlib.sha256).digest()
    assert uniform(KEY, "news", GOOD, 0) == 0.8410691622744729
    assert int(0.8410691622744729 * 2**53) == int.from_bytes(digest[:8], "big") >> 11


def test_draws_depend_on_everything_they_are_made_of() -> None:
    """Another key, policy, decision or position gives another number, all of them in [0, 1)."""
    other = decision_id(7, 1_700_000_000_000_002, 99, several=False)
    numbers = [
        uniform(KEY, "news", GOOD, 0),
        uniform(KEY + b"!", "news", GOOD, 0),
        uniform(KEY, "sports", GOOD, 0),
        uniform(KEY, "news", other, 0),
        uniform(KEY, "news", GOOD, 1),
        uniform(KEY, "news", GOOD, 10),
    ]
    assert len(set(numbers)) == len(numbers)
    assert all(0.0 <= number < 1.0 for number in numbers)
    assert uniform(KEY, "news", GOOD, 0) == numbers[0]


def test_pseudonyms_differ_by_key_kind_and_name() -> None:
    """A name's pseudonym repeats, and tells neither the name nor that a session has the same one."""
    one = pseudonym(KEY, "user", "ada@example.org")
    assert one == pseudonym(KEY, "user", "ada@example.org")
    others = {
        pseudonym(b"another key entirely", "user", "ada@example.org"),
        pseudonym(KEY, "session", "ada@example.org"),
        pseudonym(KEY, "user", "bob@example.org"),
        pseudonym(KEY, "usera", "da@example.org"),
    }
    assert len(others | {one}) == 5
    assert len(one) == 32
    assert set(one) <= set("0123456789abcdef")


def test_pseudonyms_are_pinned() -> None:
    """Rows of years ago are erased by the pseudonym that a name has today."""
    assert pseudonym(KEY, "user", "ada@example.org") == "1adbe85667ad4f1b5f494d93d738b326"


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)
kinds = st.sampled_from(["user", "session", "subject"])


@given(kinds, names)
@example("user", "x" * 300)
@example("user", SEAL)
def test_a_sealed_name_stands_for_the_name(kind: str, name: str) -> None:
    """It has the name's pseudonym, does not hold the name, is sealed once, and is too long where the name is."""
    sealed = seal(KEY, kind, name)
    assert pseudonym(KEY, kind, sealed) == pseudonym(KEY, kind, name)
    assert seal(KEY, kind, sealed) == sealed
    assert len(sealed) == max(SEALED_CHARS, len(name))
    assert len(name) < 5 or name in SEAL or name.strip("." + "0123456789abcdef") == "" or name not in sealed


@given(kinds, st.text("0123456789abcdef:.", max_size=80) | names)
def test_nobody_else_can_seal(kind: str, text: str) -> None:
    """What begins like a sealed name and was not made with the key is a name like another."""
    name = SEAL + text
    plain = hmac.digest(KEY, f"{kind}\0{name}".encode(), "sha256")[:16].hex()
    assert pseudonym(KEY, kind, name) == plain


def test_a_seal_holds_for_its_key_kind_and_text_alone() -> None:
    """Sealed for a user it is no session's, with another key it is nobody's, and no character of it may change."""
    ada = pseudonym(KEY, "user", "ada")
    sealed = seal(KEY, "user", "ada")
    assert pseudonym(KEY, "session", sealed) != pseudonym(KEY, "session", "ada")
    assert pseudonym(b"another key entirely", "user", sealed) != ada
    for at in range(SEALED_CHARS):
        changed = sealed[:at] + ("0" if sealed[at] != "0" else "1") + sealed[at + 1 :]
        assert pseudonym(KEY, "user", changed) != ada
    for changed in (sealed + "x", sealed[:-1], sealed + ".x", sealed.upper(), sealed.replace(":", "é")):
        assert pseudonym(KEY, "user", changed) != ada
    bob = seal(KEY, "user", "bob")
    assert pseudonym(KEY, "user", sealed[: len(SEAL) + 32] + bob[len(SEAL) + 32 :]) not in {ada, bob}


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_content_is_identified_by_what_was_sent(one: bytes, other: bytes) -> None:
    """Equal bytes have equal identities, others do not."""
    assert (content_identity(one) == content_identity(other)) == (one == other)
    assert content_identity(one).startswith("blake2b:")
