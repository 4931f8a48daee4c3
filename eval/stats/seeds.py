"""Figures of an entry's training seeds to their mean and spread, and of two entries to paired differences.

The spread over seeds says what another training would give; the test is Student's.
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
    """Mean and standard deviation (n - 1) over n seeds; that of one seed is NaN, not 0."""

    mean: float
    sd: float
    n: int


def spread(values: Iterable[float]) -> Spread:
    """Mean, standard deviation and number of some values, one per seed; at least one."""
    values = list(values)
    return Spread(mean(values), stdev(values) if len(values) > 1 else math.nan, len(values))


def values(rows: Iterable[Row], column: str) -> list[float]:
    """The figures of a column, without rows that have none."""
    return [float(row[column]) for row in rows if row.get(column) not in MISSING]


def over_seeds(rows: Iterable[Row], column: Column) -> str:
    """Return a column's mean over the seeds of an entry, with the standard deviation (n - 1) of several."""
    result = values(rows, column.name)
    return column.spread(spread(result).mean, spread(result).sd) if result else DASH


def distinct(rows: Iterable[Row], column: str, between: str = ", ") -> str:
    """The values that some rows have in a column, as a page names them."""
    return between.join(sorted({row.get(column) or "not known" for row in rows}, key=natural_key))


def by_views(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows of one entry by the number of fixed views that it was trained on, empty for new ones: other recipes."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.get("teacher_cache") or "", []).append(row)
    return dict(sorted(groups.items(), key=lambda group: natural_key(group[0])))


def views(rows: Iterable[Row]) -> str:
    """How many fixed views some rows were trained on, as a page shows it; `new` for another one every epoch."""
    return "/".join(number or "new" for number in by_views(rows)) or DASH


def most_trained(rows: Iterable[Row]) -> list[Row]:
    """Of the rows of one entry those of the number of views that has the most seeds; of several, the most views."""
    return max(reversed(by_views(rows).values()), key=len, default=[])


@dataclass(frozen=True)
class Test:
    """A mean over n seeds, its 95 % interval, and the p of its being 0; these are NaN where no spread is known."""

    mean: float
    low: float
    high: float
    p: float
    n: int


def student(values: Iterable[float], resolution: float = 0.0) -> Test:
    """Student's t of some values, one per seed: of a figure, or of two entries' differences seed by seed.

    Nothing is tested of one seed, nor of values that are apart by no more than the `resolution` they are kept with.
    """
    values = list(values)
    found = spread(values)
    if found.n == 1 or found.sd <= resolution:
        return Test(found.mean, math.nan, math.nan, math.nan, found.n)
    from scipy import stats  # takes half a second, which only the pages of results have to wait for

    result = stats.ttest_1samp(values, 0.0)
    low, high = result.confidence_interval(LEVEL)
    return Test(found.mean, float(low), float(high), float(result.pvalue), found.n)
