"""Names made from keys and clocks: decision ids, policy keys, pseudonyms, and the uniform numbers of a decision.

Everything here is a pure function of its arguments. A decision id is a UUIDv8 (RFC 9562, section 5.8) that carries
what routes its feedback, most significant bit first:

    52 bits  microseconds since 1970, UTC (until 2112); the version nibble stands after the first 48
     1 bit   set where the decision has several items, so that feedback must name its action
     7 bits  random
     2 bits  variant
    32 bits  key of the policy's name
    30 bits  random

37 random bits beside the microsecond: two decisions of one policy in the same microsecond share an id once in 10^11.
To callers it is opaque.

A name that is stored where it must work again later (in a dead letter) is *sealed*: its pseudonym with a signature by
the server's key, which `pseudonym` takes for the name. Nobody without the key can make one.
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from hashlib import blake2b

import msgspec

from shared.errors import InvalidInput

RANDOM_BITS = 37
"""How many random bits `decision_id` takes."""

_VERSION_8 = 0x8 << 76
_VARIANT = 0x2 << 62
_FIXED = 0xF << 76 | 0x3 << 62
_UUID_CHARS = 36


class Routing(msgspec.Struct, frozen=True):
    """What a decision id carries: `decided_at` in POSIX seconds, the policy's key, and whether it has several items."""

    decided_at: float
    policy_key: int
    several: bool


@lru_cache(maxsize=4096)
def policy_key(policy: str) -> int:
    """Return the 32-bit key of a policy's name; `control` refuses a name whose key another policy has."""
    return int.from_bytes(blake2b(policy.encode(), digest_size=4).digest(), "big")


def decision_id(policy: int, decided_at_us: int, random: int, *, several: bool) -> str:
    """Return the id of a decision.

    `policy`: the policy's key, in [0, 2^32); `decided_at_us`: microseconds since 1970, in [0, 2^52);
    `random`: in [0, 2^37).

    >>> route(decision_id(7, 1_700_000_000_000_001, 99, several=True))
    Routing(decided_at=1700000000.000001, policy_key=7, several=True)
    """
    low = (decided_at_us & 0xF) << 8 | several << 7 | random >> 30
    bits = decided_at_us >> 4 << 80 | _VERSION_8 | low << 64 | _VARIANT | policy << 30 | random & 0x3FFFFFFF
    return _spelled(bits)


def route(decision: str) -> Routing:
    """Read a decision id.

    Raises `InvalidInput` (field `decision_id`) where it was not made by `decision_id`.
    """
    try:
        bits = int(decision.replace("-", ""), 16) if len(decision) == _UUID_CHARS and decision.isascii() else -1
    except ValueError:
        bits = -1
    if bits < 0 or bits & _FIXED != _VERSION_8 | _VARIANT or decision != _spelled(bits):
        detail = "not a decision id that this system gave"
        raise InvalidInput(detail, field="decision_id")
    microseconds = bits >> 80 << 4 | bits >> 72 & 0xF
    return Routing(microseconds / 1e6, bits >> 30 & 0xFFFFFFFF, bool(bits >> 71 & 1))


def decided_at(decision: str) -> float:
    """Return when the decision of an id that this system gave was made, POSIX seconds; `route` is for ids that others bring.

    >>> decided_at(decision_id(7, 1_700_000_000_000_001, 99, several=True))
    1700000000.000001
    """
    return (int(decision[:8] + decision[9:13], 16) << 4 | int(decision[15], 16)) / 1e6


def _spelled(bits: int) -> str:
    text = "%032x" % bits  # noqa: UP031 - twice as fast as an f-string
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uniform(key: bytes, policy: str, decision: str, position: int) -> float:
    """Return the number in [0, 1) that draws the item at `position` (from 0): an HMAC-SHA256, 53 bits of it.

    Whoever does not know `key` can neither foresee nor steer it; whoever does can repeat it at any time.
    """
    digest = hmac.digest(key, f"{policy}\0{decision}\0{position}".encode(), "sha256")
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53


def place(key: bytes, policy: str, unit: str) -> float:
    """Return where a unit (a user's pseudonym, or a decision id) stands in [0, 1) among all units of a policy, for good.

    Whoever does not know `key` can neither foresee nor steer it. Other policies place the same unit elsewhere.
    """
    digest = hmac.digest(key, f"unit {policy}\0{unit}".encode(), "sha256")
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53


def pseudonym(key: bytes, kind: str, name: str) -> str:
    """Return the keyed pseudonym (32 hexadecimal digits) of a `name` of some `kind`, such as `user` or `session`.

    A name that this key sealed for this kind has the pseudonym that it holds; any other text is a name like another.
    """
    if name.startswith(SEAL):
        held = _sealed_pseudonym(key, kind, name)
        if held is not None:
            return held
    return hmac.digest(key, f"{kind}\0{name}".encode(), "sha256")[:16].hex()


def unit_pseudonym(key: bytes, attribute: str, value: str) -> str:
    """Return the pseudonym of the unit that has `value` as an attribute: of a `user_id`, the user's.

    >>> unit_pseudonym(b"key", "user_id", "ada") == pseudonym(b"key", "user", "ada")
    True
    """
    return pseudonym(key, unit_kind(attribute), value)


def unit_kind(attribute: str) -> str:
    """Return what kind of name an attribute's value is."""
    return "user" if attribute == "user_id" else f"unit:{attribute}"


def seal(key: bytes, kind: str, name: str) -> str:
    """Return what stands for a `name` wherever a name does: it has the same pseudonym, and does not tell the name.

    A sealed name is returned as it is. Filled up to the name's length, so that a name that is too long remains so.

    >>> key = b"sixteen or more characters"
    >>> pseudonym(key, "user", seal(key, "user", "ada")) == pseudonym(key, "user", "ada")
    True
    """
    if name.startswith(SEAL) and _sealed_pseudonym(key, kind, name) is not None:
        return name
    return sealed(key, kind, pseudonym(key, kind, name)).ljust(len(name), _FILL)


def sealed(key: bytes, kind: str, held: str) -> str:
    """Return the sealed name that holds a pseudonym.

    >>> key = b"sixteen or more characters"
    >>> sealed(key, "user", pseudonym(key, "user", "ada")) == seal(key, "user", "ada")
    True
    """
    return f"{SEAL}{held}:{_signature(key, kind, held)}"


SEAL = "knudge-pseudonym:"
"""How a sealed name begins."""
SEALED_CHARS = len(SEAL) + 32 + 1 + 32
"""How long a sealed name is, unless the name was longer."""
_FILL = "."


def _sealed_pseudonym(key: bytes, kind: str, name: str) -> str | None:
    """Return the pseudonym that a sealed name holds, None where `key` did not seal it for `kind`."""
    held, _, signature = name[len(SEAL) : SEALED_CHARS].partition(":")
    if name[SEALED_CHARS:].strip(_FILL) or not signature.isascii():
        return None
    return held if hmac.compare_digest(signature, _signature(key, kind, held)) else None


def _signature(key: bytes, kind: str, held: str) -> str:
    # No policy's name and no kind holds a space: nothing else that the key signs begins like this.
    return hmac.digest(key, f"sealed {kind}\0{held}".encode(), "sha256")[:16].hex()


def content_identity(content: bytes) -> str:
    """Return the identity of something sent without one: the hash of what was sent."""
    return "blake2b:" + blake2b(content, digest_size=20).hexdigest()
