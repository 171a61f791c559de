"""GrowthBook's hash: where a unit stands in [0, 1) under a seed, the same in every process and in every SDK.

FNV-1a with 32 bits (Fowler, Noll and Vo; draft-eastlake-fnv) over UTF-16 code units, as JavaScript's `charCodeAt` gives them: a
unit is not split into bytes, so beyond ASCII it is not FNV-1a of any encoding. `docs/experiments.md` says what follows.
"""

from __future__ import annotations

from struct import unpack

_OFFSET = 0x811C9DC5
_PRIME = 0x01000193
_BITS = 0xFFFFFFFF
_FIRST_PLACES = 1000
"""How many places version 1 tells apart, and below how many version 2 does."""
_SECOND_PLACES = 10_000


def fnv1a32(text: str, start: int = _OFFSET) -> int:
    """Return the hash of a text, in [0, 2^32).

    `start`: the hash of what stands before it, so that hashes of texts that begin alike share that part:
    `fnv1a32(a + b) == fnv1a32(b, fnv1a32(a))`.

    >>> fnv1a32("a")
    3826002220
    >>> fnv1a32("ab") == fnv1a32("b", fnv1a32("a"))
    True
    """
    units = text.encode() if text.isascii() else _code_units(text)
    state = start
    paired = iter(units)
    for first, second in zip(
        paired, paired, strict=False
    ):  # bits above the 32nd never reach those below: cut off every other time
        state = ((state ^ first) * _PRIME ^ second) * _PRIME & _BITS
    return (state ^ units[-1]) * _PRIME & _BITS if len(units) % 2 else state


def place(seed: str, value: str, version: int) -> float | None:
    """Return where `value` stands under `seed`, in [0, 1); None for a version that nobody knows.

    Version 2, the default elsewhere: one of 10,000 places, hashed twice, without the correlation between seeds that version 1
    has. Version 1: one of 1,000 places, `fnv1a32(value + seed)`.

    >>> place("seed", "a", 2), place("", "a", 1), place("seed", "a", 3)
    (0.0505, 0.22, None)
    """
    if version == 2:  # noqa: PLR2004 - a version's number is its name
        return place_after(fnv1a32(seed), value)
    if version == 1:
        return fnv1a32(value + seed) % _FIRST_PLACES / _FIRST_PLACES
    return None


def place_after(seeded: int, value: str) -> float:
    """Return `place(seed, value, 2)`, given `fnv1a32(seed)`: what a seed hashes to is worked out once."""
    return fnv1a32(str(fnv1a32(value, seeded))) % _SECOND_PLACES / _SECOND_PLACES


def _code_units(text: str) -> tuple[int, ...]:
    encoded = text.encode("utf-16-le", "surrogatepass")
    return unpack(f"<{len(encoded) // 2}H", encoded)
