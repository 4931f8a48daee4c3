"""Baseline, student and teacher to the share of the gap between the first and the last that the student closes."""

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
    """The share of a gap that is closed, with its 95 % interval: 0 for the baseline's figure, 1 for the teacher's.

    It may lie beyond either. The interval is NaN where it is not shown that there is any gap to close.
    """

    share: float
    low: float
    high: float


def gap_closed(baseline: float, student: float, teacher: float) -> float:
    """(student - baseline) / (teacher - baseline); NaN where teacher and baseline are equal."""
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
    """The share closed of the gap in a figure, from three tables of the same images; `ZooError` where they are not."""
    align(baseline, student, ("the baseline", "the student"))
    align(baseline, teacher, ("the baseline", "the teacher"))
    sides = [bootstrapped(table, frozenset({figure}), seed, count) for table in (baseline, student, teacher)]
    share = gap_closed(*(side.figures[figure] for side in sides))
    low, middle, high = (side.values[figure] for side in sides)
    least, most = interval(high - low)
    if not (least > 0 or most < 0):  # a share of what may be nothing has no bounds (Fieller 1954)
        return Gap(share, math.nan, math.nan)
    ends = [*_interval(middle - low, high - low)]
    base, ours, theirs = (side.shares[figure] for side in sides)
    nearest = least if least > 0 else most
    for start, other in ((0.0, base), (1.0, theirs)):
        alike = other.difference(ours)  # so few images apart that resamples say too little of how far
        ends += [start + end / nearest for end in alike or ()]
    return Gap(share, min(ends), max(ends))


def _interval(closed: Values, gap: Values) -> tuple[float, float]:
    return interval(np.divide(closed, gap, out=np.full_like(gap, np.nan), where=gap != 0))
