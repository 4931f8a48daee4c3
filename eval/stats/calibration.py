"""Confidences to how far they can be believed: reliability by bins, expected calibration error."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eval.stats.bootstrap import Counts, Reducer, Share, Values, sums

BINS = 15  # as Guo et al. (ICML 2017)


def equal_width(confidence: Values, bins: int = BINS) -> Values:
    """Edges (bins + 1,) of equally wide bins of [0, 1] (Guo et al. 2017)."""
    return np.linspace(0, 1, bins + 1)


def equal_mass(confidence: Values, bins: int = BINS) -> Values:
    """Edges (bins + 1,) of bins of equally many images (Nguyen & O'Connor, EMNLP 2015); equal ones stay together."""
    return np.quantile(confidence, np.linspace(0, 1, bins + 1), method="inverted_cdf")


def binned(confidence: Values, edges: Values) -> NDArray[np.int64]:
    """The bin 0 ... of each confidence (n,); the upper edge belongs to a bin, the lower to the one before."""
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, len(edges) - 2)


def right(table: pd.DataFrame) -> Values:
    """1 where the prediction is the label, else 0, (n,)."""
    return np.asarray(table["prediction"] == table["label"], np.float64)


def reliability(table: pd.DataFrame, edges: Values) -> pd.DataFrame:
    """A row per bin: its edges and images, their mean confidence and accuracy in percent, NaN where it is empty."""
    confidence = table["confidence"].to_numpy(np.float64)
    bins, once = binned(confidence, edges), np.ones((1, len(table)))
    images = sums(np.ones(len(table)), bins, once, len(edges) - 1)[0]
    result = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "images": images.astype(np.int64)})
    for name, values in (("confidence", confidence), ("accuracy", right(table))):
        total = sums(values, bins, once, len(edges) - 1)[0]
        result[name] = 100 * np.divide(total, images, out=np.full_like(total, np.nan), where=images > 0)
    return result


def calibration_error(table: pd.DataFrame, edges: Values, counts: Counts) -> Values:
    """ECE of each resample in percent, (R,): the mean over its images of their bin's |accuracy - confidence|."""
    confidence = table["confidence"].to_numpy(np.float64)
    gaps = sums(right(table) - confidence, binned(confidence, edges), counts, len(edges) - 1)
    return np.asarray(100 * np.abs(gaps).sum(axis=1) / counts.sum(axis=1))


def ece(table: pd.DataFrame, counts: Counts) -> Values:
    """ECE of each resample with 15 equally wide bins, in percent, (R,)."""
    return calibration_error(table, equal_width(table["confidence"].to_numpy(np.float64)), counts)


def widened(error: float, ends: tuple[float, float], accuracy: Share) -> tuple[float, float]:
    """The interval of an ECE, in percent; no narrower than the accuracy's where resamples of that say too little.

    The error moves by no more than the accuracy does, and by as much where all images are in a bin.
    """
    sure = accuracy.interval()
    if sure is None:
        return ends
    reach = max(100 * accuracy.share - sure[0], sure[1] - 100 * accuracy.share)
    return min(ends[0], max(error - reach, 0.0)), max(ends[1], min(error + reach, 100.0))


# Chance moves each bin's accuracy, and the error takes that as miscalibration: the ECE of n images lies above that
# of more images, the ECE of a resample above that of its table. The interval is one for the ECE of so many images.
ECE = Reducer(ece, biased=True)
