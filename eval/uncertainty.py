"""A per-image table to every figure of it, bootstrapped: metrics per image, per level, and those that are no mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from dctkd_zoo import discover
from eval import calibration, classes, metric, metrics, skill
from eval.bootstrap import RESAMPLES, Bootstrap, Reducer, Values, bootstrap
from eval.intervals import Share

FULL = 100.0  # percent

# Of the metrics that are no mean over images, those whose resamples are computed all at once.
REDUCERS: Mapping[str, Reducer] = {"mca": classes.MCA, "ece": calibration.ECE}


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
    found: dict[str, Values] = {}
    for metric, names in levels.items():
        found[metric] = table[names].to_numpy()
        found |= {name: table[name].to_numpy() for name in names}
    return found


def shares(table: pd.DataFrame, figures: Iterable[str]) -> dict[str, Share]:
    """Those of some figures that are shares of the images of a table."""
    names = [name for name in figures if name in discover.modules(metrics.__name__) and name in table]
    said = [each.name for each in metric.load(names) if isinstance(each, metric.ImageMetric) and each.share]
    even = np.full(len(table), 1 / len(table))
    found = {name: Share(table[name].to_numpy(np.float64) / FULL, even) for name in said}
    return found | ({"mca": classes.share(table)} if "mca" in figures else {})


def bootstrapped(
    table: pd.DataFrame, figures: frozenset[str] | None = None, seed: int = 0, count: int = RESAMPLES
) -> Bootstrap:
    """Every figure of a table, or the `figures` asked for, in `count` resamples of its images."""
    columns = {name: each for name, each in per_image(table).items() if figures is None or name in figures}
    known = {**REDUCERS, **skill.reducers(table)}
    reducers = {name: each for name, each in known.items() if figures is None or name in figures}
    return bootstrap(table, columns, reducers, seed, count, shares(table, [*columns, *reducers]))


def intervals(table: pd.DataFrame, seed: int = 0, count: int = RESAMPLES) -> dict[str, tuple[float, float]]:
    """The 95 % interval of every figure of a table, over its images."""
    found = bootstrapped(table, None, seed, count)
    ends = {name: found.interval(name) for name in found.figures}
    return ends | {"ece": calibration.widened(found.figures["ece"], ends["ece"], classes.accuracy(table))}
