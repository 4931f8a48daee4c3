"""Figures to 95 % intervals in closed form."""

from __future__ import annotations

import math
from statistics import NormalDist

LEVEL = 0.95  # of every interval of this project


def wilson(share: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a share in [0, 1] of `n` independent trials (Wilson, JASA 1927); NaN where `n` is 0."""
    if n == 0:
        return math.nan, math.nan
    z = NormalDist().inv_cdf(0.5 + level / 2)
    middle = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = ((middle + side * reach) / (1 + z * z / n) for side in (-1, 1))
    return max(low, 0.0), min(high, 1.0)
