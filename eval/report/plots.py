"""What was measured to plots: inline SVG, each with its numbers as a table, and no library to draw them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from eval.report.svg import (
    LETTER,
    Box,
    Scale,
    around,
    axes,
    colour,
    cut,
    log_ticks,
    mark,
    picture,
    short,
    tag,
    text,
    ticks,
)
from eval.seeds import minus

LARGEST = 40  # classes that a confusion matrix is drawn of
STEP = 10.0  # px between points that would lie on each other
BOX = Box()


@dataclass(frozen=True)
class Plot:
    """A picture, its title and caption, the names of its series by number, and its numbers: a heading and rows."""

    title: str
    svg: Markup
    caption: str
    legend: tuple[tuple[str, int], ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1  # columns of the table that hold no numbers


@dataclass(frozen=True)
class Point:
    """A named point of a series and the ends of its interval in y, NaN where it has none."""

    name: str
    series: int
    x: float
    y: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Line:
    """A named line of a series through some points; what is NaN is left out."""

    name: str
    series: int
    x: tuple[float, ...]
    y: tuple[float, ...]

    def known(self) -> list[tuple[float, float]]:
        """The points that are numbers."""
        return [(x, y) for x, y in zip(self.x, self.y, strict=True) if math.isfinite(x) and math.isfinite(y)]


def number(value: float, decimals: int = 2) -> str:
    """A number of a table, or a dash."""
    return minus(f"{value:,.{decimals}f}") if math.isfinite(value) else "–"


def scatter(key: str, title: str, points: Sequence[Point], labels: tuple[str, str]) -> Plot:
    """Points with their intervals over a logarithmic x; those of the same x are moved apart, side by side."""
    shown = [p for p in points if p.x > 0 and math.isfinite(p.x) and math.isfinite(p.y)]
    xs = [p.x for p in shown] or [1.0]
    ys = [v for p in shown for v in (p.y, p.low, p.high) if math.isfinite(v)] or [0.0, 100.0]
    ends = min(xs) / 1.6, max(xs) * 1.6
    x = Scale(*ends, BOX.left, BOX.width - BOX.right, log=True)
    y = Scale(*around(ys, 0, 100), BOX.height - BOX.bottom, BOX.top)
    columns: defaultdict[float, list[Point]] = defaultdict(list)
    for point in shown:
        columns[point.x].append(point)
    parts = axes(BOX, x, y, labels, (log_ticks(*ends), ticks(y.low, y.high, 6)))
    for column in columns.values():
        step = min(STEP, 120 / len(column))
        for place, point in enumerate(sorted(column, key=lambda p: p.y)):
            at = x(point.x) + (place - (len(column) - 1) / 2) * step
            at = round(min(max(at, BOX.left + 6), BOX.width - BOX.right - 6), 2)
            if math.isfinite(point.low) and math.isfinite(point.high):
                ends_y = y(point.low), y(point.high)
                parts.append(tag("path", d=f"M{at} {ends_y[0]}V{ends_y[1]}", class_=f"whisker {colour(point.series)}"))
            said = f"{point.name}: {number(point.y)} at {short(point.x)}"
            parts.append(mark(point.series, at, y(point.y), said))
    told = "; ".join(f"{p.name} {number(p.y)} at {short(p.x)}" for p in shown)
    rows = tuple(
        (p.name, f"{p.x:,.0f}", number(p.y), f"{number(p.low)} to {number(p.high)}") for p in shown
    )  # in the order given, the best first
    caption = "Whiskers: 95 % intervals over test images. Points of the same x stand side by side."
    return Plot(
        title,
        picture(key, title, f"{labels[1]} against {labels[0]}. {told}", BOX, *parts),
        caption,
        tuple((p.name, p.series) for p in shown),
        ("entry", labels[0], labels[1], "95 % interval"),
        rows,
    )


def lines(
    key: str, title: str, series: Sequence[Line], labels: tuple[str, str], caption: str = "", chance: bool = False
) -> Plot:
    """Lines over whole numbers from 1 on, epochs or levels; with `chance`, a line at 0 that says so."""
    shown = [line for line in series if line.known()]
    every = [point for line in shown for point in line.known()] or [(1.0, 0.0)]
    ys = [y for _, y in every] + ([0.0, 1.0] if chance else [0.0])
    last = max(2.0, *(x for x, _ in every))
    pad = 0.15 if last <= 5 else 0.0
    x = Scale(1 - pad, last + pad, BOX.left, BOX.width - BOX.right)
    least = None if min(ys) < 0 else -0.05 if chance else 0.0
    y = Scale(*around(ys, least), BOX.height - BOX.bottom, BOX.top)
    whole = [v for v in ticks(1, last, 6) if v == int(v)]
    parts = axes(BOX, x, y, labels, (whole if 1 in whole else [1.0, *whole], ticks(y.low, y.high, 6)))
    if chance:
        parts.append(tag("line", class_="chance", x1=BOX.left, x2=BOX.width - BOX.right, y1=y(0), y2=y(0)))
        parts.append(text(BOX.width - BOX.right - 2, y(0) - 4, "chance", "end"))
    for line in shown:
        path = "L".join(f"{x(a)} {y(b)}" for a, b in line.known())
        parts.append(tag("path", d=f"M{path}", class_=f"line {colour(line.series)}"))
        dots = line.known() if len(line.known()) <= 12 else line.known()[:: max(1, len(line.known()) // 8)]
        parts += [mark(line.series, x(a), y(b), f"{line.name}, {a:g}: {number(b, 3)}", 3.5) for a, b in dots]
    at = sorted({a for line in shown for a, _ in line.known()})
    values = [dict(line.known()) for line in shown]
    rows = tuple((f"{a:g}", *(number(each.get(a, math.nan), 3) for each in values)) for a in at)
    ends = "; ".join(
        f"{line.name} from {number(line.known()[0][1], 3)} to {number(line.known()[-1][1], 3)}" for line in shown
    )
    return Plot(
        title,
        picture(key, title, f"{labels[1]} by {labels[0]}. {ends}", BOX, *parts),
        caption,
        tuple((line.name, line.series) for line in shown),
        (labels[0], *(line.name for line in shown)),
        rows,
    )


def reliability(key: str, title: str, bins: pd.DataFrame) -> Plot:
    """Accuracy of the images of each bin of confidence, as `eval.calibration.reliability` has them."""
    x = Scale(0, 100, BOX.left, BOX.width - BOX.right)
    y = Scale(0, 100, BOX.height - BOX.bottom, BOX.top)
    labels = "confidence, %", "accuracy, %"
    parts = axes(BOX, x, y, labels, ([0, 20, 40, 60, 80, 100], [0, 20, 40, 60, 80, 100]))
    rows, most = [], max(int(bins["images"].max()), 1)
    for each in bins.to_dict("records"):
        if not each["images"]:
            continue
        left, right, top = x(100 * each["low"]), x(100 * each["high"]), y(each["accuracy"])
        share = 0.25 + 0.75 * math.sqrt(each["images"] / most)
        rows.append(
            (
                f"{100 * each['low']:.0f} to {100 * each['high']:.0f}", f"{each['images']:,}",
                number(each["confidence"], 1), number(each["accuracy"], 1),
            )
        )  # fmt: skip
        said = f"{rows[-1][1]} images of confidence {rows[-1][0]} %: {rows[-1][3]} % right"
        size = {"width": round(max(right - left - 2, 1), 2), "height": round(y(0) - top, 2)}
        parts.append(
            tag("rect", tag("title", said), x=left + 1, y=top, **size, class_="bar", fill_opacity=f"{share:.2f}")
        )
        if math.isfinite(each["confidence"]):
            parts.append(tag("circle", cx=x(each["confidence"]), cy=top, r=3, class_="dot"))
    parts.append(tag("path", class_="chance", d=f"M{x(0)} {y(0)}L{x(100)} {y(100)}"))
    told = "; ".join(f"confidence {a} %: {b} images, {d} % right" for a, b, _, d in rows)
    caption = (
        "On the diagonal, confidence is what it says. Fuller bars hold more images; dots: the bin's mean confidence."
    )
    head = ("confidence, %", "images", "mean confidence, %", "accuracy, %")
    return Plot(title, picture(key, title, told, BOX, *parts), caption, (), head, tuple(rows))


def confusion(key: str, title: str, matrix: NDArray[np.int64], classes: Sequence[str]) -> Plot | None:
    """Images of each class (rows) by what they are taken for (columns); None for more classes than can be drawn."""
    count = len(classes)
    if count > LARGEST:
        return None
    names = [cut(name, 22) for name in classes]
    cell = 26.0 if count <= 20 else 17.0
    edge = 14 + LETTER * max(map(len, names), default=1)
    slant = 0.72 * edge  # labels of columns lean to the right, so that the last reaches beyond its column
    box = Box(edge + 18 + count * cell + slant, slant + 18 + count * cell + 8, edge + 18, slant, slant + 18, 8)
    parts = [
        text(12, box.top + count * cell / 2, "true class", transform=f"rotate(-90 12 {box.top + count * cell / 2:g})"),
        text(box.left + count * cell / 2, 12, "taken for"),
    ]
    totals = matrix.sum(axis=1)
    for index, name in enumerate(names):
        across, down = box.left + (index + 0.5) * cell, box.top + (index + 0.5) * cell
        parts.append(text(box.left - 6, down + 4, name, "end"))
        parts.append(text(across, box.top - 6, name, "start", transform=f"rotate(-45 {across:g} {box.top - 6:g})"))
    for row, column in zip(*np.nonzero(matrix), strict=True):
        images, share = int(matrix[row, column]), float(matrix[row, column] / totals[row])
        left, top = box.left + column * cell, box.top + row * cell
        said = f"{classes[row]} taken for {classes[column]}: {images} images, {100 * share:.1f} %"
        kind = "right" if row == column else "wrong"
        opacity = f"{0.08 + 0.42 * math.sqrt(share):.2f}"
        place = {"x": round(left + 0.5, 2), "y": round(top + 0.5, 2), "width": cell - 1, "height": cell - 1}
        parts.append(tag("rect", tag("title", said), **place, class_=kind, fill_opacity=opacity))
        if count <= 20:
            parts.append(text(left + cell / 2, top + cell / 2 + 4, str(images), class_="count"))
    size = {"width": count * cell, "height": count * cell}
    parts.append(tag("rect", x=box.left, y=box.top, **size, class_="outline"))
    wrong = [(int(r), int(c)) for r, c in zip(*np.nonzero(matrix), strict=True) if r != c]
    wrong.sort(key=lambda pair: -matrix[pair])
    rows = tuple(
        (classes[r], classes[c], f"{matrix[r, c]:,}", number(100 * float(matrix[r, c] / totals[r]), 1))
        for r, c in wrong
    )
    right = int(matrix.diagonal().sum())
    told = f"{right:,} of {int(matrix.sum()):,} images lie on the diagonal, which is right."
    caption = "A cell is fuller the greater its share of the class's images; the table holds every mistake."
    head = ("true class", "taken for", "images", "% of the class")
    return Plot(title, picture(key, title, told, box, *parts), caption, (), head, rows, words=2)
