"""Calibration: reliability by bins of confidence, expected calibration error (ECE)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eval.stats.bootstrap import Counts, Reducer, Share, Values, sums

BINS = 15  # as Guo et al. (ICML 2017)


def equal_width(confidence: Values, bins: int = BINS) -> Values:
    """Return the edges (bins + 1,) of bins of equal width in [0, 1] (Guo et al. 2017)."""
    return np.linspace(0, 1, bins + 1)


def equal_mass(confidence: Values, bins: int = BINS) -> Values:
    """Return the edges (bins + 1,) of bins with equal numbers of images (Nguyen & O'Connor, EMNLP 2015).

    Images of equal confidence are in the same bin.
    """
    return np.quantile(confidence, np.linspace(0, 1, bins + 1), method="inverted_cdf")


def binned(confidence: Values, edges: Values) -> NDArray[np.int64]:
    """Return the bin (from 0) of each confidence (n,); a bin includes its upper edge but not its lower one."""
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, len(edges) - 2)


def right(table: pd.DataFrame) -> Values:
    """Return 1 where the prediction is the label, else 0, (n,)."""
    return np.asarray(table["prediction"] == table["label"], np.float64)


def reliability(table: pd.DataFrame, edges: Values) -> pd.DataFrame:
    """Return a row per bin: edges, number of images, mean confidence and accuracy in percent (NaN if it is empty)."""
    confidence = table["confidence"].to_numpy(np.float64)
    bins, once = binned(confidence, edges), np.ones((1, len(table)))
    images = sums(np.ones(len(table)), bins, once, len(edges) - 1)[0]
    result = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "images": images.astype(np.int64)})
    for name, values in (("confidence", confidence), ("accuracy", right(table))):
        total = sums(values, bins, once, len(edges) - 1)[0]
        result[name] = 100 * np.divide(total, images, out=np.full_like(total, np.nan), where=images > 0)
    return result


def calibration_error(table: pd.DataFrame, edges: Values, counts: Counts) -> Values:
    """Return the ECE (R,) of each resample in percent: the mean over images of their bin's |accuracy - confidence|."""
    confidence = table["confidence"].to_numpy(np.float64)
    gaps = sums(right(table) - confidence, binned(confidence, edges), counts, len(edges) - 1)
    return np.asarray(100 * np.abs(gaps).sum(axis=1) / counts.sum(axis=1))


def ece(table: pd.DataFrame, counts: Counts) -> Values:
    """Return the ECE (R,) of each resample in percent, with 15 bins of equal width."""
    return calibration_error(table, equal_width(table["confidence"].to_numpy(np.float64)), counts)


def widened(error: float, ends: tuple[float, float], accuracy: Share) -> tuple[float, float]:
    """Return the interval of an ECE in percent, at least as wide as the accuracy's if few images are right or wrong.

    The ECE changes by at most as much as the accuracy, and by exactly as much if all images are in one bin.
    """
    exact = accuracy.interval()
    if exact is None:
        return ends
    reach = max(100 * accuracy.share - exact[0], exact[1] - 100 * accuracy.share)
    return min(ends[0], max(error - reach, 0.0)), max(ends[1], min(error + reach, 100.0))


# Random variation of a bin's accuracy counts as miscalibration, so the ECE of n images is above that of more images,
# and the ECE of a resample above that of its table. The interval is for the ECE of this number of images.
ECE = Reducer(ece, biased=True)
