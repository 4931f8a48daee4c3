"""Bootstrap confidence intervals over test images.

All metrics of a table use the same resamples, and so do all tables of the same images: the resamples depend only on
the number of images and the seed, and rows are taken in the order of their ids. The metrics of two tables are
therefore paired, resample by resample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LEVEL = 0.95  # confidence level of all intervals
TINY = 1e-12
FEW = 5  # with fewer images right, or fewer wrong, resampling underestimates the interval


def _z(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(share: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Return Wilson's interval (JASA 1927) of a share in [0, 1] of `n` independent trials; NaN if `n` is 0.

    scipy's `proportion_ci` needs a whole number of trials, but the effective number of images of MCA (`Share.n`) is
    not whole.
    """
    if n == 0:
        return math.nan, math.nan
    z = _z(level)
    middle = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = ((middle + side * reach) / (1 + z * z / n) for side in (-1, 1))
    return max(low, 0.0), min(high, 1.0)


def tango(only_a: float, only_b: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Return Tango's score interval (Stat. Med. 1998) of share b - share a of the same `n` trials.

    `only_a` and `only_b` are the numbers of trials that only one of the two gets right. If both always agree, the
    interval is ± z² / (n + z²).
    """
    from scipy.optimize import brentq

    z, result = _z(level), (only_b - only_a) / n

    def score(difference: float) -> float:
        """Return the score statistic of a difference, with `a` at its maximum likelihood estimate."""
        b = (2 * n - only_b + only_a) * difference - only_b - only_a
        a = (math.sqrt(max(b * b + 8 * n * only_a * difference * (1 - difference), 0.0)) - b) / (4 * n)
        return (result - difference) / math.sqrt(max(2 * a + difference * (1 - difference), TINY) / n)

    low, high = (
        end if abs(result - end) < TINY else brentq(lambda d, side=side: score(d) + side * z, end - side * TINY, result)
        for side, end in ((-1, -1.0), (1, 1.0))
    )
    return float(low), float(high)


@dataclass(frozen=True)
class Share:
    """A metric that is a weighted share of images: `hits` (n,) are 1 or 0, `weights` (n,) add up to 1.

    All weights are equal for a mean over images; for a mean over classes they are equal within a class; images that
    the metric leaves out have none. `full` is the value of the metric when every image is a hit.
    """

    hits: NDArray[np.float64]
    weights: NDArray[np.float64]
    full: float = 100.0

    def take(self, order: NDArray[np.int64]) -> Share:
        """Return the share with its images in another order."""
        return replace(self, hits=self.hits[order], weights=self.weights[order])

    @property
    def n(self) -> float:
        """The effective number of images: how many of equal weight would have the same variance."""
        return 1 / float(np.square(self.weights).sum())

    @property
    def share(self) -> float:
        """The value, in [0, 1]."""
        return min(1.0, float(self.hits @ self.weights))

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Return Wilson's interval if fewer than `FEW` images are hits, or are not hits; else None."""
        hits = self.hits[self.weights > 0]
        if min(hits.sum(), (1 - hits).sum()) >= FEW:
            return None
        low, high = wilson(self.share, self.n, level)
        return self.full * low, self.full * high

    def difference(self, other: Share, level: float = LEVEL) -> tuple[float, float] | None:
        """Return Tango's interval of other - self if the two differ on fewer than `FEW` images; else None.

        None, too, if the two do not weigh the images alike.
        """
        differing = (other.hits - self.hits) * (self.weights > 0)
        if np.abs(differing).sum() >= FEW or not np.array_equal(self.weights, other.weights):
            return None
        only_self, only_other = (self.n * float(np.maximum(side * differing, 0) @ self.weights) for side in (-1, 1))
        low, high = tango(only_self, only_other, self.n, level)
        return self.full * low, self.full * high


RESAMPLES = 2000
CHUNK = 2**21  # counts in memory at a time (16 MiB)

Counts = NDArray[np.float64]  # (R, n): how often each of n images was drawn in each of R resamples
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Reducer:
    """A metric that is not a mean over images: from a table of n images and counts (R, n) to its values (R,).

    A `biased` one grows or shrinks when images are drawn twice, as a sum of absolute values does; its values are then
    shifted so that their mean is the value of the table itself. `share` returns a metric that is a weighted share of
    the images as such, None if no image counts.
    """

    of: Callable[[pd.DataFrame, Counts], Values]
    biased: bool = False
    share: Callable[[pd.DataFrame], Share | None] | None = None


@dataclass(frozen=True)
class Bootstrap:
    """Metrics of a table (`figures`), their `values` (R,) in the resamples, and those that are `shares` of images."""

    figures: Mapping[str, float]
    values: Mapping[str, Values]
    shares: Mapping[str, Share] = field(default_factory=dict)

    def interval(self, figure: str, level: float = LEVEL) -> tuple[float, float]:
        """Return the percentile interval of a metric; Wilson's for a share with too few hits or misses (`FEW`)."""
        exact = self.shares[figure].interval(level) if figure in self.shares else None
        return exact or interval(self.values[figure], level)


def resamples(n: int, seed: int, count: int = RESAMPLES) -> Iterator[Counts]:
    """Yield the counts (R, n) of `count` resamples of n images, in chunks that fit into memory."""
    generator, step = np.random.default_rng(seed), max(1, CHUNK // n)
    for start in range(0, count, step):
        counts = np.empty((min(step, count - start), n))
        for row in counts:
            row[:] = np.bincount(generator.integers(n, size=n, dtype=np.uint32), minlength=n)
        yield counts


def means(columns: Values, counts: Counts) -> Values:
    """Return the means (R, k) of columns (n, k) over the images of resamples with counts (R, n).

    Images whose value is NaN are left out; a mean over no image is NaN.
    """
    missing = np.isnan(columns)
    partial = missing.any(axis=0)
    totals = np.repeat(counts.sum(axis=1, keepdims=True), columns.shape[1], axis=1)
    totals[:, partial] = counts @ ~missing[:, partial]
    with np.errstate(invalid="ignore"):
        return np.asarray(counts @ np.where(missing, 0.0, columns) / totals)


def sums(values: Values, groups: NDArray[np.int64], counts: Counts, size: int) -> Values:
    """Return the sums (R, size) of `values` (n,) over the resampled images of each group 0 ... size - 1."""
    return np.stack([np.bincount(groups, weights=row * values, minlength=size) for row in counts])


def bootstrap(
    table: pd.DataFrame,
    columns: Mapping[str, Values],
    reducers: Mapping[str, Reducer],
    seed: int = 0,
    count: int = RESAMPLES,
    shares: Mapping[str, Share] | None = None,
) -> Bootstrap:
    """Bootstrap the metrics of a table (columns `id` and whatever the reducers read) in `count` resamples.

    `columns` are the metrics that are means over images: one number per image (n,), or one per image and level
    (n, L), which is then averaged over the levels. NaN leaves an image out, so `np.where(mask, column, np.nan)` gives
    the metric of a subset. `shares` are the metrics that are shares of images, in the table's order of images.
    """
    order = np.argsort(table["id"].to_numpy(str), kind="stable")
    table = table.iloc[order]

    def measure(counts: Counts) -> dict[str, Values]:
        # One metric at a time: all columns at once in float64 would take more memory than the table.
        result = {name: means(item[order].reshape(len(table), -1), counts) for name, item in columns.items()}
        levels = {name: item.mean(axis=1) for name, item in result.items()}
        return levels | {name: reducer.of(table, counts) for name, reducer in reducers.items()}

    figures = {name: float(value[0]) for name, value in measure(np.ones((1, len(table)))).items()}
    parts = [measure(counts) for counts in resamples(len(table), seed, count)]
    values = {name: np.concatenate([part[name] for part in parts]) for name in figures}
    shifted = {
        name: values[name] + figures[name] - values[name].mean() for name, item in reducers.items() if item.biased
    }
    sorted_shares = {name: item.take(order) for name, item in (shares or {}).items()}
    return Bootstrap(figures, values | shifted, sorted_shares)


def interval(values: Values, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of bootstrapped values (R,) without NaN; NaN if none is left."""
    finite = values[~np.isnan(values)]
    if not finite.size:
        return np.nan, np.nan
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
