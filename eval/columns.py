"""Columns of `eval/results.csv` as tables show them: title, unit, digits, direction, and the tables that have them.

Every number of a table, card, page or chart is formatted here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dctkd_zoo import discover
from dctkd_zoo.registry import datasets
from eval import metrics

CHANCE, SKILL = "chance", "skill"  # before the dot in the name of a column: the level of chance, and what is above it
TEACHER = "teacher_"  # prefix of the scores of a teacher's own maps
DASH = "–"  # in place of a number that is not known
MISSING = (None, "", "nan")
# Tables: the leaderboards of the terminal (`objects` under that protocol), of RESULTS.md and of the report; the two
# tables of a card; all metrics of an entry in the report; the comparison of two entries.
TABLES = frozenset({"terminal", "objects", "results", "board", "card", "maps", "report", "compare"})


@dataclass(frozen=True)
class Column:
    """A column of `eval/results.csv`.

    A `share` of images has Wilson's interval. `heading` is its title where room is short. A table of a dataset with
    fewer than `classes` classes leaves it out. Differences are tested together with those of the same `family`.
    """

    name: str
    title: str
    unit: str = ""
    digits: int = 3
    lower_is_better: bool = False
    share: bool = False
    tables: frozenset[str] = frozenset()
    heading: str = ""
    classes: int = 0
    family: str = ""

    @property
    def titled(self) -> str:
        """The title with the unit: `top-1 %`."""
        return f"{self.title} {self.unit}".strip()

    def text(self, value: Any) -> str:
        """Format a value, which may be text as a CSV file holds it; a dash for what is missing."""
        return number(value, self.digits)

    def signed(self, value: Any) -> str:
        """Format a difference, with its sign."""
        return number(value, self.digits, "+")

    def spread(self, mean: float, sd: float) -> str:
        """Format a mean and its standard deviation: `73.00 ± 3.61`; the mean alone where the deviation is NaN."""
        return self.text(mean) if math.isnan(sd) else f"{self.text(mean)} ± {self.text(sd)}"


def _column(name: str, title: str, tables: str, unit: str = "", digits: int = 3, **rest: Any) -> Column:
    chosen = frozenset(tables.split())
    assert chosen <= TABLES, chosen - TABLES
    return Column(name, title, unit, digits, tables=chosen, **rest)


# In the order in which tables have them, by family of tests: Holm's correction in `compare` is within each family, so
# that many scores of alignment do not hide a difference in accuracy.
_FAMILIES: Mapping[str, tuple[Column, ...]] = {
    "top-1": (_column("top1", "top-1", "terminal objects results board card report compare", "%", 2, share=True),),
    "accuracy": (
        _column("top5", "top-5", "terminal card report", "%", 2, share=True, classes=6),
        _column("mca", "MCA", "terminal results board card report compare", "%", 2),
        _column("mca_all", "MCA over all classes", "terminal board card report", "%", 2, heading="MCA all"),
        _column("nll", "NLL", "terminal results board card report compare", "nats", lower_is_better=True),
        _column("ece", "ECE", "terminal results board report compare", "%", 2, lower_is_better=True),
    ),
    "alignment": (
        _column("agreement", "agreement", "terminal results board card report compare", "%", 2, heading="agree"),
        _column("agreement5", "agreement in top-5", "card report", "%", 2, share=True, heading="agree 5", classes=6),
        _column("agreement_wrong", "shared mistakes", "card report compare", "%", 2),
        _column("kl", "KL from teacher", "card report compare", "nats", lower_is_better=True, heading="KL"),
        _column("ssim", "SSIM", "terminal maps report"),
        _column("ssim_zeropad", "SSIM, zero-padded", "terminal maps report", heading="SSIM pad"),
        _column("skill.ssim", "SSIM skill", "terminal results maps report", heading="skill"),
        _column("pearson", "Pearson", "maps report"),
        _column("skill.pearson", "Pearson skill", "results report"),
        _column("class_map", "class maps", "report"),
        _column("skill.class_map", "class map skill", "results card report"),
        _column("iou", "IoU", "report"),
        _column("skill.iou", "IoU skill", "report"),
        _column("spectral", "spectral distance", "maps report", lower_is_better=True),
        _column("skill.spectral", "spectral skill", "results report"),
        _column("cka", "CKA", "terminal report"),
        _column("skill.cka", "CKA skill", "results report"),
    ),
    "objects": (
        _column("energy", "energy", "objects"),
        _column("chance.energy", "energy by chance", "objects", heading="chance E"),
        _column("skill.energy", "energy skill", "results"),
        _column("pointing", "pointing", "objects"),
        _column("chance.pointing", "pointing by chance", "objects", heading="chance P"),
        _column("skill.pointing", "pointing skill", "results"),
        _column("attended", "attended", "objects", digits=2),
        _column("chance.attended", "attended by chance", "objects", digits=2, heading="chance A"),
        _column("skill.attended", "attended skill", "results"),
        _column("rank_accuracy", "rank accuracy", "objects", heading="rank acc."),
        _column("chance.rank_accuracy", "rank accuracy by chance", "objects", heading="chance R"),
        _column("skill.rank_accuracy", "rank accuracy skill", ""),
        _column("auc", "AUC", "objects"),
        _column("chance.auc", "AUC by chance", "objects", heading="chance AUC"),
        _column("skill.auc", "AUC skill", ""),
    ),
    "training": (_column("best_top1", "best epoch", "results", "%", 2),),
}
_KNOWN = tuple(replace(column, family=family) for family, columns in _FAMILIES.items() for column in columns)


def _of_files() -> Iterable[Column]:
    """Columns of the metrics in `eval/metrics/` that are not named above, and of their skill.

    `compare` has only those with levels, which compare maps with the teacher's.
    """
    known = {column.name for column in _KNOWN}
    for name in discover.modules(metrics.__name__):
        if name not in known:
            title = name.replace("_", " ")
            yield _column(name, title, "card report", family="alignment")
            yield _column(f"skill.{name}", f"{title} skill", "results report", family="alignment")


COLUMNS: tuple[Column, ...] = (*_KNOWN, *_of_files())
_BY_NAME: Mapping[str, Column] = {column.name: column for column in COLUMNS}


def get(name: str) -> Column:
    """Return the column called `name`; a level or an end of an interval (`ssim.2`, `top1.low`) is as its whole."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    whole = name.rpartition(".")[0]
    return get(whole) if whole else Column(name, name.replace("_", " "))


def of(table: str, rows: Iterable[Mapping[str, Any]] | None = None) -> tuple[Column, ...]:
    """Return the columns of a table; with `rows` only those that one of them has a value for."""
    assert table in TABLES, table
    chosen = tuple(column for column in COLUMNS if table in column.tables)
    if rows is None:
        return chosen
    rows = list(rows)
    known = datasets()
    counts = (known[name].num_classes if name in known else math.inf for name in {row["dataset"] for row in rows})
    most = max(counts, default=0)
    return tuple(c for c in chosen if c.classes <= most and any(row.get(c.name) not in MISSING for row in rows))


def scores_on_objects(rows: Iterable[Mapping[str, Any]]) -> tuple[Column, ...]:
    """Return the scores of maps on objects that one of some rows has a value for, without their levels of chance."""
    return tuple(column for column in of("objects", rows) if f"{CHANCE}.{column.name}" in _BY_NAME)


def number(value: Any, digits: int, sign: str = "") -> str:
    """Format a number to some decimals, with a true minus sign; a dash for what is missing or not finite."""
    if value in MISSING or not math.isfinite(float(value)):
        return DASH
    return minus(f"{float(value):{sign}.{digits}f}")


def minus(text: str) -> str:
    """Return the text with true minus signs, which Markdown does not take for a list or a line break."""
    return text.replace("-", "\N{MINUS SIGN}")


def interval(low: Any, high: Any, digits: int, sign: str = "") -> str:
    """Format an interval: `1.20 to 3.40`; a dash where an end is missing."""
    ends = [number(end, digits, sign) for end in (low, high)]
    return DASH if DASH in ends else " to ".join(ends)


def thousands(value: Any) -> str:
    """Format a whole number with commas; a dash for what is missing."""
    return DASH if value in MISSING else f"{int(value):,}"


def p_value(p: float, bound: bool = False) -> str:
    """Format a p; `bound`: it is the smallest that resampling can give. A dash where nothing was tested."""
    if math.isnan(p):
        return DASH
    return "<0.001" if p < 0.001 else f"{'≤' if bound else ''}{p:.3f}"
