"""Two tables of the same images to their differences: intervals, tests, and which differences are shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dctkd_zoo.errors import ZooError
from eval.stats.bootstrap import LEVEL, Bootstrap, Values, interval

NAMED = 3  # images that an error names; more are counted


@dataclass(frozen=True)
class Difference:
    """A figure of two entries, the difference b - a with its interval, and whether there is shown to be any.

    `p` is of this comparison alone, `holm` what is left of it among all those made (`corrected`).
    A difference is `shown` where its interval leaves out 0 and `holm` is below 1 - the interval's level.
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


def align(a: pd.DataFrame, b: pd.DataFrame, names: tuple[str, str] = ("a", "b")) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables in the order of their image ids; `ZooError` where these or the labels are not the same."""
    sides = [table.sort_values("id", kind="stable", ignore_index=True) for table in (a, b)]
    for name, table in zip(names, sides, strict=True):
        twice = table["id"][table["id"].duplicated()]
        if len(twice):
            raise ZooError(f"{name} has images twice: {_some(twice)}")
    ids = [set(table["id"]) for table in sides]
    if ids[0] != ids[1]:
        only = [_some(sorted(mine - other)) for mine, other in (ids, ids[::-1])]
        meta = "; ".join(f"only {name} has {which}" for name, which in zip(names, only, strict=True) if which)
        raise ZooError(f"{names[0]} and {names[1]} were not measured on the same images: {meta}")
    unlike = (sides[0]["label"] != sides[1]["label"]).to_numpy()
    if unlike.any():
        rows = zip(*(table[unlike]["label"] for table in sides), sides[0][unlike]["id"], strict=True)
        meta = _some([f"{image} ({first} and {second})" for first, second, image in rows])
        raise ZooError(f"{names[0]} and {names[1]} label images differently: {meta}")
    return sides[0], sides[1]


def _some(names: Iterable[object]) -> str:
    """`x, y, z and 4 more`."""
    meta = [str(name) for name in names]
    more = f" and {len(meta) - NAMED:,} more" if len(meta) > NAMED else ""
    return ", ".join(meta[:NAMED]) + more


def mcnemar(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """Return the p of McNemar's exact test (Psychometrika 1947) of the images that two aligned tables get right.

    It is the two-sided binomial p of the images that only one of the two gets right; 1 if there are none.
    """
    from scipy.stats import binomtest  # takes half a second to import

    right_a, right_b = (table["prediction"].to_numpy() == table["label"].to_numpy() for table in (a, b))
    only_a, differing = int((right_a & ~right_b).sum()), int((right_a != right_b).sum())
    return float(binomtest(only_a, differing).pvalue) if differing else 1.0


def bootstrap_p(differences: Values) -> float:
    """Two-sided p of a difference being 0, from its bootstrapped values (R,): at least `least_p(R)`.

    It is below 0.05 where the 95 % percentile interval leaves out 0 (Efron & Tibshirani 1993, ch. 15).
    """
    known = differences[~np.isnan(differences)]
    if not known.size:
        return math.nan
    beyond = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, (1 + beyond) * least_p(len(known)))


def least_p(resamples: int) -> float:
    """The p of a difference that has one sign in every resample: any below is told as this one."""
    return 2 / (resamples + 1)


def difference(figure: str, a: Bootstrap, b: Bootstrap, p: float | None = None) -> Difference:
    """The paired difference of a figure of two tables of the same images, bootstrapped with one seed.

    `p` is that of a test that fits the figure better than `bootstrap_p`. The interval is of the resamples' percentiles,
    or Tango's where the two get so few images differently that resamples say too little.
    """
    values = b.values[figure] - a.values[figure]
    result = bootstrap_p(values) if p is None else p
    alike = a.shares[figure].difference(b.shares[figure]) if figure in a.shares else None
    low, high = alike or interval(values)
    mine, other = a.figures[figure], b.figures[figure]
    one = Difference(figure, mine, other, other - mine, low, high, result, result, significant=False)
    return corrected([one])[0]


def holm(ps: Sequence[float]) -> list[float]:
    """Each p as it stands among several comparisons (Holm, Scand. J. Stat. 1979); NaN is no comparison."""
    order = sorted((index for index, p in enumerate(ps) if not math.isnan(p)), key=lambda index: ps[index])
    result, highest = [math.nan] * len(ps), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * ps[index]))
        result[index] = highest
    return result


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """The differences with `holm` and `shown` as they are among each other."""
    return [
        replace(item, holm=p, significant=(item.low > 0 or item.high < 0) and p < 1 - LEVEL)
        for item, p in zip(differences, holm([item.p for item in differences]), strict=True)
    ]
