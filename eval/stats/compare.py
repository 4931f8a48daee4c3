"""Comparison of entries on the same test images, for `python -m eval compare A B [...]`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from rich.console import Group
from rich.text import Text

from dctkd_zoo.cli.shell import Column, Grid
from dctkd_zoo.errors import printable
from eval import columns
from eval.stats import skill
from eval.stats.bootstrap import LEVEL, RESAMPLES
from eval.stats.intervals import bootstrapped, per_image, reducers
from eval.stats.paired import Difference, align, corrected, difference, least_p, mcnemar

HEADINGS = ("A", "B", "B − A", f"{LEVEL:.0%} interval", "p")
NO_DIFFERENCE = "not significant"
WAY_ON = "--teacher T compares all entries with the same network"


@dataclass(frozen=True)
class Comparison:
    """Two entries compared on the same images, metric by metric.

    `teacher_a` and `teacher_b` are the networks that their agreement and alignment are with, None without one. `note`
    says what else a reader needs to know.
    """

    a: str
    b: str
    teacher_a: str | None
    teacher_b: str | None
    images: int
    resamples: int
    differences: tuple[Difference, ...]
    note: str = ""


def compare(
    tables: Mapping[str, pd.DataFrame], teachers: Mapping[str, str | None], seed: int = 0
) -> tuple[Comparison, ...]:
    """Compare each entry, given as its per-image table by name, with the first one; `teachers` are by the same names.

    `ZooError` if the tables are not of the same images. Holm's correction is over all comparisons, within each family
    of metrics (`columns.Column`); the number of resamples grows with the largest family, so that the smallest p can
    still be significant.
    """
    (first, baseline), *others = tables.items()
    assert others
    figures = {name: comparable(baseline, table) for name, table in others}
    tests = Counter(columns.get(figure).family for names in figures.values() for figure in names)
    count = max(RESAMPLES, math.ceil(4 * max(tests.values()) / (1 - LEVEL)))
    result = [_compare((first, baseline), pair, teachers, figures[pair[0]], seed, count) for pair in others]
    differences = iter(corrected([item for comparison in result for item in comparison.differences]))
    return tuple(replace(c, differences=tuple(next(differences) for _ in c.differences)) for c in result)


def comparable(a: pd.DataFrame, b: pd.DataFrame) -> tuple[str, ...]:
    """Return the metrics by which two tables are compared: those of the table `compare`, then means over levels.

    For scores that have a chance level the skill is compared.
    """
    both = [name for name in per_image(a) if name in per_image(b)]
    reduced = reducers(a).keys() & reducers(b).keys()
    above = {name for name in skill.scored(a) if name in skill.scored(b)}
    levels = [name for name in both if f"{name}.1" in both and not name.startswith(skill.TEACHER)]
    scores = (f"{skill.SKILL}.{name}" if name in above else name for name in levels)
    first = (column.name for column in columns.of("compare"))
    return (*(name for name in first if name in both or name in reduced), *scores)


def _compare(
    first: tuple[str, pd.DataFrame],
    second: tuple[str, pd.DataFrame],
    teachers: Mapping[str, str | None],
    figures: Sequence[str],
    seed: int,
    count: int,
) -> Comparison:
    names = first[0], second[0]
    sides = align(first[1], second[1], names)
    a, b = (bootstrapped(table, frozenset(figures), seed, count) for table in sides)
    tests = {"top1": mcnemar(*sides)}
    differences = tuple(difference(name, a, b, tests.get(name)) for name in figures)
    teacher_a, teacher_b = (
        teachers[name] if "teacher_prediction" in table else None for name, table in zip(names, sides, strict=True)
    )
    note = _note(*sides, teacher_a == teacher_b)
    return Comparison(*names, teacher_a, teacher_b, len(sides[0]), count, differences, note)


def _note(a: pd.DataFrame, b: pd.DataFrame, same_teacher: bool) -> str:
    """Return why agreement and alignment are not compared, or not on the same scale; empty if they are."""
    without = [name for name, table in (("A", a), ("B", b)) if "teacher_prediction" not in table]
    if without:
        verb = "has" if len(without) == 1 else "have"
        return f"{' and '.join(without)} {verb} no teacher, so agreement and alignment are not compared: {WAY_ON}."
    if not same_teacher or not a["teacher_prediction"].equals(b["teacher_prediction"]):
        return f"A and B have different teachers, so their agreement and alignment are on different scales: {WAY_ON}."
    return ""


def render(comparisons: Sequence[Comparison]) -> Group:
    """Return a table per comparison, followed by a caption that explains the numbers."""
    parts = [part for item in comparisons for part in (_table(item), Text())]
    return Group(*parts, caption(comparisons))


def _table(comparison: Comparison) -> Grid:
    title = Text(f"A {comparison.a}, B {comparison.b}: {comparison.images:,} test images", style="bold")
    columns = [Column("metric"), *(Column(heading, right=True) for heading in HEADINGS), Column("B is")]
    rows = [
        [Text(cell, "" if item.significant else "dim") for cell in cells(item, comparison.resamples)]
        for item in comparison.differences
    ]
    note = Text(comparison.note, style="dim") if comparison.note else None
    return Grid(columns, rows, title, note, ("p", "A", "B"), "--json FILE has all of it")


def cells(item: Difference, resamples: int) -> tuple[str, ...]:
    """Return a line: metric, a, b, difference, interval, corrected p, and `higher`, `lower` or `not significant`."""
    column = columns.get(item.figure)
    ends = columns.interval(item.low, item.high, column.digits, "+")
    p = columns.p_value(item.holm, bound=item.p == least_p(resamples))
    direction = "higher" if item.difference > 0 else "lower"
    verdict = direction if item.significant else NO_DIFFERENCE
    return column.titled, column.text(item.a), column.text(item.b), column.signed(item.difference), ends, p, verdict


def caption(comparisons: Sequence[Comparison]) -> Text:
    """Return the explanation of intervals, tests and significance."""
    differences = [item for comparison in comparisons for item in comparison.differences]
    shown = dict.fromkeys(columns.get(item.figure) for item in differences)
    teachers = dict.fromkeys(name for item in comparisons for name in (item.teacher_a, item.teacher_b) if name)
    with_teachers = f"Agreement and alignment are with {', '.join(map(printable, teachers))}."
    lines = (
        f"Lower is better: {', '.join(column.title for column in shown if column.lower_is_better)}.",
        *([with_teachers] if teachers else []),
        "skill: score above chance, where 0 is the score of maps of two different images and 1 is the best.",
        f"Intervals: percentiles of {comparisons[0].resamples:,} resamples of the test images, the same for A and B.",
        "p: McNemar's exact test for top-1, else from the resamples; Holm's correction over all comparisons, within "
        f"each family of tests: {'; '.join(_families(differences))}.",
        f"A difference is significant if its interval excludes 0 and p is below {1 - LEVEL:.2f}.",
        "The intervals are over test images: networks with other training seeds may differ by more.",
    )
    return Text("\n".join(lines), style="dim")


def _families(differences: Sequence[Difference]) -> Iterator[str]:
    """Yield each family of tests with its metrics: `accuracy (MCA, NLL, ECE; 6 tests)`."""
    for family in dict.fromkeys(item.family for item in differences):
        members = [item for item in differences if item.family == family]
        titles = ", ".join(dict.fromkeys(columns.get(item.figure).title for item in members))
        tests = sum(not math.isnan(item.p) for item in members)
        metrics = f"{titles}; " if titles != family else ""
        yield f"{family} ({metrics}{tests} test{'s' * (tests != 1)})"
