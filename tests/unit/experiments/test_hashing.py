"""GrowthBook's hash, beyond ASCII too, where its published vectors never look."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.experiments.hashing import fnv1a32, place, place_after

JAVASCRIPT = json.loads((Path(__file__).parent / "fixtures/javascript_hashes.json").read_text())


@pytest.mark.parametrize(("seed", "value", "first", "second"), JAVASCRIPT["rows"])
def test_ids_beyond_ascii_hash_as_in_javascript(seed: str, value: str, first: float, second: float) -> None:
    """Umlauts, CJK, emoji, lone surrogates: the numbers that GrowthBook's own code gives under Node.js."""
    assert (place(seed, value, 1), place(seed, value, 2)) == (first, second)


def test_code_units_are_not_split_into_bytes() -> None:
    """No encoding's bytes give the numbers of JavaScript."""
    assert fnv1a32("ü") not in {fnv1a32(coded.decode("latin-1")) for coded in ("ü".encode(), "ü".encode("utf-16-le"))}


def test_hashes_are_fnv1a() -> None:
    """The published values of FNV-1a, 32 bits (draft-eastlake-fnv)."""
    assert [fnv1a32(text) for text in ("", "a", "foobar")] == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]


@given(st.text(), st.text())
def test_a_prefix_is_hashed_once(seed: str, value: str) -> None:
    """A seed's hash goes on where the value begins."""
    assert fnv1a32(value, fnv1a32(seed)) == fnv1a32(seed + value)
    assert place_after(fnv1a32(seed), value) == place(seed, value, 2)


@given(st.text(), st.text(), st.integers(-1, 3))
def test_places_lie_in_their_range(seed: str, value: str, version: int) -> None:
    """[0, 1), in thousandths or ten-thousandths; None for a version that nobody knows."""
    where = place(seed, value, version)
    if version not in (1, 2):
        assert where is None
    else:
        steps = 1000 if version == 1 else 10_000
        assert where is not None
        assert 0 <= where < 1
        assert round(where * steps) / steps == where


def test_the_first_version_ties_similar_seeds() -> None:
    """Why the second is the default: of 1,000 differences between places only 8 occur, under seeds whose last letter differs."""
    differences = {version: set[int]() for version in (1, 2)}
    for number in range(20_000):
        for version, found in differences.items():
            one, other = (place(seed, f"user{number}@example.com", version) or 0.0 for seed in ("exp1", "exp2"))
            found.add(round((one - other) % 1 * 10_000) % 10_000)
    assert len(differences[1]) == 8
    assert len(differences[2]) > 5_000
