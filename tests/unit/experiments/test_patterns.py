"""Regular expressions: what JavaScript matches, in time that is bounded whatever the pattern and the text."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from time import perf_counter

import pytest

from shared.errors import InvalidInput
from shared.experiments.patterns import LONGEST_TEXT, compile_pattern

JAVASCRIPT = json.loads((Path(__file__).parent / "fixtures/javascript_patterns.json").read_text())


def test_random_patterns_match_as_in_javascript() -> None:
    """300 patterns over 29 texts, and 60 that are none."""
    for pattern, insensitive, results in JAVASCRIPT["rows"]:
        if results is None:
            with pytest.raises(InvalidInput):
                compile_pattern(pattern, insensitive=insensitive)
        else:
            matches = compile_pattern(pattern, insensitive=insensitive)
            found = "".join(str(int(matches(text))) for text in JAVASCRIPT["texts"])
            assert found == results, (pattern, insensitive)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^(a+)+$", "a" * 2047 + "b"),
        ("(a|a)*b", "a" * 2048),
        ("(x+x+)+y", "x" * 2048),
        (".*.*.*.*.*=", "x" * 2048),
        ("(.*a){30}$", "ab" * 1024),
        ("[ab]*a[ab]{150}c", "abbaabab" * 256),
        ("([a-z]+[0-9]*)*[^a-z]{90}$", "ab1" * 682),
    ],
)
def test_no_pattern_hangs(pattern: str, text: str) -> None:
    """Each of these takes `re` for ever, or nearly; here at most the text's length times the pattern's size."""
    began = perf_counter()
    compile_pattern(pattern, insensitive=True)(text)
    assert perf_counter() - began < 5


@pytest.mark.parametrize(
    ("pattern", "detail"),
    [
        ("a" * 501, "at most 500 characters"),
        ("(a{99}){99}", "too large"),
        ("((((){9999}){9999}){9999}){9999}", "counts too much"),
        ("(" * 200 + ")" * 200, "at most 40 deep"),
        ("(?=a)b", "lookahead"),
        ("(?<!a)b", "lookbehind"),
        (r"(a)\1", "back references"),
        ("a{3,2}", "backwards"),
        ("*", "nothing to repeat"),
        ("(a", "no end"),
        ("a)", "unmatched"),
        ("[a", "too early"),
        (7, "is a text"),
    ],
)
def test_what_no_automaton_can_do_is_refused(pattern: object, detail: str) -> None:
    """Said when a condition is written; each with what is wrong."""
    with pytest.raises(InvalidInput, match=detail):
        compile_pattern(pattern, insensitive=False)


def test_a_text_that_is_too_long_matches_nothing() -> None:
    """Rather than to its bound."""
    everything = compile_pattern("^a*$", insensitive=False)
    assert everything("a" * LONGEST_TEXT)
    assert not everything("a" * (LONGEST_TEXT + 1))


def test_what_is_kept_is_bounded_and_shared_between_threads() -> None:
    """Texts of ever new characters do not fill the memory, and threads agree."""
    matches = compile_pattern("^[^a]*[b-z].$", insensitive=False)
    wrong: list[int] = []

    def run(start: int) -> None:
        wrong.extend(
            code for code in range(start, start + 12_000) if not matches(f"{chr(code)}bc") or matches(f"{chr(code)}a")
        )

    threads = [threading.Thread(target=run, args=(start,)) for start in (0x100, 0x4E00)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert matches._kept <= 5000  # type: ignore[attr-defined]
