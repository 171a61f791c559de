"""What a linear model learns from: additive sums over decisions, with forgetting and slow rewards.

For a decision of weight w that showed action a, with p its own block, s its shared block (`features`) and reward r:

    gram[a]  += w p p'    cross[a] += w p s'    response[a] += w r p    squares[a] += w r^2
    shared_gram += w s s'                       shared_response += w r s       moments += w (p^3, p^4)

The sums can be built in any order and merged; a batch adds one rank-k update for each action. What is forgotten leaves the
prior, which stands outside the sums. Where rewards are slow, decisions that are still inside their window are kept apart by
time, those without feedback apart from the others, because what silence is worth depends on their age.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.policies.algorithm import FloatArray
from shared.policies.encoding import ONE, ZERO, Encoding


class Sums(msgspec.Struct, frozen=True, array_like=True, eq=False):
    """The sums above for `actions`.

    Shapes: gram (n_actions, d, d), cross (n_actions, d, s), response (n_actions, d), squares (n_actions,),
    shared_gram (s, s), shared_response (s,), moments (2, d), with d and s the widths of the blocks.
    """

    actions: tuple[str, ...]
    gram: FloatArray
    cross: FloatArray
    response: FloatArray
    squares: FloatArray
    shared_gram: FloatArray
    shared_response: FloatArray
    moments: FloatArray


class Rows(msgspec.Struct, frozen=True, eq=False):
    """Decisions as columns: `own` (n, d), `shared` (n, s), and the n `actions` shown.

    What each adds, all of shape (n,): `weights` to the grams, `responses` to the responses, `squares` to the squares.
    """

    own: FloatArray
    shared: FloatArray
    actions: Sequence[str]
    weights: FloatArray
    responses: FloatArray
    squares: FloatArray


def no_sums(own_width: int, shared_width: int) -> Sums:
    """Return the sums over nothing."""
    return Sums(
        (),
        np.zeros((0, own_width, own_width)),
        np.zeros((0, own_width, shared_width)),
        np.zeros((0, own_width)),
        np.zeros(0),
        np.zeros((shared_width, shared_width)),
        np.zeros(shared_width),
        np.zeros((2, own_width)),
    )


def sums_of(rows: Rows) -> Sums:
    """Return the sums over `rows`, one rank-k update for each action."""
    names = sorted(set(rows.actions))
    place = {name: at for at, name in enumerate(names)}
    of = np.array([place[action] for action in rows.actions], dtype=np.intp)
    order = np.argsort(of, kind="stable")
    bounds = np.searchsorted(of[order], np.arange(len(names) + 1))
    (d, s), k = (rows.own.shape[1], rows.shared.shape[1]), len(names)
    gram, cross, response = np.zeros((k, d, d)), np.zeros((k, d, s)), np.zeros((k, d))
    counted = rows.weights != 0
    for at in range(k):
        mine = order[bounds[at] : bounds[at + 1]]
        response[at] = rows.responses[mine] @ rows.own[mine]
        mine = mine[counted[mine]]
        if len(mine):
            own = rows.own[mine]
            scaled_own = own * rows.weights[mine, None]
            gram[at] = scaled_own.T @ own
            if s:
                cross[at] = scaled_own.T @ rows.shared[mine]
    squares: FloatArray = np.bincount(of, rows.squares, minlength=k).astype(np.float64)
    shared_gram = (rows.shared * rows.weights[:, None]).T @ rows.shared
    squared = rows.own * rows.own
    moments = np.array([rows.weights @ (squared * rows.own), rows.weights @ (squared * squared)])
    return Sums(tuple(names), gram, cross, response, squares, shared_gram, rows.responses @ rows.shared, moments)


def added(one: Sums, other: Sums, factor: float = 1.0) -> Sums:
    """Return one + factor * other."""
    names = one.actions
    known = set(names)
    names = names + tuple(name for name in other.actions if name not in known)
    place = {name: at for at, name in enumerate(names)}
    into = np.array([place[name] for name in other.actions], dtype=np.intp)

    def total(mine: FloatArray, more: FloatArray) -> FloatArray:
        result = np.zeros((len(names), *mine.shape[1:]))
        result[: len(mine)] = mine
        result[into] += more if factor == 1.0 else factor * more
        return result

    return Sums(
        names,
        total(one.gram, other.gram),
        total(one.cross, other.cross),
        total(one.response, other.response),
        total(one.squares, other.squares),
        one.shared_gram + factor * other.shared_gram,
        one.shared_response + factor * other.shared_response,
        one.moments + factor * other.moments,
    )


def scaled(sums: Sums, factor: float) -> Sums:
    """Return factor * sums."""
    if factor == 1.0:
        return sums
    arrays = {field: factor * getattr(sums, field) for field in Sums.__struct_fields__[1:]}
    return Sums(sums.actions, **arrays)


def with_ones(sums: Sums) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return (cross, shared_gram, shared_response) as if the shared block had a column of ones after its own.

    Shapes (n_actions, d, s + 1), (s + 1, s + 1), (s + 1,): what it would have summed to stands in the own block's column of ones.
    """
    cross = np.concatenate([sums.cross, sums.gram[:, :, :1]], axis=2)
    ones = cross[:, 0, :].sum(axis=0)
    shared_gram = np.block([[sums.shared_gram, ones[:-1, None]], [ones[None, :]]])
    return cross, shared_gram, np.append(sums.shared_response, sums.response[:, 0].sum())


def encoded_as(sums: Sums, before: Encoding, after: Encoding) -> Sums:
    """Return the sums, made under one encoding, for another that has grown out of it."""
    if before == after:
        return sums
    own_source, shared_source = after.own_sources(before), after.shared.sources(before.shared)
    cross, shared_gram, shared_response = with_ones(sums)
    shared_source = np.where(shared_source == ONE, len(sums.shared_response), shared_source)
    return Sums(
        sums.actions,
        _taken(_taken(sums.gram, own_source, 1), own_source, 2),
        _taken(_taken(cross, own_source, 1), shared_source, 2),
        _taken(sums.response, own_source, 1),
        sums.squares,
        _taken(_taken(shared_gram, shared_source, 0), shared_source, 1),
        _taken(shared_response, shared_source, 0),
        _taken(sums.moments, own_source, 1),
    )


def _taken(array: FloatArray, source: NDArray[np.intp], axis: int) -> FloatArray:
    """Return `array` with the columns of `axis` taken from `source`; `ZERO` makes one of zeros."""
    taken = np.take(array, np.maximum(source, 0), axis=axis)
    shape = [1] * array.ndim
    shape[axis] = len(source)
    result: FloatArray = taken * (source != ZERO).reshape(shape)
    return result
