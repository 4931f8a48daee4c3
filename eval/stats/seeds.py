"""Statistics over training seeds: mean and standard deviation, and Student's t test.

The spread over seeds shows how much another training run could differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import mean, stdev

from dctkd_zoo.registry import natural_key
from eval.columns import DASH, MISSING, Column
from eval.run.results_csv import Row
from eval.stats.bootstrap import LEVEL


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) over n seeds; the deviation of a single seed is NaN."""

    mean: float
    sd: float
    n: int


def spread(values: Iterable[float]) -> Spread:
    """Return mean, standard deviation and number of values, one per seed; at least one is needed."""
    values = list(values)
    return Spread(mean(values), stdev(values) if len(values) > 1 else math.nan, len(values))


def values(rows: Iterable[Row], column: str) -> list[float]:
    """Return the values of a column, without the rows that have none."""
    return [float(row[column]) for row in rows if row.get(column) not in MISSING]


def over_seeds(rows: Iterable[Row], column: Column) -> str:
    """Return a column's mean over the seeds of an entry as text, with the standard deviation if there are several."""
    result = values(rows, column.name)
    if not result:
        return DASH
    over_all = spread(result)
    return column.spread(over_all.mean, over_all.sd)


def distinct(rows: Iterable[Row], column: str, between: str = ", ") -> str:
    """Return the distinct values of a column as text, sorted."""
    return between.join(sorted({row.get(column) or "not known" for row in rows}, key=natural_key))


def by_views(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Group rows of an entry by the number of cached views it was trained on; empty for new views every epoch."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.get("teacher_cache") or "", []).append(row)
    return dict(sorted(groups.items(), key=lambda group: natural_key(group[0])))


def views(rows: Iterable[Row]) -> str:
    """Return the numbers of cached views that some rows were trained on as text; `new` for new views every epoch."""
    return "/".join(number or "new" for number in by_views(rows)) or DASH


def most_trained(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of an entry with the number of views that has the most seeds; of several, the most views."""
    return max(reversed(by_views(rows).values()), key=len, default=[])


@dataclass(frozen=True)
class Test:
    """A mean over n seeds, its 95 % interval, and the p of it being 0; both are NaN if the spread is not known."""

    mean: float
    low: float
    high: float
    p: float
    n: int


def student(values: Iterable[float], resolution: float = 0.0) -> Test:
    """Return Student's t test of values, one per seed: of a metric, or of the paired differences of two entries.

    A single seed is not tested, nor values whose standard deviation is not above the `resolution` they are stored with.
    """
    values = list(values)
    over_all = spread(values)
    if over_all.n == 1 or over_all.sd <= resolution:
        return Test(over_all.mean, math.nan, math.nan, math.nan, over_all.n)
    from scipy import stats  # takes half a second to import

    result = stats.ttest_1samp(values, 0.0)
    low, high = result.confidence_interval(LEVEL)
    return Test(over_all.mean, float(low), float(high), float(result.pvalue), over_all.n)
