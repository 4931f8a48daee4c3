"""Figures of an entry's training seeds to their mean and spread, and of two entries to paired differences.

The spread over seeds says what another training would give; no test is made of it, for with a few seeds
it would need Student's t, which no library that this package depends on has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import mean, stdev

from dctkd_zoo.errors import ZooError


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) over n seeds; that of one seed is NaN, not 0."""

    mean: float
    sd: float
    n: int

    def text(self, decimals: int) -> str:
        """`73.00 ± 3.61`; of one seed `73.00`."""
        around = "" if math.isnan(self.sd) else f" ± {self.sd:.{decimals}f}"
        return f"{self.mean:.{decimals}f}{around}"


@dataclass(frozen=True)
class SeedDifference:
    """The differences b - a of two entries, seed by seed, and their spread."""

    each: Mapping[int, float]
    spread: Spread


def spread(values: Iterable[float]) -> Spread:
    """Mean, standard deviation and number of some values, one per seed; at least one."""
    values = list(values)
    return Spread(mean(values), stdev(values) if len(values) > 1 else math.nan, len(values))


def difference(a: Mapping[int, float], b: Mapping[int, float]) -> SeedDifference:
    """Two entries' figures by seed to their differences, over the seeds that both have; `ZooError` for none."""
    both = sorted(a.keys() & b.keys())
    if not both:
        raise ZooError(f"no seed in common: one has {sorted(a)}, the other {sorted(b)}")
    each = {seed: b[seed] - a[seed] for seed in both}
    return SeedDifference(each, spread(each.values()))
