"""Numbers to the parts that every plot is made of: scales, ticks, axes, marks, as SVG in which all text is escaped.

Colours are variables of the page's style sheet, so that a plot follows light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from eval.seeds import minus

LETTER = 6.2  # px that a letter of a label takes, about
SERIES = 8  # colours that the style sheet has for series
Numbers = Sequence[float]


@dataclass(frozen=True)
class Box:
    """A view box of `width` x `height` px and the margins around what is plotted."""

    width: float = 360
    height: float = 270
    left: float = 46
    right: float = 12
    top: float = 10
    bottom: float = 42


@dataclass(frozen=True)
class Scale:
    """Numbers from `low` to `high` to px from `start` to `end`; those beyond are drawn at the edge."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where a number stands."""
        low, high, here = (math.log10(v) if self.log else v for v in (self.low, self.high, max(value, self._least())))
        share = (here - low) / (high - low)
        return round(self.start + min(max(share, 0), 1) * (self.end - self.start), 2)

    def _least(self) -> float:
        return self.low if self.log else -math.inf


def tag(name: str, *inside: object, **attributes: object) -> Markup:
    """An element; `class_` and `stroke_width` are `class` and `stroke-width`, whatever is no markup is escaped."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{given}>{Markup('').join(escape(each) for each in inside)}</{name}>")


def picture(key: str, title: str, description: str, box: Box, *parts: object) -> Markup:
    """A whole picture, with its name and what it shows for who cannot see it."""
    names = f"{key}-title", f"{key}-desc"
    told = tag("title", title, id=names[0]), tag("desc", description, id=names[1])
    return tag(
        "svg", *told, *parts,
        viewBox=f"0 0 {box.width:g} {box.height:g}", role="img", aria_labelledby=names[0], aria_describedby=names[1],
    )  # fmt: skip


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about `count` of them."""
    step = 10.0 ** math.floor(math.log10((high - low) / count))
    step *= next(times for times in (1, 2, 5, 10) if (high - low) / (step * times) <= count)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from `low` to `high`; powers alone where these are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    times = (1, 2, 5) if len(powers) <= 3 else (1,)
    return [t * 10.0**p for p in powers for t in times if low <= t * 10.0**p <= high]


def around(values: Numbers, least: float | None = None, most: float | None = None) -> tuple[float, float]:
    """The ends of an axis that shows some numbers with room around, but not beyond `least` and `most`."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    low, high = low - room, high + room
    return (low if least is None else max(low, least)), (high if most is None else min(high, most))


def short(value: float) -> str:
    """A number as a tick says it: 272 k, 1.5 M, 0.25."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return minus(f"{value:.4g}")


def axes(box: Box, x: Scale, y: Scale, labels: tuple[str, str], at: tuple[Numbers, Numbers]) -> list[Markup]:
    """Both axes with ticks `at` some numbers, lines through those of y, and what they are of."""
    bottom, right = box.height - box.bottom, box.width - box.right
    parts = [
        tag("line", class_="grid", x1=box.left, x2=right, y1=y(value), y2=y(value)) for value in at[1]
    ]  # below everything else
    parts += [text(box.left - 6, y(value) + 4, short(value), "end") for value in at[1]]
    parts += [tag("line", class_="axis", x1=x(value), x2=x(value), y1=bottom, y2=bottom + 4) for value in at[0]]
    parts += [text(x(value), bottom + 16, short(value)) for value in at[0]]
    parts.append(tag("path", class_="axis", d=f"M{box.left} {box.top}V{bottom}H{right}"))
    parts.append(text((box.left + right) / 2, box.height - 6, labels[0]))
    middle = (box.top + bottom) / 2
    parts.append(text(12, middle, labels[1], transform=f"rotate(-90 12 {middle:g})"))
    return parts


def text(x: float, y: float, words: str, anchor: str = "middle", **attributes: object) -> Markup:
    """Words at a place."""
    return tag("text", words, x=round(x, 2), y=round(y, 2), text_anchor=anchor, **attributes)


def mark(series: int, x: float, y: float, name: str = "", size: float = 4.5) -> Markup:
    """The mark of a series: its colour and, for who cannot tell colours, its shape."""
    s = size
    shape = (
        f"M{x - s} {y}a{s} {s} 0 1 0 {2 * s} 0a{s} {s} 0 1 0 {-2 * s} 0z",
        f"M{x - s} {y - s}h{2 * s}v{2 * s}h{-2 * s}z",
        f"M{x} {y - 1.2 * s}L{x + 1.2 * s} {y + s}H{x - 1.2 * s}z",
        f"M{x} {y - 1.3 * s}L{x + 1.3 * s} {y}L{x} {y + 1.3 * s}L{x - 1.3 * s} {y}z",
        f"M{x} {y + 1.2 * s}L{x + 1.2 * s} {y - s}H{x - 1.2 * s}z",
    )[series % 5]
    return tag("path", *([tag("title", name)] if name else []), d=shape, class_=colour(series))


def colour(series: int) -> str:
    """The class of a series in the style sheet."""
    return f"s{series % SERIES}"


def swatch(series: int) -> Markup:
    """The mark of a series for a legend, which needs no words of its own."""
    return tag("svg", mark(series, 8, 8, size=5), viewBox="0 0 16 16", class_="swatch", aria_hidden="true")


def cut(words: str, most: int) -> str:
    """Words, or their beginning and an ellipsis where there are more than `most` letters."""
    return words if len(words) <= most else f"{words[: most - 1]}…"
