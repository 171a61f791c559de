"""How much of what is known of the rewards the actions explain."""

from __future__ import annotations

from collections.abc import Iterable

from shared.vocabulary import Estimate


def explained_variance(estimates: Iterable[Estimate]) -> float | None:
    """Return the share of the rewards' variance that the means of the actions explain; None without variance.

    >>> explained_variance([Estimate("a", 4.0, 4.0, 4.0), Estimate("b", 4.0, 0.0, 0.0)])
    1.0
    """
    known = [(e.weight, e.total, e.squares) for e in estimates if e.weight > 0]
    weight = sum(w for w, _, _ in known)
    if weight <= 0:
        return None
    mean = sum(t for _, t, _ in known) / weight
    variance = sum(s for _, _, s in known) - weight * mean * mean
    within = sum(s - t * t / w for w, t, s in known)
    return 1.0 - within / variance if variance > 1e-12 * weight else None
