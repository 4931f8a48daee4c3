"""Paired differences of two tables of the same images: intervals, tests, and which are significant."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dctkd_zoo.errors import ZooError
from eval import columns
from eval.stats.bootstrap import LEVEL, Bootstrap, Values, interval

NAMED = 3  # images that an error names; more are counted


@dataclass(frozen=True)
class Difference:
    """A metric of two entries and the difference b - a with its interval and test.

    `p` is uncorrected, `holm` is corrected for all comparisons made in the same `family` of tests (`corrected`). The
    difference is `significant` if its interval excludes 0 and `holm` is below 1 - the interval's level.
    """

    figure: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    holm: float
    significant: bool
    family: str


def align(a: pd.DataFrame, b: pd.DataFrame, names: tuple[str, str] = ("a", "b")) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both tables sorted by image id; `ZooError` if ids or labels are not the same."""
    tables = [table.sort_values("id", kind="stable", ignore_index=True) for table in (a, b)]
    for name, table in zip(names, tables, strict=True):
        duplicates = table["id"][table["id"].duplicated()]
        if len(duplicates):
            raise ZooError(f"{name} has images twice: {_some(duplicates)}")
    ids = [set(table["id"]) for table in tables]
    if ids[0] != ids[1]:
        only = [_some(sorted(first - second)) for first, second in (ids, ids[::-1])]
        which = "; ".join(f"only {name} has {images}" for name, images in zip(names, only, strict=True) if images)
        raise ZooError(f"{names[0]} and {names[1]} were not measured on the same images: {which}")
    differing = (tables[0]["label"] != tables[1]["label"]).to_numpy()
    if differing.any():
        rows = zip(*(table[differing]["label"] for table in tables), tables[0][differing]["id"], strict=True)
        which = _some([f"{image} ({first} and {second})" for first, second, image in rows])
        raise ZooError(f"{names[0]} and {names[1]} have different labels for the same images: {which}")
    return tables[0], tables[1]


def _some(names: Iterable[object]) -> str:
    """Return `x, y, z and 4 more`."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - NAMED:,} more" if len(texts) > NAMED else ""
    return ", ".join(texts[:NAMED]) + more


def mcnemar(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """Return the p of McNemar's exact test (Psychometrika 1947) of the top-1 of two aligned tables.

    It is the two-sided binomial p of the images that only one of the two gets right; 1 if there are none.
    """
    from scipy.stats import binomtest  # takes half a second to import

    right_a, right_b = (table["prediction"].to_numpy() == table["label"].to_numpy() for table in (a, b))
    only_a, differing = int((right_a & ~right_b).sum()), int((right_a != right_b).sum())
    return float(binomtest(only_a, differing).pvalue) if differing else 1.0


def bootstrap_p(differences: Values) -> float:
    """Return the two-sided p of a difference being 0, from its bootstrapped values (R,); at least `least_p(R)`.

    It is below 0.05 if the 95 % percentile interval excludes 0 (Efron & Tibshirani 1993, ch. 15).
    """
    finite = differences[~np.isnan(differences)]
    if not finite.size:
        return math.nan
    beyond = min(int((finite <= 0).sum()), int((finite >= 0).sum()))
    return min(1.0, (1 + beyond) * least_p(len(finite)))


def least_p(resamples: int) -> float:
    """Return the smallest p that resampling can give: that of a difference with the same sign in every resample."""
    return 2 / (resamples + 1)


def difference(figure: str, a: Bootstrap, b: Bootstrap, p: float | None = None) -> Difference:
    """Return the paired difference of a metric of two tables of the same images, bootstrapped with the same seed.

    `p` is the result of a test that suits the metric better than `bootstrap_p`. The interval is the percentile
    interval of the resamples, or Tango's if the two differ on too few images (`Share.difference`).
    """
    values = b.values[figure] - a.values[figure]
    uncorrected = bootstrap_p(values) if p is None else p
    exact = a.shares[figure].difference(b.shares[figure]) if figure in a.shares else None
    low, high = exact or interval(values)
    first, second = a.figures[figure], b.figures[figure]
    family = columns.get(figure).family
    one = Difference(figure, first, second, second - first, low, high, uncorrected, uncorrected, False, family)
    return corrected([one])[0]


def holm(ps: Sequence[float]) -> list[float]:
    """Return p values corrected for multiple comparisons (Holm, Scand. J. Stat. 1979); NaN is not a comparison."""
    order = sorted((index for index, p in enumerate(ps) if not math.isnan(p)), key=lambda index: ps[index])
    result, highest = [math.nan] * len(ps), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * ps[index]))
        result[index] = highest
    return result


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """Return the differences with `holm` and `significant` corrected for all of the same family."""
    families = dict.fromkeys(item.family for item in differences)
    ps = {family: iter(holm([item.p for item in differences if item.family == family])) for family in families}
    return [_with_p(item, next(ps[item.family])) for item in differences]


def _with_p(item: Difference, p: float) -> Difference:
    """Return a difference with its corrected p."""
    return replace(item, holm=p, significant=(item.low > 0 or item.high < 0) and p < 1 - LEVEL)
