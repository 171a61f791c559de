"""Writes features into the columns of an encoding."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from shared.policies.algorithm import FloatArray
from shared.policies.encoding import ONE, Block, Encoding
from shared.policies.expansion import Expansion, expanded
from shared.policies.features import NUMERIC, Seen, Terms, own_terms, reads_context, shared_terms
from shared.vocabulary import Action, Context, FeatureSpec

FARTHEST = 1e3
"""How many scales from its centre a number is taken to be at most."""


class Encoder:
    """Writes features as columns of one encoding. Names that the encoding does not know are left out.

    A category falls, by the hash of `name=value`, into one of the hashed columns, with a sign, so that what collides cancels in
    the mean (Weinberger et al., Feature Hashing for Large Scale Multitask Learning, 2009).
    """

    def __init__(
        self, spec: FeatureSpec, encoding: Encoding, missing: tuple[FloatArray, FloatArray] | None = None
    ) -> None:
        """Prepare for `spec` and `encoding`. `missing`: what stands, in either block, where nothing is given; None: 0."""
        self.encoding = encoding
        self._spec = spec
        own, shared = (
            (np.zeros(1 + encoding.own.width), np.zeros(encoding.shared.width)) if missing is None else missing
        )
        self._nothing_own, self._nothing_shared = own[: 1 + encoding.own.width].copy(), shared.copy()
        self._nothing_own[0] = 1.0
        self._own = _BlockEncoder(encoding.own, first=1)
        self._shared = _BlockEncoder(encoding.shared, first=0)
        self._has_context_in_shared = reads_context(spec)
        self._plans: dict[tuple[str, ...], _Plan | None] = {}
        self._expansion = None if encoding.expansion is None else _Expander(encoding.own, encoding.expansion)

    @property
    def shared_is_fixed(self) -> bool:
        """Return whether the shared columns depend on the action alone."""
        return not self._has_context_in_shared

    def own(self, context: Context) -> FloatArray:
        """Return the own block of a context, shape (own_width,); its first column is 1."""
        row = self._own_row(context)
        return row if self._expansion is None else np.append(row, self._expansion.columns(row[None, :])[0])

    def _own_row(self, context: Context) -> FloatArray:
        row = self._nothing_own.copy()
        plan = self._plan(tuple(context))
        if plan is not None and NUMERIC.issuperset(map(type, context.values())):
            values = np.array([*context.values()], dtype=np.float64)
            if np.isfinite(values).all():
                row[plan.numbers] = _anchored(values, plan.centres, plan.scales)
                row[plan.given] = 1.0
                return row
        self._own.write(row, own_terms(self._spec, context))
        return row

    def shared(self, context: Context, actions: Sequence[Action]) -> FloatArray:
        """Return the shared block of each action in a context, shape (n_actions, shared.width)."""
        rows = np.tile(self._nothing_shared, (len(actions), 1))
        if rows.size:
            for row, action in zip(rows, actions, strict=True):
                self._shared.write(row, shared_terms(self._spec, context, action.features))
        return rows

    def rows(self, seen: Seen) -> tuple[FloatArray, FloatArray]:
        """Return both blocks of what was seen: shapes (n, own_width), (n, shared.width)."""
        own = np.tile(self._nothing_own, (len(seen.contexts), 1))
        for group in seen.groups:
            plan = None if group.numbers is None else self._plan(group.names)
            if plan is not None and group.numbers is not None:
                own[group.rows, plan.numbers] = _anchored(group.numbers, plan.centres, plan.scales)
                own[group.rows, plan.given] = 1.0
            else:
                for at, context in zip(group.rows[:, 0].tolist(), group.contexts, strict=True):
                    self._own.write(own[at], own_terms(self._spec, context))
        shared = np.tile(self._nothing_shared, (len(seen.contexts), 1))
        if shared.size:
            for row, context, features in zip(shared, seen.contexts, seen.features, strict=True):
                self._shared.write(row, shared_terms(self._spec, context, features))
        return own if self._expansion is None else np.hstack([own, self._expansion.columns(own)]), shared

    def own_names(self, context: Context) -> dict[int, str]:
        """Return what stands in the columns of a context's own block, the first excepted, by column."""
        return self._own.names(own_terms(self._spec, context))

    def shared_names(self, context: Context, action: Action) -> dict[int, str]:
        """Return what stands in the columns of an action's shared block, by column."""
        return self._shared.names(shared_terms(self._spec, context, action.features))

    def _plan(self, names: tuple[str, ...]) -> _Plan | None:
        """Return where these features go as numbers; None where one of them is not to be read as one."""
        plan = self._plans.get(names)
        if plan is None and names not in self._plans:
            if len(self._plans) >= _REMEMBERED_PLANS:
                self._plans.clear()
            if self._spec.per_action is None:
                plan = self._own.plan(names)
            self._plans[names] = plan
        return plan


class _Expander:
    """Finds the inputs of an expansion among the columns of ones and own block."""

    def __init__(self, block: Block, expansion: Expansion) -> None:
        self._expansion = expansion
        first, given = 1 + block.width - block.hashed, block.centred_by()
        places = [each.place for each in expansion.inputs]
        self._columns = np.array([1 + at if at >= 0 else first - 1 - at for at in places], dtype=np.intp)
        gaps = [at >= 0 and given[at] != ONE for at in places]
        self._given = np.array(
            [1 + given[at] if gap else 0 for at, gap in zip(places, gaps, strict=True)], dtype=np.intp
        )
        self._has_gaps = any(gaps)

    def columns(self, rows: FloatArray) -> FloatArray:
        given = rows[:, self._given] if self._has_gaps else None
        return expanded(self._expansion, rows[:, self._columns], given)


class _Plan:
    """The columns of some numbers, their anchors, and the columns that say that they are given."""

    __slots__ = ("centres", "given", "numbers", "scales")

    def __init__(
        self, numbers: NDArray[np.intp], given: NDArray[np.intp], centres: FloatArray, scales: FloatArray
    ) -> None:
        self.numbers, self.given, self.centres, self.scales = numbers, given, centres, scales


class _BlockEncoder:
    def __init__(self, block: Block, first: int) -> None:
        given = block.centred_by()
        self._numbers = {
            number.name: (first + at, first + int(given[at]) if number.has_gaps else None, number)
            for at, number in enumerate(block.numbers)
        }
        self._first_hashed = first + len(block.numbers) + len(block.gaps)
        self._hashed = block.hashed
        self._places: dict[str, tuple[int, float]] = {}

    def write(self, row: FloatArray, terms: Terms) -> None:
        for name, value in terms.numbers.items():
            found = self._numbers.get(name)
            if found is not None:
                at, given, number = found
                row[at] = min(max((value - number.centre) / number.scale, -FARTHEST), FARTHEST)
                if given is not None:
                    row[given] = 1.0
        if self._hashed:
            for key, times in terms.categories.items():
                at, sign = self._place(key)
                row[at] += sign * times

    def names(self, terms: Terms) -> dict[int, str]:
        """Return the columns that `terms` are written to, with their names; categories that share one are joined."""
        named: dict[int, str] = {}
        for name in terms.numbers:
            found = self._numbers.get(name)
            if found is not None:
                named[found[0]] = name
                if found[1] is not None:
                    named[found[1]] = f"{name} is given"
        for key in terms.categories if self._hashed else ():
            at, _ = self._place(key)
            named[at] = f"{named[at]} + {key}" if at in named else key
        return named

    def plan(self, names: Sequence[str]) -> _Plan | None:
        found = [self._numbers.get(name) for name in names]
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            return None
        return _Plan(
            np.array([at for at, _, _ in known], dtype=np.intp),
            np.array([given for _, given, _ in known if given is not None], dtype=np.intp),
            np.array([number.centre for _, _, number in known]),
            np.array([number.scale for _, _, number in known]),
        )

    def _place(self, key: str) -> tuple[int, float]:
        place = self._places.get(key)
        if place is None:
            if len(self._places) >= _REMEMBERED_KEYS:
                self._places.clear()
            digest = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")
            place = self._first_hashed + (digest >> 1) % self._hashed, 1.0 if digest & 1 else -1.0
            self._places[key] = place
        return place


def _anchored(values: FloatArray, centres: FloatArray, scales: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):  # the farthest values are cut off below
        return np.minimum(np.maximum((values - centres) / scales, -FARTHEST), FARTHEST)


_REMEMBERED_KEYS, _REMEMBERED_PLANS = 100_000, 1_000
