"""Experiments to assign in tests."""

from __future__ import annotations

from typing import Any

from shared.experiments.assigning import Assignment, Catalogue, Kept
from shared.experiments.experiment import ExperimentSpec, Variation
from shared.experiments.flags import FlagSpec

A_B = (Variation("a", 1), Variation("b", 2))
USERS = [f"user-{number}" for number in range(2000)]


def experiment(key: str, **fields: Any) -> ExperimentSpec:
    """Return a running experiment of two variations, `a` with the value 1 and `b` with 2, unless fields say otherwise."""
    given: dict[str, Any] = {"key": key, "version": 1, "variations": A_B} | fields
    return ExperimentSpec(**given)


def catalogue(*specs: ExperimentSpec | FlagSpec, **groups: list[Any]) -> Catalogue:
    """Return the catalogue of experiments and flags, with saved groups by name."""
    experiments = [spec for spec in specs if isinstance(spec, ExperimentSpec)]
    return Catalogue(1, experiments, [spec for spec in specs if isinstance(spec, FlagSpec)], groups)


def pseudonym(attribute: str, value: str) -> str:
    """Return a pseudonym that says whose it is."""
    return f"{attribute}={value}"


def assign(
    of: Catalogue, key: str, user: str | None = None, sticky: Kept | None = None, **attributes: Any
) -> Assignment:
    """Return what a user, or whoever has the attributes, gets of an experiment."""
    return of.assign(key, attributes | ({"user_id": user} if user is not None else {}), pseudonym, sticky)
