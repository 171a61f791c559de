r"""The syntax of JavaScript's regular expressions, as far as an automaton can decide them, read into a tree.

Left out are lookahead, lookbehind and back references, for which no way is known to match in time linear in the text. The rest is read as
JavaScript reads it without flags: `\d`, `\w` and `\b` know ASCII alone, `$` is the very end, `{` is itself where it counts nothing, and
a character is a UTF-16 code unit.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from shared.errors import InvalidInput

Span = tuple[str, str]
"""Code units from the first to the last, both included."""
LONGEST = 500
"""Code units of a pattern, at most."""
_DEEPEST = 40
"""Groups within groups, at most."""

_DIGITS: tuple[Span, ...] = (("0", "9"),)
_WORD: tuple[Span, ...] = (("0", "9"), ("A", "Z"), ("_", "_"), ("a", "z"))
_SPACES: tuple[Span, ...] = (
    ("\t", "\r"), (" ", " "), ("\xa0", "\xa0"), ("\u1680", "\u1680"), ("\u2000", "\u200a"), ("\u2028", "\u2029"),
    ("\u202f", "\u202f"), ("\u205f", "\u205f"), ("\u3000", "\u3000"), ("\ufeff", "\ufeff"),
)  # fmt: skip
_LINE_ENDS: tuple[Span, ...] = (("\n", "\n"), ("\r", "\r"), ("\u2028", "\u2029"))
_SETS = {"d": _DIGITS, "w": _WORD, "s": _SPACES}
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "v": "\v", "f": "\f", "0": "\0"}
_COUNT = re.compile(r"\{([0-9]{1,4})(,([0-9]{0,4}))?\}")
_HEX = re.compile("x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})")
_GROUP_NAME = re.compile(r"\?<[A-Za-z_$][A-Za-z0-9_$]*>")


Kind = Literal["^", "$", "b", "B"]
_ASSERTIONS: tuple[Kind, ...] = ("^", "$", "b", "B")


class Units(NamedTuple):
    """One code unit in (`negated`: outside) the spans."""

    spans: tuple[Span, ...]
    negated: bool = False


class Assertion(NamedTuple):
    """A place between two code units: `^`, `$`, `b` for the edge of a word, `B` for none."""

    kind: Kind


class Sequence(NamedTuple):
    """One after the other."""

    parts: tuple[Tree, ...]


class Choice(NamedTuple):
    """One of them."""

    options: tuple[Tree, ...]


class Repeat(NamedTuple):
    """From `least` to `most` times; None for any number."""

    part: Tree
    least: int
    most: int | None


Tree = Units | Assertion | Sequence | Choice | Repeat


def code_units(text: str) -> str:
    """Return a text whose characters are UTF-16 code units: those beyond the basic plane become two surrogates.

    >>> [hex(ord(unit)) for unit in code_units("a\U0001f600")]
    ['0x61', '0xd83d', '0xde00']
    """
    if text.isascii() or max(text) <= "\uffff":
        return text
    encoded = text.encode("utf-16-be", "surrogatepass")
    return "".join(chr(encoded[i] << 8 | encoded[i + 1]) for i in range(0, len(encoded), 2))


def parse(pattern: str) -> Tree:
    """Return the tree of a pattern.

    Raises `InvalidInput` where it is no pattern, is longer than `LONGEST` or asks for what no automaton can do.
    """
    units = code_units(pattern)
    if len(units) > LONGEST:
        raise InvalidInput(f"a pattern has at most {LONGEST} characters")
    reader = _Reader(units)
    tree = reader.choice(0)
    if reader.at < len(units):
        raise InvalidInput(f"unmatched ) at character {reader.at} of the pattern")
    return tree


class _Reader:
    """Reads a pattern from left to right. `at`: what comes next."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.at = 0

    def choice(self, depth: int) -> Tree:
        """Read options up to the end of the group."""
        if depth > _DEEPEST:
            raise InvalidInput(f"groups of a pattern lie at most {_DEEPEST} deep")
        options = [self._sequence(depth)]
        while self._take("|"):
            options.append(self._sequence(depth))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self, depth: int) -> Tree:
        parts: list[Tree] = []
        while self.at < len(self._pattern) and self._pattern[self.at] not in "|)":
            parts.append(self._quantified(self._atom(depth)))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _quantified(self, part: Tree) -> Tree:
        counted = self._quantifier()
        if counted is None:
            return part
        if isinstance(part, Assertion):
            raise self._nothing_to_repeat()
        self._take("?")  # lazy: the same texts match
        if self._quantifier() is not None:
            raise self._nothing_to_repeat()
        return Repeat(part, *counted)

    def _quantifier(self) -> tuple[int, int | None] | None:
        for sign, counted in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return counted
        found = _COUNT.match(self._pattern, self.at)
        if found is None:
            return None
        self.at = found.end()
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] else None
        if most is not None and most < least:
            raise InvalidInput(f"{found[0]} in a pattern counts backwards")
        return least, most

    def _atom(self, depth: int) -> Tree:
        if self._quantifier() is not None:
            raise self._nothing_to_repeat()
        if self._take("("):
            return self._group(depth)
        if self._take("["):
            return self._class()
        for kind in _ASSERTIONS:
            if self._take(f"\\{kind}" if kind in ("b", "B") else kind):
                return Assertion(kind)
        if self._take("."):
            return Units(_LINE_ENDS, negated=True)
        if self._take("\\"):
            return self._escape()
        unit = self._next()
        return Units(((unit, unit),))

    def _group(self, depth: int) -> Tree:
        named = _GROUP_NAME.match(self._pattern, self.at)
        if named is not None:
            self.at = named.end()
        elif self._take("?") and not self._take(":"):
            raise InvalidInput("lookahead, lookbehind and flags are not supported in a pattern")
        inner = self.choice(depth + 1)
        if not self._take(")"):
            raise InvalidInput("a group of the pattern has no end")
        return inner

    def _class(self) -> Units:
        negated = self._take("^")
        spans: list[Span] = []
        while not self._take("]"):
            first = self._member()
            follows = self._pattern[self.at + 1 : self.at + 2]
            if self._pattern[self.at : self.at + 1] == "-" and follows not in ("", "]"):
                self.at += 1
                last = self._member()
                if isinstance(first, str) and isinstance(last, str):
                    if last < first:
                        raise InvalidInput(f"the range {first}-{last} in a pattern runs backwards")
                    spans.append((first, last))
                    continue
                for each in (first, "-", last):  # a set is no end of a range: the dash is itself
                    spans += [(each, each)] if isinstance(each, str) else each
                continue
            spans += [(first, first)] if isinstance(first, str) else first
        return Units(tuple(spans), negated=negated)

    def _member(self) -> str | tuple[Span, ...]:
        r"""Read what a class holds: one code unit, or the spans of a set such as `\d`."""
        unit = self._next()
        if unit != "\\":
            return unit
        if self._take("b"):
            return "\b"
        found = self._escape()
        if found.negated:
            return _outside(found.spans)
        return found.spans[0][0] if len(found.spans) == 1 and found.spans[0][0] == found.spans[0][1] else found.spans

    def _escape(self) -> Units:
        unit = self._next()
        if unit.lower() in _SETS:
            return Units(_SETS[unit.lower()], negated=unit.isupper())
        if unit in "123456789" or (unit == "k" and self._pattern[self.at : self.at + 1] == "<"):
            raise InvalidInput("back references are not supported in a pattern")
        hexadecimal = _HEX.match(self._pattern, self.at - 1)
        if hexadecimal is not None:
            self.at = hexadecimal.end()
            unit = chr(int(hexadecimal[1] or hexadecimal[2], 16))
        elif unit == "c" and self._pattern[self.at : self.at + 1].isalpha():
            unit = chr(ord(self._next()) % 32)
        else:
            unit = _CONTROLS.get(unit, unit)
        return Units(((unit, unit),))

    def _next(self) -> str:
        if self.at >= len(self._pattern):
            raise InvalidInput("the pattern ends too early")
        self.at += 1
        return self._pattern[self.at - 1]

    def _take(self, unit: str) -> bool:
        taken = self._pattern.startswith(unit, self.at)
        self.at += len(unit) * taken
        return taken

    def _nothing_to_repeat(self) -> InvalidInput:
        return InvalidInput(f"nothing to repeat before character {self.at} of the pattern")


def _outside(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """Return the code units between the spans, which rise and do not touch."""
    outside, low = [], 0
    for first, last in spans:
        if ord(first) > low:
            outside.append((chr(low), chr(ord(first) - 1)))
        low = ord(last) + 1
    return (*outside, (chr(low), "\uffff"))
