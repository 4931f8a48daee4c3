"""Protocols: which metrics are computed, and how a per-image table is reduced to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from eval.metrics import _base
from eval.metrics._base import ImageMetric, TableMetric
from eval.stats import skill

LOADER_BATCH = 256  # batch size of the released evaluation

Mean = Callable[[pd.DataFrame, ImageMetric, str], float]


@dataclass(frozen=True)
class Protocol:
    """A protocol, and the mean that reduces a column of the per-image table to one value.

    - `metrics_of`: the protocol whose metrics it has, if not its own.
    - `complete`: also gives intervals, chance levels and skills, which the released code does not have.
    - `annotated`: measures the images with outlines of objects instead of the test set.
    """

    name: str
    mean: Mean
    metrics_of: str = ""
    complete: bool = True
    annotated: bool = False

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of its metrics."""
        return _base.of_protocol(self.metrics_of or self.name)


def mean_of_images(table: pd.DataFrame, chosen: ImageMetric, column: str) -> float:
    """Return the mean over the images."""
    return float(table[column].astype(float).mean(skipna=False))


def mean_of_batches(table: pd.DataFrame, chosen: ImageMetric, column: str) -> float:
    """Return the mean over loader batches of their means, as released (docs/method.md, D-4, D-9).

    The release weights every batch by the loader's batch size, the smaller last one too, so all weights are equal.
    Metrics that compare with the teacher use only images that the teacher gets right; a batch without any is NaN,
    and so is then the result.
    """
    values = table[column].astype(float)
    if chosen.needs_teacher:
        values = values.where(table["teacher_prediction"] == table["label"])
    batches = np.arange(len(table)) // LOADER_BATCH
    return float(values.groupby(batches).mean().mean(skipna=False))


# What the release does not measure is not in its protocol, because nothing else can be compared with it.
PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("exact", mean_of_images),
        Protocol("released", mean_of_batches, complete=False),
        Protocol("objects", mean_of_images, metrics_of="exact", annotated=True),
    )
}


def image_metrics(protocol: str, teacher: bool, class_maps: bool = False) -> tuple[ImageMetric, ...]:
    """Return the metrics of a protocol that are columns of the per-image table.

    `teacher`: whether there is one; `class_maps`: whether the outputs of both networks have them.
    """
    chosen = (metric for metric in _base.load(PROTOCOLS[protocol].metrics) if isinstance(metric, ImageMetric))
    return tuple(
        metric
        for metric in chosen
        if (teacher or not metric.needs_teacher) and (class_maps or not metric.needs_class_maps)
    )


def figures(
    table: pd.DataFrame, protocol: str, num_classes: int, together: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return every metric of a protocol that the table has columns for, and those of all images `together`.

    A metric with levels is also given as its mean over the levels, one with a chance level also as its skill.
    """
    result: dict[str, float] = {}
    for chosen in _base.load(PROTOCOLS[protocol].metrics):
        match chosen:
            case TableMetric() if chosen.fits(table):
                result[chosen.name] = chosen.reduce(table, num_classes)
            case ImageMetric():
                columns = [name for name in table.columns if name.partition(".")[0] == chosen.name]
                result |= _levels({name: PROTOCOLS[protocol].mean(table, chosen, name) for name in columns})
    return result | _above_chance(table, together or {}, result) if PROTOCOLS[protocol].complete else result


def _levels(means: Mapping[str, float]) -> dict[str, float]:
    """Return the mean over the levels (`ssim`), followed by the levels (`ssim.1`, `ssim.2`, ...)."""
    if not means:
        return {}
    name = next(iter(means)).partition(".")[0]
    return {name: sum(means.values()) / len(means), **means}


def _above_chance(table: pd.DataFrame, together: Mapping[str, float], known: Mapping[str, float]) -> dict[str, float]:
    """Return the scores without a metric's file, and the chance level and skill of every score that has one."""
    columns = skill.scored(table)
    scored = {name: list(table[item].astype(float).mean()) for name, item in columns.items()}
    chances = {
        name: list(table[[f"{skill.CHANCE}.{one}" for one in item]].astype(float).mean())
        for name, item in columns.items()
    }
    cka = [value for name, value in together.items() if name.startswith(f"{skill.CKA}.")]
    if cka:
        scored[skill.CKA] = cka
        chances[skill.CKA] = [value for name, value in together.items() if name.startswith(skill.CHANCE)]
    new: dict[str, float] = {}
    for name, values in scored.items():
        if name not in known:
            new |= _levels({f"{name}.{level}": float(value) for level, value in enumerate(values, start=1)})
    if skill.IN_VIEW in table:
        new[skill.IN_VIEW] = skill.in_view(table)
    return new | skill.figures(table, scored, chances)
