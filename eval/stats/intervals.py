"""Bootstrap of all metrics of a per-image table: means over images, metrics by level, and those that are not means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from dctkd_zoo import discover
from eval import metrics
from eval.metrics import _base
from eval.stats import calibration, fidelity, per_class, skill
from eval.stats.bootstrap import RESAMPLES, Bootstrap, Reducer, Share, Values, bootstrap

FULL = 100.0  # percent

# Metrics that are not means over images, computed for all resamples at once.
REDUCERS: Mapping[str, Reducer] = {
    "mca": per_class.MCA,
    "ece": calibration.ECE,
    "agreement_wrong": fidelity.AGREEMENT_WRONG,
}


def reducers(table: pd.DataFrame) -> dict[str, Reducer]:
    """Return the reducers of a table's metrics that are not means over images, and of its skills."""
    chosen = (item for item in _base.load(REDUCERS) if isinstance(item, _base.TableMetric) and item.fits(table))
    return {item.name: REDUCERS[item.name] for item in chosen} | skill.reducers(table)


def per_image(table: pd.DataFrame) -> dict[str, Values]:
    """Return a table's metrics by name: `top1` (n,), `ssim` (n, L) for all levels, `ssim.1` (n,) for each level.

    The name of a column up to the dot is that of a metric `eval/metrics/<name>.py` or of a score with a chance level.
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
    """Return those of some metrics that are shares of the images of a table."""
    names = [name for name in figures if name in discover.modules(metrics.__name__) and name in table]
    chosen = [item.name for item in _base.load(names) if isinstance(item, _base.ImageMetric) and item.share]
    equal = np.full(len(table), 1 / len(table))
    result = {name: Share(table[name].to_numpy(np.float64) / FULL, equal) for name in chosen}
    weighted = {name: of(table) for name in figures if name in REDUCERS and (of := REDUCERS[name].share)}
    return result | {name: item for name, item in weighted.items() if item}


def bootstrapped(
    table: pd.DataFrame, figures: frozenset[str] | None = None, seed: int = 0, count: int = RESAMPLES
) -> Bootstrap:
    """Bootstrap all metrics of a table, or only `figures`, in `count` resamples of its images."""
    columns = {name: item for name, item in per_image(table).items() if figures is None or name in figures}
    chosen = {name: item for name, item in reducers(table).items() if figures is None or name in figures}
    return bootstrap(table, columns, chosen, seed, count, shares(table, [*columns, *chosen]))


def intervals(table: pd.DataFrame, seed: int = 0, count: int = RESAMPLES) -> dict[str, tuple[float, float]]:
    """Return the 95 % intervals over images of all metrics of a table."""
    result = bootstrapped(table, None, seed, count)
    ends = {name: result.interval(name) for name in result.figures}
    return ends | {"ece": calibration.widened(result.figures["ece"], ends["ece"], per_class.accuracy(table))}
