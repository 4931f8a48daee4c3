"""Skill: scores relative to their chance level.

Attention maps of scenes have much in common, above all an empty border, so a student's map resembles the map of any
other image too. The chance level is the same score for maps of different images: the student's map of one, the
teacher's of another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache, partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dctkd_zoo import discover
from dctkd_zoo.data.loader import derive_seed
from eval import metrics
from eval.columns import CHANCE as CHANCE
from eval.columns import SKILL as SKILL
from eval.columns import TEACHER as TEACHER
from eval.metrics import _base, _objects
from eval.metrics._base import LevelMetric
from eval.stats.bootstrap import Counts, Reducer, Values, means

IN_VIEW = "objects_in_view"  # number of objects that an image shows: the best value of `attended`
CKA = "cka"  # computed from all images together, so it is not a column of the per-image table


def others(ids: Tensor, seed: int = 0) -> Tensor:
    """Return a partner (N,) for each of the ids (N,), for the chance level: another image, drawn with a seed; N >= 2.

    The images are put in a random ring, and each one's partner is the next.
    """
    ring = torch.randperm(len(ids), generator=torch.Generator().manual_seed(derive_seed(seed, "chance")))
    partner = torch.empty_like(ids)
    partner[ring] = ids[ring.roll(-1)]
    return partner


def score_of(figure: str) -> str:
    """Return the name of the score or metric in the name of a column: `skill.ssim.2` -> `ssim`."""
    return re.sub(rf"^({CHANCE}|{SKILL})\.", "", figure).partition(".")[0]


def is_measured(figure: str) -> bool:
    """Return whether this version measures a column; rows of an earlier version may have others."""
    score = score_of(figure)
    objects = score.removeprefix(TEACHER) in _objects.SCORES
    return objects or score in (CKA, IN_VIEW) or score in discover.modules(metrics.__name__)


@cache
def best(name: str, in_view: float = float(_objects.OBJECTS)) -> float:
    """Return the best value of a score: for equal maps or features, or with all of a map on the objects.

    `in_view` is the mean number of objects that an image shows.
    """
    score = _objects.SCORES.get(name.removeprefix(TEACHER))
    if score:
        return in_view if score.best is None else score.best
    if name == CKA:
        return 1.0
    (result,) = _base.load([name])
    assert isinstance(result, LevelMetric)
    return result.best


def in_view(table: pd.DataFrame) -> float:
    """Return the mean number of objects that an image of a table shows, of those that show any."""
    return float(table[IN_VIEW].mean()) if IN_VIEW in table else float(_objects.OBJECTS)


def skill(value: Values | float, chance: Values | float, best: float) -> Values:
    """Return (value - chance) / (best - chance): 0 at chance, 1 at the best, NaN where chance is the best."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = (np.asarray(value) - chance) / (best - np.asarray(chance))
    return np.where(np.asarray(chance) == best, np.nan, shares)


def scored(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return the scores of a table that have a chance level, each with its columns: `ssim` -> `ssim.1`, ..."""
    result: dict[str, list[str]] = {}
    for column in map(str, table.columns):
        if column.startswith(f"{CHANCE}."):
            name = column.removeprefix(f"{CHANCE}.")
            result.setdefault(name.partition(".")[0], []).append(name)
    return result


def figures(
    table: pd.DataFrame, levels: Mapping[str, Sequence[float]], chances: Mapping[str, Sequence[float]]
) -> dict[str, float]:
    """Return chance levels and skills of the scores of a table, both given by name and level.

    `chance.NAME` is the mean over the levels; `skill.NAME.1`, `skill.NAME.2`, ... are the skills of the levels, and
    `skill.NAME` is their mean, over the levels that have one.
    """
    result: dict[str, float] = {}
    for name, values in levels.items():
        item = skill(np.array(values), np.array(chances[name]), best(name, in_view(table)))
        result[f"{CHANCE}.{name}"] = float(np.mean(chances[name]))
        result[f"{SKILL}.{name}"] = float(_means(item))
        result |= {f"{SKILL}.{name}.{level}": float(value) for level, value in enumerate(item, start=1)}
    return result


def reducers(table: pd.DataFrame) -> dict[str, Reducer]:
    """Return reducers for the bootstrap of the skills of a table, of each level and of the mean over levels."""
    result: dict[str, Reducer] = {}
    for name, columns in scored(table).items():
        result[f"{SKILL}.{name}"] = Reducer(partial(_resampled, columns, best(name, in_view(table))))
        result |= {
            f"{SKILL}.{column}": Reducer(partial(_resampled, [column], best(name, in_view(table))))
            for column in columns
        }
    return result


def _resampled(columns: list[str], best: float, table: pd.DataFrame, counts: Counts) -> Values:
    """Return the mean skill (R,) of some columns in each resample."""
    value, chance = (
        means(table[[f"{prefix}{column}" for column in columns]].to_numpy(np.float64), counts)
        for prefix in ("", f"{CHANCE}.")
    )
    return _means(skill(value, chance, best))


def _means(values: Values) -> Values:
    """Return the means over the last axis without NaN, (R, L) -> (R,); NaN where all are NaN."""
    valid = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(valid, values, 0).sum(axis=-1) / valid.sum(axis=-1))
