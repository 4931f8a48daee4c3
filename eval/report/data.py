"""Data of a report, without markup: datasets, entries, metrics with intervals, comparisons, panels of test images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dctkd_zoo.spec import Dataset, Entry
from eval.cards.facts import Run
from eval.metrics import _objects
from eval.run import faithfulness
from eval.run.sanity import Step
from eval.run.setup import role
from eval.stats import skill
from eval.stats.gap_closed import Gap
from eval.stats.paired import Difference
from eval.stats.per_class import Band, Confused

HEADLINES = ("ssim", "pearson", "iou")  # scores whose skill is in the leaderboard, plotted and compared
ROLES = ("teacher", "baseline", "student")
LARGEST = 40  # most classes for which a confusion matrix is drawn
COLOURED = 6  # entries with a colour in the plots of a dataset; the others are grey

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Value:
    """A metric with its 95 % interval over images (`low`, `high`), or a mean over training seeds with its `sd`.

    Unknown numbers are NaN.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    sd: float = math.nan

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of a whisker: the interval, or one standard deviation around the mean."""
        has_sd = not math.isnan(self.sd)
        return (self.value - self.sd, self.value + self.sd) if has_sd else (self.low, self.high)


@dataclass(frozen=True)
class Level:
    """A score at a level: value, chance level, and skill with its interval."""

    score: str
    level: int
    value: float
    chance: float
    skill: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class PerImage:
    """Statistics of an entry that need per-image predictions: by class, confusions, calibration."""

    classes: tuple[str, ...]
    per_class: tuple[Row, ...]
    matrix: NDArray[np.int64] | None  # None for more than `LARGEST` classes
    pairs: tuple[Confused, ...]
    bands: tuple[Band, ...]
    bins: pd.DataFrame


@dataclass(frozen=True)
class Seen:
    """A network's prediction for an image, and its attention maps by level in one picture (a data URI)."""

    network: str
    role: str
    answer: str
    right: bool
    confidence: float
    levels: int
    picture: str


@dataclass(frozen=True)
class Example:
    """A test image, its true class, and the prediction and attention of each network."""

    id: str
    truth: str
    picture: str
    seen: tuple[Seen, ...]


@dataclass(frozen=True)
class Panel:
    """Test images chosen by a rule."""

    title: str
    rule: str
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class EntryData:
    """An entry with its metrics.

    - `row`: the facts of its evaluation.
    - `values`: its metrics, which are means if there are several `seeds`.
    - `compared_with`: the network that its attention maps are compared with.
    - `series`: its colour in the plots of its dataset, None for grey.
    - `per_image`, `run`, `panels`: empty unless the entry was evaluated just now.
    - `sanity`: the steps of its sanity check, if one was made.
    - `faithfulness`: differences of insertion and deletion, if they were measured.
    """

    entry: Entry
    row: Row
    values: Mapping[str, Value]
    seeds: tuple[int, ...]
    compared_with: str | None
    series: int | None
    gap: Gap | None = None
    levels: tuple[Level, ...] = ()
    objects: tuple[tuple[Level, Level | None], ...] = ()
    subsets: Mapping[str, Row] = field(default_factory=dict)
    per_image: PerImage | None = None
    run: Run | None = None
    panels: tuple[Panel, ...] = ()
    note: str = ""
    sanity: tuple[Step, ...] = ()
    faithfulness: tuple[faithfulness.Difference, ...] = ()

    @property
    def name(self) -> str:
        """The entry's name."""
        return self.entry.name

    @property
    def label(self) -> str:
        """The name without its dataset, for plots and tables of a single dataset: `r20_dctkd.abs`."""
        return self.name.replace(f"_{self.entry.dataset}", "", 1)

    @property
    def role(self) -> str:
        """`student`, `baseline` or `teacher`."""
        return role(self.entry)


@dataclass(frozen=True)
class Contrast:
    """A student compared with its baseline, metric by metric, paired over `n` test images or `n` training seeds.

    `least_p` is the smallest p that resampling can give, 0 for other tests.
    """

    baseline: str
    student: EntryData
    n: int
    differences: tuple[Difference, ...]
    least_p: float = 0.0
    note: str = ""

    @property
    def top1(self) -> Difference:
        """The difference in top-1."""
        return next(item for item in self.differences if item.figure == "top1")


@dataclass(frozen=True)
class DatasetData:
    """A dataset with its entries, the most accurate first, and the students compared with their baselines.

    `refused` lists the reasons why students could not be compared.
    """

    dataset: Dataset
    entries: tuple[EntryData, ...]
    contrasts: tuple[Contrast, ...] = ()
    refused: tuple[str, ...] = ()
    panels: tuple[Panel, ...] = ()

    @property
    def reported(self) -> bool:
        """Whether the authors reported a top-1 of any of the entries."""
        return any(item.metric == "top1" for entry in self.entries for item in entry.entry.reported)

    @property
    def measured(self) -> frozenset[str]:
        """The metrics that at least one entry has."""
        return frozenset(name for item in self.entries for name in item.values)

    @property
    def best(self) -> EntryData | None:
        """The most accurate student, None if there is no student."""
        return next((item for item in self.entries if item.entry.teacher), None)

    def find(self, name: str | None) -> EntryData | None:
        """Return the entry called `name`, None if the report does not have it."""
        return next((item for item in self.entries if item.name == name), None)


@dataclass(frozen=True)
class Absent:
    """Entries of a dataset that were not evaluated, all with the same status; `reason` is that of the first."""

    dataset: str
    status: str
    reason: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """All data of a report.

    `over` is what intervals and tests are over: `images`, for networks evaluated just now, or `seeds`, for rows of a
    results file. `document` is the data that the page offers as JSON, if any. `pictures`: whether test images may be
    on the page. `teacher`: the network that all entries are compared with, if one was chosen.
    """

    datasets: tuple[DatasetData, ...]
    over: str
    document: Mapping[str, Any] | None = None
    absent: tuple[Absent, ...] = ()
    failures: tuple[Row, ...] = ()
    limit: int | None = None
    pictures: bool = True
    teacher: str | None = None


def coloured(entries: Iterable[EntryData]) -> tuple[EntryData, ...]:
    """Give `COLOURED` entries, sorted by accuracy, a colour; the others are grey.

    The best teacher and the best baseline come first, then the best of the rest.
    """
    entries = tuple(entries)
    first = {item.role: item.name for item in reversed(entries) if item.role != "student"}
    chosen = sorted(entries, key=lambda item: first.get(item.role) != item.name)[:COLOURED]
    series = {item.name: index for index, item in enumerate(sorted(chosen, key=lambda item: ROLES.index(item.role)))}
    return tuple(replace(item, series=series.get(item.name)) for item in entries)


def scores(values: Mapping[str, Value]) -> list[str]:
    """Return the scores of similarity to the teacher that have a chance level, those of the leaderboard first."""
    names = [name.removeprefix("skill.") for name in values if name.startswith("skill.")]
    known = [n for n in names if "." not in n and skill.is_measured(n)]
    similarities = sorted(n for n in known if n.removeprefix(skill.TEACHER) not in _objects.SCORES)
    return [*(n for n in HEADLINES if n in similarities), *(n for n in similarities if n not in HEADLINES)]


def levels(values: Mapping[str, Value], score: str, table: pd.DataFrame | None = None) -> tuple[Level, ...]:
    """Return a score by level; the chance level is from the per-image `table`, else computed from value and skill."""
    result: list[Level] = []
    while (name := f"{score}.{len(result) + 1}") in values:
        value, above = values[name], values.get(f"skill.{name}", Value(math.nan))
        if table is not None and f"{skill.CHANCE}.{name}" in table:
            chance = float(table[f"{skill.CHANCE}.{name}"].mean())
        else:
            in_view = values.get(skill.IN_VIEW, Value(_objects.OBJECTS)).value
            best = skill.best(score, in_view)
            chance = (value.value - above.value * best) / (1 - above.value) if above.value != 1 else math.nan
        result.append(Level(score, len(result) + 1, value.value, chance, above.value, above.low, above.high))
    return tuple(result)


def objects(values: Mapping[str, Value], table: pd.DataFrame | None = None) -> tuple[tuple[Level, Level | None], ...]:
    """Return the scores of an entry's maps on the objects that decide the class, with its teacher's, by level."""
    result: list[tuple[Level, Level | None]] = []
    for score in _objects.SCORES:
        student, teacher = (levels(values, f"{who}{score}", table) for who in ("", skill.TEACHER))
        offset = len(teacher) - len(student)  # levels are paired from the deepest
        paired = {item.level - offset: item for item in teacher}
        result += [(item, paired.get(item.level)) for item in student]
    return tuple(result)
