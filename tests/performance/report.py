"""The figures of the bench as tables for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.performance.baselines import ASGI, DEFAULT
from tests.performance.figures import table


def report(figures: Mapping[str, Any]) -> str:
    """Return every figure of `build/bench/serving.json` that a person wants to see."""
    return "\n\n".join(
        (
            _serving(figures),
            _latency(figures),
            _feedback(figures),
            _starts(figures),
            _learning(figures),
            _kept(figures),
        )
    )


def _serving(figures: Mapping[str, Any]) -> str:
    rounds = figures["burst"]["rounds"]
    rows = []
    for name, per_s in rounds["per_s"].items():
        ratio = rounds["ratio"].get(name, {})
        low, high = rounds["per_s_spread"][name]
        rows.append(
            {
                f"server, {figures['connections']} connections": name,
                "per s": per_s,
                "least": low,
                "most": high,
                "x default": ratio.get(DEFAULT.name),
                "x asgi": ratio.get(ASGI.name),
                **{f"{name} ms": value for name, value in rounds["saturated_latency_ms"][name].items()},
                "MB": figures["memory_mb"].get(name.partition(",")[0], figures["memory_mb"]["recommend"]),
                "x recommend": rounds["ratio_to_recommend"].get(name),
            }
        )
    machine = figures["machine"]
    title = ", ".join(
        (
            machine["processor"],
            f"{machine['cores']} cores",
            f"Python {machine['python']}",
            f"Redis {machine['redis']}",
        )
    )
    ceiling = f"the load generator alone manages {figures['burst']['generator_ceiling_per_s']:,.0f} per s"
    return f"{title}\n{ceiling}\n\n{table(rows)}"


def _latency(figures: Mapping[str, Any]) -> str:
    at = figures["burst"]["latency_at_per_s"]
    values = ", ".join(f"{name} {value} ms" for name, value in figures["latency_ms"].items())
    return f"latency of recommend at {at:,.0f} per s (half the burst rate): {values}"


def _feedback(figures: Mapping[str, Any]) -> str:
    given = figures["burst"]["feedback"]
    return table(
        [
            {"feedback": name, "events per s": given[f"{name}_per_s"], **given[f"{name}_latency_ms"]}
            for name in ("single", "batch")
        ]
    )


def _starts(figures: Mapping[str, Any]) -> str:
    starts = figures["starts"]
    rows = [
        {
            "process start to": f"{name} ready",
            "s": seconds,
            "x default": seconds / starts["ready_s"][DEFAULT.name],
            "x asgi": seconds / starts["ready_s"][ASGI.name],
        }
        for name, seconds in starts["ready_s"].items()
    ]
    first = starts["first_answer_s"]
    rows.insert(
        1,
        {
            "process start to": "recommend's first answer",
            "s": first,
            "x default": first / starts["ready_s"][DEFAULT.name],
            "x asgi": first / starts["ready_s"][ASGI.name],
        },
    )
    return table(rows)


def _learning(figures: Mapping[str, Any]) -> str:
    warm, drained = figures["warm"], figures["drained"]
    rows = [{"freshness": name, **warm[name]} for name in ("idle", "half_rate")]
    steady = warm["steady"]["steady_per_s"]
    held = f"{steady:,.0f} per s" if steady is not None else "none of the rates tried held"
    lines = [
        f"burst rate {figures['decisions_per_s']:,.0f} per s; steady rate, journal not growing: {held}",
        *(
            f"  at {seen['rate_per_s']:,.0f} per s the journal kept {seen['growth_share']:.0%} of what was "
            f"appended, and was empty {seen['drained_after_s']} s later"
            for seen in warm["steady"]["tries"]
        ),
        (
            f"after the burst: {drained['decisions']:,} decisions drained in {drained['seconds']} s, "
            f"{drained['per_s']:,.0f} per s"
        ),
    ]
    return table(rows) + "\n\n" + "\n".join(lines)


def _kept(figures: Mapping[str, Any]) -> str:
    kept = figures["kept"]
    acknowledged, archived = sum(kept["acknowledged"].values()), sum(kept["archived"].values())
    clicks, exposures = kept["clicks"], kept["exposures"]
    return (
        f"{acknowledged:,} decisions acknowledged ({kept['degraded']:,} degraded, "
        f"{kept['refused']:,} requests refused), {archived:,} archived; "
        f"{clicks['accepted']:,} clicks accepted, {clicks['learned']:,.0f} learned; "
        f"{sum(exposures['acknowledged'].values()):,} users exposed, {sum(exposures['archived'].values()):,} archived; "
        f"lost: {figures['lost']:,}"
    )
