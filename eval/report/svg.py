"""Inline SVG drawn by matplotlib, with the colours and font of the page and with tooltips.

matplotlib draws in placeholder colours, which are replaced by variables of the style sheet, so that a chart follows
the light or dark theme. The same chart always gives the same text.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

from dctkd_zoo.errors import printable
from eval.columns import minus

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MARKERS = ("o", "s", "^", "D", "v", "P")  # one per colour, for readers who cannot distinguish these
TIP = "tip:"  # prefix of the id of an artist with a tooltip
DASHED = (0, (4, 3))

# Variables of the style sheet, and their placeholder colours in matplotlib.
VARIABLES = ("ink", "dim", "faint", "rule", "accent", *(f"c{number}" for number in range(len(MARKERS))))
COLOURS = {name: f"#0000{number:02x}" for number, name in enumerate(VARIABLES, start=1)}
VARIABLE_OF = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10.5,
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.edgecolor": COLOURS["dim"],
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.color": COLOURS["dim"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.left": False,
    "ytick.labelcolor": COLOURS["ink"],
    "grid.color": COLOURS["rule"],
    "figure.constrained_layout.use": True,
}


def picture(
    key: str, title: str, description: str, size: tuple[float, float], draw: Callable[[Axes], None], scale: float = 1.0
) -> Markup:
    """Return an SVG of `size` in px, drawn by `draw` and shown up to `scale` times as large.

    `key` makes its ids unique on the page; `title` and `description` are for screen readers.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE | {"svg.hashsalt": key}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # the page's fonts have them
        figure = Figure((size[0] / 72, size[1] / 72))
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", facecolor="none", metadata={"Date": None})
    return Markup(
        '<svg viewBox="0 0 {w:g} {h:g}" style="max-width: {most:g}px" role="img" aria-labelledby="{key}-title" '
        'aria-describedby="{key}-desc"><title id="{key}-title">{title}</title>'
        '<desc id="{key}-desc">{description}</desc>{inside}</svg>'
    ).format(
        key=key, w=size[0], h=size[1], most=scale * size[0], title=printable(title), description=printable(description),
        inside=_inline(text.getvalue()),
    )  # fmt: skip


def _inline(text: str) -> Markup:
    """Return the elements of an SVG without unused ids, metadata and styles."""
    root = ElementTree.fromstring(text)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for child in [item for item in element if item.tag.endswith(("}metadata", "}style", "}clipPath"))]:
            element.remove(child)
        element.attrib = dict(_attributes(element))
        if element.tag == "g":
            name = element.attrib.pop("id", "")
            if name.startswith(TIP):
                element.insert(0, ElementTree.Element("title"))
                element[0].text = name.removeprefix(TIP)
        element.text, element.tail = (" ".join((words or "").split()) for words in (element.text, element.tail))
    return Markup("").join(Markup(ElementTree.tostring(item, encoding="unicode")) for item in root)


def _attributes(element: ElementTree.Element) -> Iterable[tuple[str, str]]:
    for key, value in element.attrib.items():
        name = key.rpartition("}")[2]  # `href` in place of `xlink:href`
        if name == "style":  # keep the font size, take the font family of the page
            value = re.sub(r"font: [^;]*?([\d.]+px)[^;]*", r"font-size: \1", value)
            value = re.sub(r" ?font-family: [^;]*;?", "", value)
            yield name, re.sub(r"#0000[0-9a-f]{2}", lambda match: VARIABLE_OF[match[0]], value)
        elif name in ("d", "x", "y", "transform"):
            rounded = re.sub(r"-?\d+\.\d{3,}", lambda match: f"{float(match[0]):.2f}", " ".join(value.split()))
            if not rounded.startswith("rotate(-0 "):
                yield name, rounded
        elif name != "clip-path":  # nothing is drawn outside the axes
            yield name, value


def stroke(series: int | None, width: float) -> dict[str, Any]:
    """Return the style of a line, thin and grey without a series."""
    if series is None:
        return {"color": COLOURS["faint"], "linewidth": 1.0}
    return {"color": COLOURS[f"c{series}"], "linewidth": width}


def mark(series: int | None, size: float) -> dict[str, Any]:
    """Return the style of a point, small and grey without a series."""
    if series is None:
        return {"color": COLOURS["faint"], "marker": "o", "markersize": 0.6 * size}
    return {"color": COLOURS[f"c{series}"], "marker": MARKERS[series], "markersize": size}


def tip(artist: Artist, text: str) -> None:
    """Give an artist a tooltip."""
    artist.set_gid(TIP + printable(text))


def log_axis(axes: Axes, low: float, high: float) -> None:
    """Make the x axis logarithmic, with ticks at 1, 2 and 5 times powers of ten, on a long axis only at powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 300 else (1.0,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def short(value: float) -> str:
    """Format a number for a tick: 272.6 k, 1.5 M, 0.25."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return minus(f"{value:.4g}")
