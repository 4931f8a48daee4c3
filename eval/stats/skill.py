"""How much of a score is more than chance: columns of a per-image table beside their chance level.

Attention maps of scenes have much in common, an empty border first of all, so that a student's map is
like any teacher's. What an alignment is worth is told by the same score of maps that do not belong
together: the student's of one image, the teacher's of another.
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
from eval.metrics import _base, _objects
from eval.metrics._base import LevelMetric
from eval.stats.bootstrap import Counts, Reducer, Values, means

CHANCE, SKILL = "chance", "skill"

TEACHER = "teacher_"  # how the scores of the teacher's own maps begin
CKA = "cka"  # of all images together, so that it has no column


def others(ids: Tensor, seed: int = 0) -> Tensor:
    """Each image's partner for chance: the ids (N,), none in its own place, drawn by a seed; NaN-free for N >= 2.

    The images stand in a random ring, and each is compared with the next.
    """
    ring = torch.randperm(len(ids), generator=torch.Generator().manual_seed(derive_seed(seed, "chance")))
    partner = torch.empty_like(ids)
    partner[ring] = ids[ring.roll(-1)]
    return partner


def score_of(figure: str) -> str:
    """Return the name of the score or metric that a figure is of: `skill.ssim.2` -> `ssim`."""
    return re.sub(rf"^({CHANCE}|{SKILL})\.", "", figure).partition(".")[0]


def is_measured(figure: str) -> bool:
    """Return whether this version measures a figure; rows that an earlier version wrote may hold others."""
    score = score_of(figure)
    objects = score.removeprefix(TEACHER) in _objects.SCORES
    return objects or score == CKA or score in discover.modules(metrics.__name__)


@cache
def best(name: str) -> float:
    """What a score is at its best: for equal maps or features, or with all of a map on the objects."""
    score = _objects.SCORES.get(name.removeprefix(TEACHER))
    if score:
        return score.best
    if name == CKA:
        return 1.0
    (result,) = _base.load([name])
    assert isinstance(result, LevelMetric)
    return result.best


def skill(value: Values | float, chance: Values | float, best: float) -> Values:
    """The share of the way from chance to the best: 1 at the best, 0 at chance, NaN where chance is the best."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = (np.asarray(value) - chance) / (best - np.asarray(chance))
    return np.where(np.asarray(chance) == best, np.nan, shares)


def scored(table: pd.DataFrame) -> dict[str, list[str]]:
    """The scores of a table that have a chance level, each with its columns by level: `ssim` -> `ssim.1`, ..."""
    result: dict[str, list[str]] = {}
    for column in map(str, table.columns):
        if column.startswith(f"{CHANCE}."):
            name = column.removeprefix(f"{CHANCE}.")
            result.setdefault(name.partition(".")[0], []).append(name)
    return result


def figures(levels: Mapping[str, Sequence[float]], chances: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Scores by name and level, and their chance levels, to figures.

    `chance.NAME` is the mean over the levels; `skill.NAME.1` and on are of each level, `skill.NAME` is their mean,
    over the levels that have one.
    """
    result: dict[str, float] = {}
    for name, values in levels.items():
        item = skill(np.array(values), np.array(chances[name]), best(name))
        result[f"{CHANCE}.{name}"] = float(np.mean(chances[name]))
        result[f"{SKILL}.{name}"] = float(_means(item))
        result |= {f"{SKILL}.{name}.{level}": float(value) for level, value in enumerate(item, start=1)}
    return result


def reducers(table: pd.DataFrame) -> dict[str, Reducer]:
    """The skills of a table, each level's and their mean, to be bootstrapped."""
    result: dict[str, Reducer] = {}
    for name, columns in scored(table).items():
        result[f"{SKILL}.{name}"] = Reducer(partial(_resampled, columns, best(name)))
        result |= {f"{SKILL}.{column}": Reducer(partial(_resampled, [column], best(name))) for column in columns}
    return result


def _resampled(columns: list[str], best: float, table: pd.DataFrame, counts: Counts) -> Values:
    """The mean skill of some columns in each resample, (R,)."""
    value, chance = (
        means(table[[f"{prefix}{column}" for column in columns]].to_numpy(np.float64), counts)
        for prefix in ("", f"{CHANCE}.")
    )
    return _means(skill(value, chance, best))


def _means(values: Values) -> Values:
    """Means over the last axis of what is known, (R, L) -> (R,); NaN where nothing is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(axis=-1) / known.sum(axis=-1))
