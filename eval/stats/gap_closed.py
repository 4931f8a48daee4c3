"""Gap closed: the share of the gap between baseline and teacher that a student closes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from eval.stats.bootstrap import RESAMPLES, Values, interval
from eval.stats.intervals import bootstrapped
from eval.stats.paired import align


@dataclass(frozen=True)
class Gap:
    """The share of the gap that is closed, with its 95 % interval: 0 at the baseline's value, 1 at the teacher's.

    It can be below 0 or above 1. The interval is NaN if teacher and baseline do not differ significantly.
    """

    share: float
    low: float
    high: float


def gap_closed(baseline: float, student: float, teacher: float) -> float:
    """Return (student - baseline) / (teacher - baseline); NaN if teacher and baseline are equal."""
    gap = teacher - baseline
    return (student - baseline) / gap if gap else math.nan


def bootstrapped_gap(
    baseline: pd.DataFrame,
    student: pd.DataFrame,
    teacher: pd.DataFrame,
    figure: str = "top1",
    seed: int = 0,
    count: int = RESAMPLES,
) -> Gap:
    """Return the gap closed in a metric, from three tables of the same images; `ZooError` if they are not."""
    align(baseline, student, ("the baseline", "the student"))
    align(baseline, teacher, ("the baseline", "the teacher"))
    sides = [bootstrapped(table, frozenset({figure}), seed, count) for table in (baseline, student, teacher)]
    share = gap_closed(*(side.figures[figure] for side in sides))
    low, middle, high = (side.values[figure] for side in sides)
    least, most = interval(high - low)
    if not (least > 0 or most < 0):  # a ratio whose denominator may be 0 is unbounded (Fieller 1954)
        return Gap(share, math.nan, math.nan)
    ends = [*_interval(middle - low, high - low)]
    base, student_share, teacher_share = (side.shares[figure] for side in sides)
    nearest = least if least > 0 else most
    for start, other in ((0.0, base), (1.0, teacher_share)):
        exact = other.difference(student_share)  # None unless they differ on too few images for resampling
        ends += [start + end / nearest for end in exact or ()]
    return Gap(share, min(ends), max(ends))


def _interval(closed: Values, gap: Values) -> tuple[float, float]:
    return interval(np.divide(closed, gap, out=np.full_like(gap, np.nan), where=gap != 0))
