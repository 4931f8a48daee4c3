"""Shares of images to 95 % intervals: of one network, and of the difference of two on the same images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95  # of every interval of this project
TINY = 1e-12
FEW = 5  # images: with fewer right, or fewer wrong, resamples do not say what other images would give


def _z(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(share: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a share in [0, 1] of `n` independent trials (Wilson, JASA 1927); NaN where `n` is 0."""
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

    z, found = _z(level), (only_b - only_a) / n

    def score(difference: float) -> float:
        """How many standard errors the found difference lies above another, under which `a` is the likeliest."""
        b = (2 * n - only_b + only_a) * difference - only_b - only_a
        a = (math.sqrt(max(b * b + 8 * n * only_a * difference * (1 - difference), 0.0)) - b) / (4 * n)
        return (found - difference) / math.sqrt(max(2 * a + difference * (1 - difference), TINY) / n)

    low, high = (
        end if abs(found - end) < TINY else brentq(lambda d, side=side: score(d) + side * z, end - side * TINY, found)
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
