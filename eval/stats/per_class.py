"""Metrics by class: accuracy of each class, confusions, accuracy by class frequency, mean class accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eval.stats.bootstrap import Counts, Reducer, Share, Values, sums, wilson


@dataclass(frozen=True)
class Confused:
    """A confused pair of classes: number of images of `truth` predicted as `prediction`, and their share in percent."""

    truth: str
    prediction: str
    images: int
    share: float


@dataclass(frozen=True)
class Band:
    """Top-1 in percent of the classes with `fewest` to `most` training images each, with its 95 % interval.

    `images` is the number of test images; if it is 0, top-1 and interval are NaN.
    """

    fewest: int
    most: int
    classes: int
    images: int
    top1: float
    low: float
    high: float


def confusion(table: pd.DataFrame, num_classes: int) -> NDArray[np.int64]:
    """Return the confusion matrix (K, K): images by true class (rows) and predicted class (columns)."""
    label, prediction = (table[name].to_numpy(np.int64) for name in ("label", "prediction"))
    return np.bincount(label * num_classes + prediction, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return a row per class: name, images, number of right ones, top-1 in percent and its 95 % interval (Wilson).

    The accuracy of a class without test images is NaN.
    """
    label, prediction = (table[name].to_numpy(np.int64) for name in ("label", "prediction"))
    images, right = (np.bincount(each, minlength=len(classes)) for each in (label, label[label == prediction]))
    shares = [_percent(r, n) for r, n in zip(right.tolist(), images.tolist(), strict=True)]
    result = pd.DataFrame({"class": list(classes), "images": images, "right": right})
    result[["top1", "low", "high"]] = np.array(shares)
    return result


def _percent(right: int, images: int) -> tuple[float, float, float]:
    """Return a share in percent and its interval, NaN if there are no images."""
    share = right / images if images else np.nan
    low, high = wilson(share, images)
    return 100 * share, 100 * low, 100 * high


def worst_pairs(table: pd.DataFrame, classes: Sequence[str], count: int = 10) -> tuple[Confused, ...]:
    """Return the most often confused pairs of classes, sorted by number of images, then in the order of classes.

    Only pairs that occur take memory, not all K x K.
    """
    label, prediction = (table[name].to_numpy(np.int64) for name in ("label", "prediction"))
    codes, numbers = np.unique((label * len(classes) + prediction)[label != prediction], return_counts=True)
    result = []
    for index in np.argsort(-numbers, kind="stable")[:count]:
        true, predicted = divmod(int(codes[index]), len(classes))
        share = 100 * float(numbers[index] / (label == true).sum())
        result.append(Confused(classes[true], classes[predicted], int(numbers[index]), share))
    return tuple(result)


def by_frequency(table: pd.DataFrame, training: NDArray[np.int64]) -> tuple[Band, ...]:
    """Return top-1 of three bands of classes, by their number of `training` images (K,), the rarest third first.

    Classes with equal numbers are in the same band, so a balanced training set has a single band.
    """
    edges = np.quantile(training, (1 / 3, 2 / 3), method="inverted_cdf")
    band = np.searchsorted(edges, training, side="left")
    label = table["label"].to_numpy(np.int64)
    right = table["prediction"].to_numpy(np.int64) == label
    result = []
    for item in np.unique(band):
        members, chosen = training[band == item], band[label] == item
        images = int(chosen.sum())
        share = _percent(int(right[chosen].sum()), images)
        result.append(Band(int(members.min()), int(members.max()), len(members), images, *share))
    return tuple(result)


def mean_class_accuracy(table: pd.DataFrame, counts: Counts) -> Values:
    """Return the MCA (R,) of each resample in percent, over the classes that it has images of."""
    present, label = np.unique(table["label"].to_numpy(), return_inverse=True)
    right = np.asarray(table["prediction"] == table["label"], np.float64)
    images = sums(np.ones(len(table)), label, counts, len(present))
    share = np.divide(sums(right, label, counts, len(present)), images, out=np.zeros_like(images), where=images > 0)
    return np.asarray(100 * share.sum(axis=1) / (images > 0).sum(axis=1))


def accuracy(table: pd.DataFrame) -> Share:
    """Return top-1 as a share of the images."""
    right = np.asarray(table["prediction"] == table["label"], np.float64)
    return Share(right, np.full(len(table), 1 / len(table)))


def share(table: pd.DataFrame) -> Share:
    """Return MCA as a weighted share of the images; an image's weight is inverse to the size of its class."""
    _, label, images = np.unique(table["label"].to_numpy(), return_inverse=True, return_counts=True)
    return replace(accuracy(table), weights=1 / (len(images) * images[label]))


# If many classes have only one or two images, the interval is too narrow, because these do not show their own spread:
# with 1,055 classes and 2,000 images, as in ADE20K, simulated 95 % intervals cover the truth in 80 % of the cases.
MCA = Reducer(mean_class_accuracy, share=share)
