"""Group-sequential bounds of spotify-confidence, and the same from gsdesign's recursion.

spotify-confidence has the power family with an upper bound only, by the trapezoidal rule on steps of 0.05 and to 1e-7 of probability: `shipped`. Its own code with finer steps and a finer
tolerance, extrapolated to steps of nothing, is `refined`. gsdesign's recursion (Jennison & Turnbull's grid, 18 times as fine as its default) gives the probabilities of leaving symmetric bounds, of
which the bounds are found here by bisection.
"""

from __future__ import annotations

import inspect
import types
from typing import Any

import numpy as np
from gsdesign import h1, hupdate
from scipy.optimize import brentq
from scipy.stats import norm
from spotify_confidence.analysis.frequentist import sequential_bound_solver

TIMES = {
    "even": [0.2, 0.4, 0.6, 0.8, 1.0],
    "uneven": [0.1, 0.15, 0.5, 0.72, 0.95, 1.0],
    "two": [0.3, 1.0],
    "ten": [round(0.1 * look, 1) for look in range(1, 11)],
}
EXPONENTS = (1.0, 2.0, 3.0)
FURTHEST, STEPS, FINENESS = 8.0, (0.01, 0.005), 324


def fixture() -> dict[str, Any]:
    """Return inputs and what the references make of them."""
    power = [
        {
            "times": times,
            "alpha": alpha,
            "exponent": exponent,
            "shipped": _bounds(sequential_bound_solver, times, alpha, exponent),
            "refined": _refined(times, alpha, exponent),
        }
        for times in TIMES.values()
        for alpha in (0.05, 0.01)
        for exponent in EXPONENTS
        if alpha * times[0] ** exponent > 1e-4  # below, its tolerance takes the place of what is spent
    ]
    symmetric = [
        {"times": times, "alpha": alpha, "spending": spending, "bounds": _symmetric(times, alpha, spending)}
        for times in TIMES.values()
        for alpha in (0.05, 0.01)
        for spending in ("obrien_fleming", "pocock")
    ]
    return {"power_one_sided": power, "symmetric": symmetric}


def _bounds(module: Any, times: list[float], alpha: float, exponent: float) -> list[float]:
    # `alpha` as the error above; its own "guardrail" refuses bounds below the fixed horizon's
    result: list[float] = module.landem(np.array(times), alpha, exponent, FURTHEST, module.EMPTY_STATE)[0][
        "zb"
    ].tolist()
    return result


def _refined(times: list[float], alpha: float, exponent: float) -> list[float]:
    coarse, fine = (np.array(_bounds(_with_step(step), times, alpha, exponent)) for step in STEPS)
    finest: list[float] = (fine + (fine - coarse) / 3.0).tolist()
    return finest


def _with_step(step: float) -> types.ModuleType:
    source = inspect.getsource(sequential_bound_solver)
    for shipped, wanted in (("    h = 0.05\n", f"    h = {step}\n"), ("    tol = 1e-7\n", "    tol = 1e-13\n")):
        if shipped not in source:
            raise RuntimeError(f"spotify-confidence no longer says {shipped.strip()!r}")
        source = source.replace(shipped, wanted)
    module = types.ModuleType("refined")
    exec(compile(source, "refined", "exec"), module.__dict__)  # noqa: S102 - the reference's own code
    return module


def _symmetric(times: list[float], alpha: float, spending: str) -> list[float]:
    spent = [alpha / 2 * np.log1p((np.e - 1) * time) for time in times]
    if spending == "obrien_fleming":
        spent = [2 * norm.sf(norm.isf(alpha / 4) / np.sqrt(time)) for time in times]
    found: list[float] = []
    grid: Any = None
    for look, time in enumerate(times):
        due = spent[look] - (spent[look - 1] if look else 0.0)

        before = times[look - 1] if look else 0.0
        places, masses = (np.zeros(1), np.ones(1)) if grid is None else (grid[0] * np.sqrt(before), grid[2])

        def excess(limit: float, now: float = time, apart: float = time - before, at: Any = (places, masses)) -> float:
            return float(norm.sf((limit * np.sqrt(now) - at[0]) / np.sqrt(apart)) @ at[1])

        limit = brentq(lambda x, excess=excess, due=due: excess(x) / due - 1.0, 0.5, 15.0, xtol=1e-13, rtol=1e-14)
        found.append(float(limit))
        if look:
            grid = hupdate(FINENESS, 0.0, time, -limit, limit, 0.0, before, grid)
        else:
            grid = h1(FINENESS, 0.0, time, -limit, limit)
    return found
