"""A table with one row per image to figures, under one of two protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from eval.metrics import _base
from eval.metrics._base import ImageMetric, TableMetric
from eval.stats import skill

LOADER_BATCH = 256  # images that the released evaluation loads at a time

Mean = Callable[[pd.DataFrame, ImageMetric, str], float]


@dataclass(frozen=True)
class Protocol:
    """Which metrics are taken, and how a column of the per-image table becomes one figure."""

    metrics: tuple[str, ...]
    mean: Mean


def mean_of_images(table: pd.DataFrame, chosen: ImageMetric, column: str) -> float:
    """The mean over the images."""
    return float(table[column].astype(float).mean(skipna=False))


def mean_of_batches(table: pd.DataFrame, chosen: ImageMetric, column: str) -> float:
    """The mean over loader batches of their means, as released (docs/method.md, D-4, D-9).

    The release weighs each batch by the loader's size, the last and smaller one too, which makes all
    weights equal. Of what compares with the teacher, only images that the teacher gets right count;
    a batch without any is NaN, and so is then the figure.
    """
    values = table[column].astype(float)
    if chosen.needs_teacher:
        values = values.where(table["teacher_prediction"] == table["label"])
    batches = np.arange(len(table)) // LOADER_BATCH
    return float(values.groupby(batches).mean().mean(skipna=False))


PROTOCOLS: Mapping[str, Protocol] = {
    "exact": Protocol(
        ("top1", "top5", "mca", "nll", "ece", "agreement", "ssim", "pearson", "iou", "spectral"),
        mean_of_images,
    ),
    # What the release measures: nothing else of it can be compared.
    "released": Protocol(("top1", "top5", "mca_all", "nll", "ssim_zeropad"), mean_of_batches),
}


def image_metrics(protocol: str, teacher: bool) -> tuple[ImageMetric, ...]:
    """The metrics of a protocol that have columns in the per-image table; `teacher`: whether there is one."""
    chosen = _base.load(PROTOCOLS[protocol].metrics)
    return tuple(m for m in chosen if isinstance(m, ImageMetric) and (teacher or not m.needs_teacher))


def figures(
    table: pd.DataFrame, protocol: str, num_classes: int, together: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Every figure of a protocol that the table has columns for, and those of all images `together`.

    One per level also as its mean over the levels; one with a level of chance also as its skill.
    """
    result: dict[str, float] = {}
    for chosen in _base.load(PROTOCOLS[protocol].metrics):
        match chosen:
            case TableMetric():
                result[chosen.name] = chosen.reduce(table, num_classes)
            case ImageMetric():
                columns = [name for name in table.columns if name.partition(".")[0] == chosen.name]
                result |= _levels({name: PROTOCOLS[protocol].mean(table, chosen, name) for name in columns})
    return result | _above_chance(table, together or {}, result) if protocol == "exact" else result


def _levels(means: Mapping[str, float]) -> dict[str, float]:
    """Figures by column, `ssim.1` and on, and first their mean, `ssim`."""
    if not means:
        return {}
    name = next(iter(means)).partition(".")[0]
    return {name: sum(means.values()) / len(means), **means}


def _above_chance(table: pd.DataFrame, together: Mapping[str, float], found: Mapping[str, float]) -> dict[str, float]:
    """Scores that no metric's file has, and of every score with a level of chance that level and the skill."""
    columns = skill.scored(table)
    scored = {name: list(table[item].astype(float).mean()) for name, item in columns.items()}
    chances = {
        name: list(table[[f"{skill.CHANCE}.{one}" for one in item]].astype(float).mean())
        for name, item in columns.items()
    }
    alike = [value for name, value in together.items() if name.startswith(f"{skill.CKA}.")]
    if alike:
        scored[skill.CKA] = alike
        chances[skill.CKA] = [value for name, value in together.items() if name.startswith(skill.CHANCE)]
    new: dict[str, float] = {}
    for name, values in scored.items():
        if name not in found:
            new |= _levels({f"{name}.{level}": float(value) for level, value in enumerate(values, start=1)})
    return new | skill.figures(scored, chances)
