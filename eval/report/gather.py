"""Records of an evaluation to all that the page tells, entry by entry and dataset by dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dctkd_zoo import registry, weights
from dctkd_zoo.data import load
from dctkd_zoo.errors import ZooError
from dctkd_zoo.spec import Dataset
from eval import calibration, card, classes, compare, ground_truth, skill
from eval.gap import Gap, bootstrapped_gap
from eval.outcome import Status
from eval.record import Record
from eval.report.figures import HEADLINES, accuracy, alignment, learning, losses
from eval.report.panels import Panel, panels
from eval.report.plots import Plot, confusion, reliability
from eval.run import Result, Where

COMPARED = ("id", "label", "prediction", "confidence", "teacher_prediction", "top1", "nll", "agreement")
PAIRS = 10  # of classes confused, that are told
WORST = 100  # classes that have a row of their own

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Level:
    """A score at a level: its value, what chance gives, and the share of the way from there to the best."""

    score: str
    level: int
    value: float
    chance: float
    skill: float
    low: float
    high: float


@dataclass(frozen=True)
class Told:
    """All that the page tells of an entry that was evaluated; `series` is its number in the plots of its dataset."""

    result: Result
    row: Row
    subsets: Mapping[str, Row]
    series: int
    gap: Gap | None
    levels: tuple[Level, ...]
    objects: tuple[tuple[Level, Level | None], ...]
    per_class: tuple[Row, ...]
    pairs: tuple[classes.Confused, ...]
    bands: tuple[classes.Band, ...]
    reliability: Plot
    confusion: Plot | None
    losses: Plot | None
    run: card.Run | None
    panels: tuple[Panel, ...] = ()

    @property
    def name(self) -> str:
        """The entry's name."""
        return self.result.entry.name


@dataclass(frozen=True)
class Board:
    """A dataset with its entries, the best first, and what is told of them together."""

    dataset: Dataset
    entries: tuple[Told, ...]
    accuracy: Plot
    alignment: tuple[Plot, ...]
    training: Plot | None
    comparisons: tuple[compare.Comparison, ...]
    panels: tuple[Panel, ...]
    refused: tuple[str, ...]

    @property
    def reported(self) -> bool:
        """Whether the authors reported a top-1 of any entry that is here."""
        return any(each.metric == "top1" for told in self.entries for each in told.result.entry.reported)


@dataclass(frozen=True)
class Absent:
    """Entries of a dataset that were not evaluated, all for one kind of reason; `reason` is that of the first."""

    dataset: str
    status: str
    reason: str
    names: tuple[str, ...]


def boards(
    records: Sequence[Record], results: Mapping[str, Result], where: Where, images: bool = True
) -> tuple[Board, ...]:
    """A board per dataset; without `images` none has panels."""
    datasets = sorted({each.entry.dataset for each in results.values()}, key=registry.natural)
    kept = {record["name"]: record for record in records}
    parts = ({n: r for n, r in results.items() if r.entry.dataset == name} for name in datasets)
    return tuple(board(part, kept, where, images) for part in parts)


def board(results: Mapping[str, Result], records: Mapping[str, Record], where: Where, images: bool = True) -> Board:
    """The board of one dataset's results."""
    ordered = dict(sorted(results.items(), key=lambda pair: -pair[1].figures["top1"]))
    dataset = registry.get_dataset(next(iter(ordered.values())).entry.dataset)
    baselines = {name: base for name in ordered if (base := baseline(name, ordered))}
    training = _training(dataset, where)
    drawn = panels(ordered, baselines, where) if images else {}
    entries = tuple(
        told(results[name], records[name], place, ordered, training, drawn.get(name, []))
        for place, name in enumerate(ordered)
    )
    exact = where.protocol == "exact"  # whose figures alone are compared, and say how far a gap is closed
    comparisons, refused = compared(ordered, baselines if exact else {})
    return Board(
        dataset,
        entries,
        accuracy(dataset.name, entries),
        alignment(dataset.name, entries),
        learning(dataset.name, entries),
        comparisons,
        tuple(drawn.get("", [])),
        refused,
    )


def baseline(name: str, results: Mapping[str, Result]) -> str | None:
    """The same network trained on labels alone, where a student has one among the results."""
    entry = results[name].entry
    base = registry.baseline(entry)
    return base if entry.teacher and base in results else None


def _training(dataset: Dataset, where: Where) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Training images by class."""
    labels = load.load(dataset, where.data)["train"].labels
    return np.bincount(labels, minlength=dataset.num_classes).astype(np.int64)


def told(
    result: Result,
    record: Record,
    series: int,
    results: Mapping[str, Result],
    training: np.ndarray[Any, np.dtype[np.int64]],
    drawn: Sequence[Panel],
) -> Told:
    """All that is told of an entry."""
    table, names, name = result.table, result.classes, result.entry.name
    matrix = classes.confusion(table, len(names))
    per_class = classes.per_class(table, names)
    per_class["order"] = per_class["top1"].fillna(np.inf)
    worst = per_class.sort_values(["order", "class"], kind="stable")
    log = run(result)
    bins = calibration.reliability(table, calibration.equal_width(table["confidence"].to_numpy(np.float64)))
    return Told(
        result,
        record["row"],
        record["subsets"],
        series,
        closed(result, results),
        tuple(each for score in _scores(result) for each in levels(result, score)),
        objects(result),
        tuple({str(key): value for key, value in each.items()} for each in worst[:WORST].to_dict("records")),
        classes.worst_pairs(matrix, names, PAIRS),
        classes.by_frequency(table, training),
        reliability(f"{name}-reliability", f"Reliability of {name}", bins),
        confusion(f"{name}-confusion", f"Confusion matrix of {name}", matrix, names),
        losses(name, log),
        log,
        tuple(drawn),
    )


def run(result: Result) -> card.Run | None:
    """What training wrote beside the weights."""
    return card.read_run(result.weights.folder) if weights.is_whole(result.weights.folder) else None


def closed(result: Result, results: Mapping[str, Result]) -> Gap | None:
    """The share that a student closes of the gap between its baseline and its teacher, where all are measured."""
    base, teacher = baseline(result.entry.name, results), result.entry.teacher
    exact = result.where.protocol == "exact"
    if not exact or base is None or teacher is None or teacher not in results:
        return None
    try:
        return bootstrapped_gap(results[base].table, result.table, results[teacher].table)
    except ZooError:  # not of the same images
        return None


def _scores(result: Result) -> list[str]:
    """Scores of an entry's likeness to its teacher that have a level of chance: those of the leaderboard first."""
    names = [name.removeprefix("skill.") for name in result.figures if name.startswith("skill.")]
    scores = {n for n in names if "." not in n and n.removeprefix(skill.TEACHER) not in ground_truth.SCORES}
    return [n for n in HEADLINES if n in scores] + [n for n in names if n in scores and n not in HEADLINES]


def levels(result: Result, score: str) -> list[Level]:
    """A score level by level."""
    found = []
    for level in range(1, 100):
        column = f"{score}.{level}"
        if column not in result.figures:
            break
        low, high = result.intervals.get(f"skill.{column}", (math.nan, math.nan))
        of_chance = f"{skill.CHANCE}.{column}"
        above = result.figures.get(f"skill.{column}", math.nan)
        if of_chance in result.table:
            chance = float(result.table[of_chance].mean())
        else:  # of all images together: the chance that this skill is above
            best = skill.best(score)
            chance = (result.figures[column] - above * best) / (1 - above) if above != 1 else math.nan
        found.append(Level(score, level, result.figures[column], chance, above, low, high))
    return found


def objects(result: Result) -> tuple[tuple[Level, Level | None], ...]:
    """How far an entry's maps lie on the objects that decide the class, and its teacher's, score by score and level."""
    found: list[tuple[Level, Level | None]] = []
    for score in ground_truth.SCORES:
        ours, theirs = levels(result, score), levels(result, f"{skill.TEACHER}{score}")
        deepest = len(theirs) - len(ours)  # levels are paired from the deepest
        paired = {each.level - deepest: each for each in theirs}
        found += [(each, paired.get(each.level)) for each in ours]
    return tuple(found)


def compared(
    results: Mapping[str, Result], baselines: Mapping[str, str]
) -> tuple[tuple[compare.Comparison, ...], tuple[str, ...]]:
    """Each baseline with its students, and why one could not be compared."""
    found: list[compare.Comparison] = []
    refused: list[str] = []
    for base in dict.fromkeys(baselines.values()):
        names = [base, *(name for name, other in baselines.items() if other == base)]
        try:
            found += compare.compare({name: _narrow(results[name].table) for name in names})
        except ZooError as error:
            refused.append(str(error))
    return tuple(found), tuple(refused)


def _narrow(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of the figures that are compared: fewer figures, fewer chances to be wrong about one."""
    scores = {str(c): str(c).removeprefix(f"{skill.CHANCE}.").partition(".")[0] for c in table.columns}
    return table[[name for name, score in scores.items() if name in COMPARED or score in HEADLINES]]


def absences(records: Sequence[Record]) -> tuple[Absent, ...]:
    """What was not evaluated, by dataset and kind of reason; failures are not among them."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record["status"] not in (Status.EVALUATED, Status.FAILED):
            groups.setdefault((record["dataset"], str(record["status"])), []).append(record)
    return tuple(
        Absent(dataset, status, group[0]["reason"], tuple(sorted((r["name"] for r in group), key=registry.natural)))
        for (dataset, status), group in sorted(groups.items())
    )
