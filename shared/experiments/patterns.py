"""Regular expressions that cannot hang: an automaton that reads each code unit of a text once (Thompson 1968).

Python's `re` tries one alternative after the other, and needs exponential time for `(a+)+$`; whoever writes a condition, or sends an
attribute, could stop a process with it. Here the time is at most the length of the text times the size of the pattern, both of them bounded. Sets of
states are worked out when a text first leads to them, and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from shared.errors import InvalidInput
from shared.experiments.experiment import Json
from shared.experiments.pattern_syntax import Assertion, Choice, Repeat, Sequence, Tree, Units, code_units, parse

LARGEST = 200
"""Nodes of an automaton, at most: `[a-z]{100}` has 100."""
LONGEST_TEXT = 2048
"""Code units of a text, at most; a longer one matches nothing."""
_MOST_KEPT = 5000
"""Moves that are kept, before they are forgotten and begun anew."""
_STEPS = 20 * LARGEST
_MATCH = 0
"""The node that a match ends at."""
_END = ""
"""What is read after the last code unit."""


class _Node(NamedTuple):
    """Goes on to `onward` without reading where `needs` allows, or, if it has `units`, to the one of them by reading one of these."""

    onward: tuple[int, ...]
    units: Callable[[str], bool] | None = None
    needs: str = ""


class _State:
    """The nodes that a text has led to, and what stood before: a code unit of a word (`w`), another one (`o`), nothing (`^`)."""

    __slots__ = ("before", "moves", "nodes")

    def __init__(self, nodes: frozenset[int], before: str) -> None:
        self.nodes = nodes
        self.before = before
        self.moves: dict[str, _State | None] = {}


class _Automaton:
    """A pattern, compiled. Threads may share it: what they add to the kept moves at once is the same."""

    def __init__(self, tree: Tree, *, insensitive: bool) -> None:
        self._nodes: list[_Node] = [_Node(())]
        self._insensitive = insensitive
        self._steps = 0
        self._first = self._add(tree, _MATCH)
        self._forget()

    def __call__(self, text: str) -> bool:
        """Return whether the text holds a match."""
        units = code_units(text)
        if len(units) > LONGEST_TEXT:
            return False
        state = self._begin
        for unit in units:
            try:
                following = state.moves[unit]
            except KeyError:
                following = self._move(state, unit)
            if following is None:
                return True
            state = following
        return self._move(state, _END) is None

    def _forget(self) -> None:
        self._kept = 0
        self._begin = _State(frozenset((self._first,)), "^")
        self._known: dict[tuple[frozenset[int], str], _State] = {}

    def _move(self, state: _State, unit: str) -> _State | None:
        """Return the state after a code unit, None once there is a match, and keep it."""
        reached, waiting = set(state.nodes), list(state.nodes)
        while waiting:
            node = self._nodes[waiting.pop()]
            if node.units is None and (not node.needs or _holds(node.needs, state.before, unit)):
                fresh = [other for other in node.onward if other not in reached]
                reached.update(fresh)
                waiting += fresh
        following = None
        if _MATCH not in reached:
            onward = {self._first}  # a match may begin anywhere
            for index in reached:
                node = self._nodes[index]
                if node.units is not None and unit and node.units(unit):
                    onward.update(node.onward)
            following = self._state(frozenset(onward), "w" if _of_word(unit) else "o")
        state.moves[unit] = following
        return following

    def _state(self, nodes: frozenset[int], before: str) -> _State:
        self._kept += 1
        if self._kept > _MOST_KEPT:
            self._forget()
        return self._known.setdefault((nodes, before), _State(nodes, before))

    def _node(self, node: _Node) -> int:
        if len(self._nodes) >= LARGEST:
            raise InvalidInput(
                f"the pattern is too large: it has more than {LARGEST} parts once its counts are written out"
            )
        self._nodes.append(node)
        return len(self._nodes) - 1

    def _add(self, tree: Tree, onward: int) -> int:
        """Add the nodes of a tree that goes on to `onward`, and return the first of them."""
        self._steps += 1
        if self._steps > _STEPS:
            raise InvalidInput("the pattern counts too much")
        if isinstance(tree, Units):
            return self._node(_Node((onward,), _reading(tree, insensitive=self._insensitive)))
        if isinstance(tree, Assertion):
            return self._node(_Node((onward,), needs=tree.kind))
        if isinstance(tree, Choice):
            return self._node(_Node(tuple(self._add(option, onward) for option in tree.options)))
        if isinstance(tree, Sequence):
            for part in reversed(tree.parts):
                onward = self._add(part, onward)
            return onward
        return self._repeat(tree, onward)

    def _repeat(self, tree: Repeat, onward: int) -> int:
        if tree.most is None:
            loop = self._node(_Node(()))
            self._nodes[loop] = _Node((self._add(tree.part, loop), onward))
            onward = loop
        else:
            end = onward
            for _ in range(tree.most - tree.least):
                onward = self._node(_Node((self._add(tree.part, onward), end)))
        for _ in range(tree.least):
            onward = self._add(tree.part, onward)
        return onward


def compile_pattern(pattern: Json, *, insensitive: bool) -> Callable[[str], bool]:
    """Return whether a text holds a match of a pattern, as JavaScript's `RegExp.test` does.

    Raises `InvalidInput` where it is no text, no pattern, too large, or asks for what no automaton can do.

    >>> compile_pattern("^(a+)+$", insensitive=False)("a" * 2000 + "b")
    False
    """
    if not isinstance(pattern, str):
        raise InvalidInput("a pattern is a text")
    return _Automaton(parse(pattern), insensitive=insensitive)


def _holds(needs: str, before: str, unit: str) -> bool:
    if needs == "^":
        return before == "^"
    if needs == "$":
        return unit == _END
    return ((before == "w") is not _of_word(unit)) is (needs == "b")


def _of_word(unit: str) -> bool:
    return unit == "_" or (unit.isascii() and unit.isalnum())


def _reading(units: Units, *, insensitive: bool) -> Callable[[str], bool]:
    spans, negated = units

    def among(unit: str) -> bool:
        return any(first <= unit <= last for first, last in spans)

    if not insensitive:
        return lambda unit: among(unit) is not negated
    return lambda unit: any(map(among, _cases(unit))) is not negated


def _cases(unit: str) -> set[str]:
    """Return a code unit in its cases, but no ASCII for what is not: JavaScript keeps the Kelvin sign from k."""
    cases = {unit, unit.lower(), unit.upper()}
    return {
        case
        for case in cases
        if len(case) == 1 and (case.isascii() or not unit.isascii()) and (unit.isascii() or not case.isascii())
    }
