"""Slates of two, drawn a million times from one law: as `Law.draw` draws them, many at once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from shared.policies.choosing import Law


def places(law: Law, uniforms: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the position that each uniform number draws, shape (n,)."""
    drawn: npt.NDArray[np.intp] = np.minimum(np.searchsorted(law._below, uniforms, side="right"), law._last)
    assert drawn[:50].tolist() == [law.draw(uniform) for uniform in uniforms[:50].tolist()]
    return drawn


def pairs_of(law: Law, uniforms: npt.NDArray[np.float64]) -> tuple[Counter[str], dict[str, float]]:
    """Draw first and second items by `uniforms`, shape (2, n); return how often each pair came, and its stated probability."""
    counts: Counter[str] = Counter()
    stated: dict[str, float] = {}
    first = places(law, uniforms[0])
    for at, (above, share) in enumerate(zip(law.actions, law.propensities, strict=True)):
        rest = law.without(at)
        second = np.bincount(places(rest, uniforms[1, first == at]), minlength=len(rest.actions))
        counts += Counter({f"{above} {action}": int(n) for action, n in zip(rest.actions, second, strict=True)})
        stated |= {f"{above} {a}": share * p for a, p in zip(rest.actions, rest.propensities, strict=True)}
    return counts, stated
