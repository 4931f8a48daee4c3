"""Two sides, measured in turns, to a ratio with its spread and to whether that meets its target."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median

from benchmarks.harness.setting import Setting
from benchmarks.harness.sides import Side
from dctkd_zoo.errors import ZooError


class Skipped(ZooError):
    """A row that cannot be measured on this machine, and why."""


@dataclass(frozen=True)
class Value:
    """What is made of a round's figures of both sides, and its unit."""

    unit: str
    of: Callable[[float, float], float]


FASTER = Value("×", lambda ours, theirs: theirs / ours)
SHARE = Value("%", lambda ours, theirs: 100 * ours / theirs)
TIMES = Value("×", lambda ours, theirs: ours / theirs)
ALONE = Value("s", lambda ours, _: ours)


@dataclass(frozen=True)
class Figure:
    """How a side's own figure is shown: seconds as a rate, as milliseconds."""

    unit: str
    of: Callable[[float], float]


MILLISECONDS = Figure("ms", lambda seconds: 1000 * seconds)
MIB = Figure("MiB", lambda mib: mib)


def rate(images: int) -> Figure:
    """Seconds for so many images as images per second."""
    return Figure("images/s", lambda seconds: images / seconds)


@dataclass(frozen=True)
class Target:
    """What a row should reach: at least, or at most, in the row's own unit."""

    limit: float
    at_least: bool = True

    def met(self, value: float) -> bool:
        """Whether a value reaches it."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


@dataclass(frozen=True)
class Comparison:
    """What is measured, against what, and how both are told. What stands alone is against `sides.NOTHING`."""

    what: str
    against: str
    ours: Side
    theirs: Side
    value: Value
    figure: Figure
    rounds: int


@dataclass(frozen=True)
class Row:
    """A line of the table: its name, its target, and the function that sets its comparison up."""

    name: str
    target: Target | None
    function: Callable[[Setting], AbstractContextManager[Comparison]]


@dataclass(frozen=True)
class Measured:
    """What came of a row, or why nothing did: values, and both sides' figures round by round."""

    row: Row
    comparison: Comparison | None = None
    values: tuple[float, ...] = ()
    ours: tuple[float, ...] = ()
    theirs: tuple[float, ...] = ()
    took: float = 0.0  # seconds, all in all
    skipped: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target; None where there is no target or no value."""
        return self.row.target.met(median(self.values)) if self.row.target and self.values else None


def measure(row: Row, setting: Setting) -> Measured:
    """Set a row up and measure it."""
    start = time.perf_counter()
    try:
        with row.function(setting) as comparison:
            pairs = compare(comparison)
    except Skipped as reason:
        return Measured(row, skipped=str(reason))
    values = tuple(comparison.value.of(*pair) for pair in pairs)
    student, teacher = (tuple(map(comparison.figure.of, side)) for side in zip(*pairs, strict=True))
    return Measured(row, comparison, values, student, teacher, time.perf_counter() - start)


def compare(comparison: Comparison) -> list[tuple[float, float]]:
    """Both sides' figures, measured in turns after one round each that does not count."""
    comparison.ours.warm_up()
    comparison.theirs.warm_up()
    return [(comparison.ours.measure(), comparison.theirs.measure()) for _ in range(comparison.rounds)]
