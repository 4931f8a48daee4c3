"""A per-image table to what its figures would have been on other images: a seeded bootstrap over images.

Every figure of a table sees the same resamples, and so does every table of the same images: they depend
on the number of images and the seed alone, and on no order of rows, for the rows are taken in the order
of their ids. The figures of two tables are then paired, resample by resample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LEVEL = 0.95  # of every interval of this project
TINY = 1e-12
FEW = 5  # images: with fewer right, or fewer wrong, resamples do not say what other images would give


def _z(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(share: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a share in [0, 1] of `n` independent trials (Wilson, JASA 1927); NaN where `n` is 0.

    scipy's `proportion_ci` counts whole trials; the number of images that MCA is as sure as is not whole (`Share.n`).
    """
    if n == 0:
        return math.nan, math.nan
    z = _z(level)
    middle = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = ((middle + side * reach) / (1 + z * z / n) for side in (-1, 1))
    return max(low, 0.0), min(high, 1.0)


def tango(only_a: float, only_b: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """The interval of share b - share a of the same `n` trials, of which `only_a` and `only_b` are right on one side.

    All differences that a score test does not reject (Tango, Stat. Med. 1998): +- z² / (n + z²) for sides that are
    right and wrong together.
    """
    from scipy.optimize import brentq

    z, result = _z(level), (only_b - only_a) / n

    def score(difference: float) -> float:
        """How many standard errors the found difference lies above another, under which `a` is the likeliest."""
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
    """A figure that is a share of images, out of `full`: which of them count, 1 or 0, and how much each, (n,).

    The weights add up to 1: those of a mean over images are alike, those of a mean over classes alike in a class.
    """

    hits: NDArray[np.float64]
    weights: NDArray[np.float64]
    full: float = 100.0

    def take(self, order: NDArray[np.int64]) -> Share:
        """The same of the images in another order."""
        return replace(self, hits=self.hits[order], weights=self.weights[order])

    @property
    def n(self) -> float:
        """Of how many images that count alike the figure would be as sure."""
        return 1 / float(np.square(self.weights).sum())

    @property
    def share(self) -> float:
        """The figure, in [0, 1]."""
        return min(1.0, float(self.hits @ self.weights))

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Wilson's interval where fewer than `FEW` images are hits, or are not; None where resamples will do."""
        if min(self.hits.sum(), (1 - self.hits).sum()) >= FEW:
            return None
        low, high = wilson(self.share, self.n, level)
        return self.full * low, self.full * high

    def difference(self, other: Share, level: float = LEVEL) -> tuple[float, float] | None:
        """Tango's interval of other - self where the two are apart on fewer than `FEW` images; None else."""
        apart = other.hits - self.hits
        if np.abs(apart).sum() >= FEW:
            return None
        only_self, only_other = (self.n * float(np.maximum(side * apart, 0) @ self.weights) for side in (-1, 1))
        low, high = tango(only_self, only_other, self.n, level)
        return self.full * low, self.full * high


RESAMPLES = 2000
CHUNK = 2**21  # counts in memory at a time: 16 MiB

Counts = NDArray[np.float64]  # (R, n): how often each of n images was drawn in each of R resamples
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Reducer:
    """A figure that is no mean over images: a table of n images and counts (R, n) to a figure per resample (R,).

    One that is `biased` grows or shrinks when images are drawn twice, as a sum of absolute values does: its
    values are then moved so that their mean is the figure of the table itself.
    """

    of: Callable[[pd.DataFrame, Counts], Values]
    biased: bool = False


@dataclass(frozen=True)
class Bootstrap:
    """Figures of a table, of each the values (R,) that its resamples have, and which are `shares` of its images."""

    figures: Mapping[str, float]
    values: Mapping[str, Values]
    shares: Mapping[str, Share] = field(default_factory=dict)

    def interval(self, figure: str, level: float = LEVEL) -> tuple[float, float]:
        """The percentile interval of a figure, or Wilson's of a share of which resamples say too little."""
        exact = self.shares[figure].interval(level) if figure in self.shares else None
        return exact or interval(self.values[figure], level)


def resamples(n: int, seed: int, count: int = RESAMPLES) -> Iterator[Counts]:
    """Counts (R, n) of `count` resamples of n images, as many at a time as fit into memory."""
    generator, step = np.random.default_rng(seed), max(1, CHUNK // n)
    for start in range(0, count, step):
        counts = np.empty((min(step, count - start), n))
        for row in counts:
            row[:] = np.bincount(generator.integers(n, size=n, dtype=np.uint32), minlength=n)
        yield counts


def means(columns: Values, counts: Counts) -> Values:
    """Columns (n, k) and counts (R, n) to means over the images drawn, (R, k).

    An image whose value is NaN counts neither above nor below the line; a mean over no image is NaN.
    """
    missing = np.isnan(columns)
    partial = missing.any(axis=0)
    totals = np.repeat(counts.sum(axis=1, keepdims=True), columns.shape[1], axis=1)
    totals[:, partial] = counts @ ~missing[:, partial]
    with np.errstate(invalid="ignore"):
        return np.asarray(counts @ np.where(missing, 0.0, columns) / totals)


def sums(values: Values, groups: NDArray[np.int64], counts: Counts, size: int) -> Values:
    """The sum of `values` (n,) over the images drawn of each group 0 ... size - 1, (R, size)."""
    return np.stack([np.bincount(groups, weights=row * values, minlength=size) for row in counts])


def bootstrap(
    table: pd.DataFrame,
    columns: Mapping[str, Values],
    reducers: Mapping[str, Reducer],
    seed: int = 0,
    count: int = RESAMPLES,
    shares: Mapping[str, Share] | None = None,
) -> Bootstrap:
    """Bootstrap the figures of a table (columns `id` and whatever the reducers read), in `count` resamples.

    `columns` are the figures that are means over images, of one number per image (n,), or of one per
    image and level (n, L), which give the mean over the levels of their means. NaN leaves an image out:
    `np.where(mask, column, np.nan)` is the figure of a subset. `shares` tells which figures are shares of images, whose
    images are put in the order of their ids too.
    """
    order = np.argsort(table["id"].to_numpy(str), kind="stable")
    table = table.iloc[order]

    def measure(counts: Counts) -> dict[str, Values]:
        # One figure at a time: all columns at once, widened, would take more than the table.
        result = {name: means(item[order].reshape(len(table), -1), counts) for name, item in columns.items()}
        levels = {name: item.mean(axis=1) for name, item in result.items()}
        return levels | {name: reducer.of(table, counts) for name, reducer in reducers.items()}

    figures = {name: float(value[0]) for name, value in measure(np.ones((1, len(table)))).items()}
    parts = [measure(counts) for counts in resamples(len(table), seed, count)]
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in figures}
    moved = {name: drawn[name] + figures[name] - drawn[name].mean() for name, item in reducers.items() if item.biased}
    kept = {name: item.take(order) for name, item in (shares or {}).items()}
    return Bootstrap(figures, drawn | moved, kept)


def interval(values: Values, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of bootstrapped values (R,), of those that are numbers; NaN where none is."""
    known = values[~np.isnan(values)]
    if not known.size:
        return np.nan, np.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
