"""A per-image table to every figure of it, bootstrapped: metrics per image, per level, and those that are no mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from dctkd_zoo import discover
from eval import metrics
from eval.metrics import _base
from eval.stats import calibration, per_class, skill
from eval.stats.bootstrap import RESAMPLES, Bootstrap, Reducer, Share, Values, bootstrap

FULL = 100.0  # percent

# Of the metrics that are no mean over images, those whose resamples are computed all at once.
REDUCERS: Mapping[str, Reducer] = {"mca": per_class.MCA, "ece": calibration.ECE}


def per_image(table: pd.DataFrame) -> dict[str, Values]:
    """The columns of metrics by figure: `top1` (n,), `ssim` (n, L) for all its levels, `ssim.1` (n,) for each.

    A column belongs to the metric `eval/metrics/<name>.py` that it is called by, before the dot, or is a score
    that has a level of chance.
    """
    known = {*discover.modules(metrics.__name__), *skill.scored(table)}
    levels: dict[str, list[str]] = {}
    for column in map(str, table.columns):
        metric = column.partition(".")[0]
        if metric in known:
            levels.setdefault(metric, []).append(column)
    result: dict[str, Values] = {}
    for metric, names in levels.items():
        result[metric] = table[names].to_numpy()
        result |= {name: table[name].to_numpy() for name in names}
    return result


def shares(table: pd.DataFrame, figures: Iterable[str]) -> dict[str, Share]:
    """Those of some figures that are shares of the images of a table."""
    names = [name for name in figures if name in discover.modules(metrics.__name__) and name in table]
    said = [item.name for item in _base.load(names) if isinstance(item, _base.ImageMetric) and item.share]
    even = np.full(len(table), 1 / len(table))
    result = {name: Share(table[name].to_numpy(np.float64) / FULL, even) for name in said}
    return result | ({"mca": per_class.share(table)} if "mca" in figures else {})


def bootstrapped(
    table: pd.DataFrame, figures: frozenset[str] | None = None, seed: int = 0, count: int = RESAMPLES
) -> Bootstrap:
    """Every figure of a table, or the `figures` asked for, in `count` resamples of its images."""
    columns = {name: item for name, item in per_image(table).items() if figures is None or name in figures}
    known = {**REDUCERS, **skill.reducers(table)}
    reducers = {name: item for name, item in known.items() if figures is None or name in figures}
    return bootstrap(table, columns, reducers, seed, count, shares(table, [*columns, *reducers]))


def intervals(table: pd.DataFrame, seed: int = 0, count: int = RESAMPLES) -> dict[str, tuple[float, float]]:
    """The 95 % interval of every figure of a table, over its images."""
    result = bootstrapped(table, None, seed, count)
    ends = {name: result.interval(name) for name in result.figures}
    return ends | {"ece": calibration.widened(result.figures["ece"], ends["ece"], per_class.accuracy(table))}
