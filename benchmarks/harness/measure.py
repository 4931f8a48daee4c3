"""Measurement of two sides in alternation: ratios per round, and comparison with a target."""

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
    """Reason why a row cannot be measured on this machine."""


@dataclass(frozen=True)
class Value:
    """Unit and formula of the value of a round, computed from the measurements of both sides."""

    unit: str
    of: Callable[[float, float], float]


FASTER = Value("×", lambda ours, theirs: theirs / ours)
SHARE = Value("%", lambda ours, theirs: 100 * ours / theirs)
TIMES = Value("×", lambda ours, theirs: ours / theirs)
ALONE = Value("s", lambda ours, _: ours)


@dataclass(frozen=True)
class Figure:
    """Unit and conversion of one side's measurement, such as seconds to images per second."""

    unit: str
    of: Callable[[float], float]


MILLISECONDS = Figure("ms", lambda seconds: 1000 * seconds)
MIB = Figure("MiB", lambda mib: mib)


def rate(images: int) -> Figure:
    """Return the conversion from seconds for `images` images to images per second."""
    return Figure("images/s", lambda seconds: images / seconds)


@dataclass(frozen=True)
class Target:
    """Lower or upper limit for the value of a row, in the row's unit."""

    limit: float
    at_least: bool = True

    def met(self, value: float) -> bool:
        """Return whether a value meets the target."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


@dataclass(frozen=True)
class Comparison:
    """Two sides with their names, value and unit; `sides.NOTHING` is the second if nothing is compared."""

    what: str
    against: str
    ours: Side
    theirs: Side
    value: Value
    figure: Figure
    rounds: int


@dataclass(frozen=True)
class Row:
    """A row of the table: its name, its target, and the function that sets up its comparison."""

    name: str
    target: Target | None
    function: Callable[[Setting], AbstractContextManager[Comparison]]


@dataclass(frozen=True)
class Measured:
    """Result of a row: values and measurements of both sides round by round, or the reason for skipping it."""

    row: Row
    comparison: Comparison | None = None
    values: tuple[float, ...] = ()
    ours: tuple[float, ...] = ()
    theirs: tuple[float, ...] = ()
    took: float = 0.0  # seconds for the whole row
    skipped: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target; None without a target or values."""
        return self.row.target.met(median(self.values)) if self.row.target and self.values else None


def measure(row: Row, setting: Setting) -> Measured:
    """Set up a row and measure it."""
    start = time.perf_counter()
    try:
        with row.function(setting) as comparison:
            pairs = compare(comparison)
    except Skipped as reason:
        return Measured(row, skipped=str(reason))
    values = tuple(comparison.value.of(*pair) for pair in pairs)
    ours, theirs = (tuple(map(comparison.figure.of, side)) for side in zip(*pairs, strict=True))
    return Measured(row, comparison, values, ours, theirs, time.perf_counter() - start)


def compare(comparison: Comparison) -> list[tuple[float, float]]:
    """Return the measurements of both sides, taken in alternation after one warm-up round each."""
    comparison.ours.warm_up()
    comparison.theirs.warm_up()
    return [(comparison.ours.measure(), comparison.theirs.measure()) for _ in range(comparison.rounds)]
