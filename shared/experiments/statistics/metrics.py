"""From what units did to one sample a variation, by the kind of metric: the same steps for every inference.

| kind | value of a unit | sample |
|---|---|---|
| `proportion` | whether it had any event | mean |
| `mean` | its events added up, counted or their largest | mean |
| `ratio` | numerator and denominator | ratio of the sums, delta method |
| `quantile` | the values of its events | quantile of all events, units as clusters (`quantiles`) |

All variations are taken together: one cap cuts the values of all (winsorising by variation would make the cap part of the effect), one θ takes out what was there
before (`cuped`), one set of shares weighs the strata (`post_stratification`). Windows have been cut by whoever read the events.

`Sample.conversions`, of which sequential inference asks for a few: of a proportion the units that converted, or those that did not, whichever are fewer; of means and ratios
(Σ |y|)² / Σ y² over the units' values (numerators) y, the effective number of them: amounts that differ by orders of magnitude tell less than they are many;
of quantiles see there.
"""

from __future__ import annotations

from functools import reduce
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput
from shared.experiments.plan import Metric
from shared.experiments.statistics.cuped import adjusted, theta
from shared.experiments.statistics.moments import Sample, Sums, sums
from shared.experiments.statistics.post_stratification import coarser, post_stratified
from shared.experiments.statistics.quantiles import quantile_sample

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]


class UnitValues(msgspec.Struct, frozen=True, kw_only=True):
    """What each unit did, of all variations together; arrays of shape (n_units,) but for events.

    `variation`: which variation it saw, from 0. `value`: as in the table above, 0 where it did nothing. `denominator`: of a ratio. `before`, `denominator_before`:
    the same over the time before its exposure, None for no adjustment. `stratum`: from 0, None for no strata.
    `event_unit`, `event_value`: of a quantile, shape (n_events,): its events, and the place in `variation` of the unit that each belongs to.
    """

    variation: Integers
    value: Floats
    denominator: Floats | None = None
    before: Floats | None = None
    denominator_before: Floats | None = None
    stratum: Integers | None = None
    event_unit: Integers | None = None
    event_value: Floats | None = None


class MetricSamples(msgspec.Struct, frozen=True):
    """One metric in every variation.

    `samples`: in the order of the variations. `cap`: what larger values were cut to, None where none were. `theta`: of CUPED, 0 without.
    `variance_left`: in [0, 1] up to chance, the share of the variance that adjusting and stratifying left, over all variations.
    """

    samples: tuple[Sample, ...]
    cap: float | None = None
    theta: float = 0.0
    variance_left: float = 1.0


def metric_samples(metric: Metric, units: UnitValues, variations: int) -> MetricSamples:
    """Return the samples of `metric` in each of `variations` (>= 1) variations; those without units have n = 0.

    Raises InvalidInput for a metric whose fields contradict one another or lack what its kind needs, ValueError for arrays that do not fit.
    """
    if any(column is not None and len(column) != len(units.variation) for column in (units.value, units.stratum)):
        raise ValueError("every unit must have a variation, a value and, if any has, a stratum")
    if metric.kind == "quantile":
        return MetricSamples(_quantiles(metric, units, variations))
    values, before = units.value, units.before
    cap = None
    if metric.kind == "proportion":
        values = (values > 0.0).astype(np.float64)
        before = None if before is None else (before > 0.0).astype(np.float64)
    elif metric.winsorise is not None:
        values, cap = _winsorised(values, metric.winsorise)
        before = None if before is None else _winsorised(before, metric.winsorise)[0]
    if metric.kind == "ratio" and units.denominator is None:
        raise InvalidInput(f"the ratio {metric.name!r} has no denominator", field="denominator")
    ratio = metric.kind == "ratio"
    columns = (
        values,
        units.denominator if ratio else None,
        before,
        units.denominator_before if ratio and before is not None else None,
    )
    plain = _divided(columns, units.variation, variations)
    weighted, common = _stratified(columns, units, variations) or (plain, 0.0)
    samples = tuple(
        msgspec.structs.replace(sample, common=sample.common + common, conversions=_conversions(metric, own))
        for sample, own in zip(adjusted(weighted), plain, strict=True)
    )
    unadjusted = sum(each.sample().variance for each in plain)
    return MetricSamples(
        samples,
        cap,
        theta(reduce(Sums.merged, weighted)),
        sum(sample.variance for sample in samples) / unadjusted if unadjusted > 0.0 else 1.0,
    )


def _divided(columns: tuple[Floats | None, ...], group: Integers, groups: int) -> tuple[Sums, ...]:
    """Return the sums of each of `groups` groups of units."""
    order = np.argsort(group, kind="stable")
    edges = np.searchsorted(group[order], np.arange(groups + 1))
    if edges[0] != 0 or edges[-1] != len(group):
        raise ValueError(f"variations and strata are numbered from 0, here to {groups - 1}")
    sorted_columns = [None if column is None else column[order] for column in columns]
    return tuple(
        sums(*(None if column is None else column[low:high] for column in sorted_columns))  # type: ignore[arg-type]
        for low, high in pairwise(edges.tolist())
    )


def _stratified(
    columns: tuple[Floats | None, ...], units: UnitValues, variations: int
) -> tuple[tuple[Sums, ...], float] | None:
    """Return the post-stratified sums of each variation and their common variance, or None where there is one stratum or too few units."""
    if units.stratum is None or not len(units.stratum):
        return None
    strata = int(units.stratum.max()) + 1
    counts = np.zeros((variations, strata), dtype=np.int64)
    np.add.at(counts, (units.variation, units.stratum), 1)
    part_of = coarser(counts)
    strata = int(part_of.max()) + 1
    if strata < 2:  # noqa: PLR2004 - one stratum is none
        return None
    cells = _divided(columns, units.variation * strata + part_of[units.stratum], variations * strata)
    return post_stratified([cells[start : start + strata] for start in range(0, len(cells), strata)])


def _quantiles(metric: Metric, units: UnitValues, variations: int) -> tuple[Sample, ...]:
    if metric.quantile is None or units.event_unit is None or units.event_value is None:
        raise InvalidInput(f"the quantile metric {metric.name!r} needs a quantile and its events", field="quantile")
    which = units.variation[units.event_unit]
    return tuple(
        quantile_sample(units.event_value[which == each], units.event_unit[which == each], metric.quantile)
        for each in range(variations)
    )


def _winsorised(values: Floats, quantile: float) -> tuple[Floats, float | None]:
    """Return the values cut at their `quantile`, and where that is; as they are where it is their least, which would leave nothing to compare."""
    if not len(values):
        return values, None
    cap = float(np.quantile(values, quantile))
    return (np.minimum(values, cap), cap) if cap > float(values.min()) else (values, None)


def _conversions(metric: Metric, own: Sums) -> int:
    return min(own.conversions, own.n - own.conversions) if metric.kind == "proportion" else own.conversions
