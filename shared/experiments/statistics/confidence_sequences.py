"""Sequential inference, the default: intervals that may be looked at after every unit, and hold at all looks at once.

The normal mixture of Robbins with the variance estimated, as an asymptotic confidence sequence (`shared.evaluation.confidence_sequence`): the critical value
c at n units takes the place of Welch's. The estimates of a difference, as units arrive, are a Brownian motion in the time 1/se², which with like
variances is proportional to

    n  =  4 / (1/n_a + 1/n_b)

which is the number of units where both have as many, and less where they have not; so the split may change on the way. A relative lift r is tested by
d - r ā, whose estimates are such a motion, too, so that Fieller's set with the same c holds at all looks. Adjusted means, ratios and quantiles are
asymptotically means, and nothing changes. The intervals are not intersected over time: where the effect drifts, an intersection would be empty.

`design_units`: the n where the intervals are narrowest; fixed before the experiment, `planned_design` of the planned units if there are any. Half and ten times of
that costs little (`docs/experiment-statistics.md`). Below `LEAST_CONVERSIONS` conversions in either variation nothing is normal, and nothing is said: a sequence may
begin when it likes, and holds from there on.

Paper: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences", 2021 (arXiv:2103.06476).
"""

from __future__ import annotations

from shared.evaluation.confidence_sequence import anytime_p_value, critical_value
from shared.experiments.statistics.effect import Effect, compared, standard_error
from shared.experiments.statistics.moments import Sample

DESIGN_UNITS = 10_000
LEAST_CONVERSIONS = 10
METHOD = "confidence_sequence"


def confidence_sequence(
    control: Sample, treatment: Sample, confidence: float = 0.95, design_units: float = DESIGN_UNITS
) -> Effect:
    """Return the effect with intervals and a p-value that hold at every look. `confidence`: in (0, 1). `design_units`: > 0.

    >>> effect = confidence_sequence(Sample(5_000, 0.100, 0.090), Sample(5_000, 0.125, 0.109))
    >>> round(effect.low, 3), round(effect.high, 3), round(effect.p_value, 4)
    (0.006, 0.044, 0.0028)
    """
    error = standard_error(control, treatment)
    if is_silent(control, treatment) or error == 0.0:
        return compared(control, treatment, None, p_value=None, confidence=confidence, method=METHOD)
    units = effective_units(control, treatment)
    z = (treatment.mean - control.mean) / error
    return compared(
        control,
        treatment,
        critical_value(units, confidence, design_units),
        p_value=anytime_p_value(z, units, confidence, design_units),
        confidence=confidence,
        method=METHOD,
    )


def effective_units(control: Sample, treatment: Sample) -> float:
    """Return 4 / (1/n_a + 1/n_b) for two samples that have units."""
    return 4.0 / (1.0 / control.n + 1.0 / treatment.n)


def planned_design(units: float, control_share: float = 0.5, treatment_share: float = 0.5) -> float:
    """Return the `design_units` of a comparison in an experiment of `units` planned units, of which both variations get these shares, in (0, 1).

    >>> planned_design(20_000), planned_design(20_000, 0.9, 0.1)
    (20000.0, 7200.0)
    """
    return units * 4.0 / (1.0 / control_share + 1.0 / treatment_share)


def is_silent(control: Sample, treatment: Sample) -> bool:
    """Return whether either variation has fewer conversions than `LEAST_CONVERSIONS`."""
    counts = (control.conversions, treatment.conversions)
    return any(count is not None and count < LEAST_CONVERSIONS for count in counts)
