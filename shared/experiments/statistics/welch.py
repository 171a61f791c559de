"""The fixed horizon: Welch's test, for an experiment that is looked at once, when it is over.

    t = d / se,        f = se⁴ / ( v_a²/(n_a - 1) + v_b²/(n_b - 1) ),        v = variance / n,   se² = v_a + v_b

compared with Student's t of f degrees of freedom (Welch-Satterthwaite). Looked at again and again it goes wrong: after every 100 of 10,000 users, a third of the
experiments without any effect find one. The relative interval is Fieller's at the same critical value. Take `confidence_sequences` where somebody might look earlier.

Papers: Welch, "The generalization of 'Student's' problem when several different population variances are involved", Biometrika 1947; Satterthwaite,
"An approximate distribution of estimates of variance components", Biometrics Bulletin 1946.
"""

from __future__ import annotations

from scipy.special import stdtr, stdtrit

from shared.experiments.statistics.effect import Effect, compared, standard_error
from shared.experiments.statistics.moments import Sample

METHOD = "welch"


def welch(control: Sample, treatment: Sample, confidence: float = 0.95) -> Effect:
    """Return the effect with intervals of `confidence` (in (0, 1)), which hold at one look, and the two-sided p-value.

    >>> effect = welch(Sample(5_000, 0.100, 0.090), Sample(5_000, 0.125, 0.109))
    >>> round(effect.low, 3), round(effect.high, 3), round(effect.p_value, 5)
    (0.013, 0.037, 7e-05)
    """
    error = standard_error(control, treatment)
    if error == 0.0:
        return compared(control, treatment, None, p_value=None, confidence=confidence, method=METHOD)
    freedom = degrees_of_freedom(control, treatment)
    t = (treatment.mean - control.mean) / error
    return compared(
        control,
        treatment,
        float(stdtrit(freedom, 0.5 + confidence / 2.0)),
        p_value=float(2.0 * stdtr(freedom, -abs(t))),
        confidence=confidence,
        method=METHOD,
    )


def degrees_of_freedom(control: Sample, treatment: Sample) -> float:
    """Return Welch-Satterthwaite's f of two samples of two units or more, of which one varies."""
    return freedom_of(control.variance, control.n, treatment.variance, treatment.n)


def freedom_of(variance: float, n: float, other_variance: float, other_n: float) -> float:
    """Return f of the variances of a unit and the numbers of units (> 1 each), which need not be whole."""
    one, other = variance / n, other_variance / other_n
    whole = one + other
    return 1.0 / ((one / whole) ** 2 / (n - 1.0) + (other / whole) ** 2 / (other_n - 1.0))
