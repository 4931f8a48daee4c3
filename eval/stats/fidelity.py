"""Agreement of student and teacher on the images that the teacher gets wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eval.stats.bootstrap import Counts, Reducer, Share, Values, means


def agrees(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return 1 where student and teacher predict the same class, else 0, (n,)."""
    return np.asarray(table["prediction"] == table["teacher_prediction"], np.float64)


def teacher_wrong(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which images (n,) the teacher gets wrong."""
    return np.asarray(table["teacher_prediction"] != table["label"])


def agreement_wrong(table: pd.DataFrame, counts: Counts) -> Values:
    """Return the agreement (R,) of each resample in percent; NaN where the teacher is never wrong."""
    chosen = np.where(teacher_wrong(table), 100 * agrees(table), np.nan)
    return means(chosen[:, None], counts)[:, 0]


def share(table: pd.DataFrame) -> Share | None:
    """Return the agreement as a share of the images that the teacher gets wrong; None if it is never wrong."""
    wrong = teacher_wrong(table)
    return Share(agrees(table), wrong / wrong.sum()) if wrong.any() else None


AGREEMENT_WRONG = Reducer(agreement_wrong, share=share)
