"""Charts of a report, each with its numbers in a table."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from dctkd_zoo.errors import printable
from dctkd_zoo.weights import run_folder
from eval.columns import number
from eval.report.data import HEADLINES, DatasetData, EntryData
from eval.report.svg import COLOURS, DASHED, MARKERS, log_axis, mark, picture, short, stroke, tip

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COUNTED = 20  # most classes for which its cells have numbers
LONGEST = 24  # most characters of a class's name
SIZE, SCALE = (360.0, 240.0), 1.5  # size of a chart in px, and how much it may be enlarged
TITLES = {"ssim": "SSIM", "pearson": "Pearson", "iou": "IoU"}

Legend = tuple[tuple[str, int | None], ...]


@dataclass(frozen=True)
class Chart:
    """A plot with title, caption and its numbers; `legend` is empty if it uses the legend of its dataset.

    The first `words` columns of the `rows` are text.
    """

    title: str
    svg: Markup
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    legend: Legend = ()
    words: int = 1


@dataclass(frozen=True)
class Line:
    """A line with a name and a colour (`series`, grey for None) through its finite points."""

    name: str
    series: int | None
    points: Sequence[tuple[float, float]]

    def known(self) -> list[tuple[float, float]]:
        """Return the finite points."""
        return [item for item in self.points if all(map(math.isfinite, item))]


# --- charts of a dataset


def of_dataset(data: DatasetData) -> list[Chart]:
    """Return the charts of a dataset: accuracy, training, and alignment by level for each score."""
    charts = (accuracy(data), training(data), *(alignment(data, score) for score in HEADLINES))
    return [item for item in charts if item]


def accuracy(data: DatasetData) -> Chart | None:
    """Plot top-1 against multiply-accumulates if those of all entries are known, else against parameters."""
    has_macs = all(item.row.get("macs") for item in data.entries)
    label, column = ("multiply-accumulates per image", "macs") if has_macs else ("parameters", "parameters")
    points = [(item, float(item.row[column])) for item in data.entries if item.row.get(column)]
    columns: defaultdict[float, list[EntryData]] = defaultdict(list)
    for item, x in points:
        columns[x].append(item)
    if not points:
        return None

    def draw(axes: Axes) -> None:
        ends = min(columns) / 1.7, max(columns) * 1.7
        log_axis(axes, *ends)
        axes.set(xlabel=label, ylabel="top-1, %")
        axes.grid(axis="y")
        for x, entries in columns.items():
            step = min(0.035, 0.22 / len(entries)) * math.log(ends[1] / ends[0])
            for index, item in enumerate(reversed(entries)):
                at = x * math.exp((index - (len(entries) - 1) / 2) * step)
                value = item.values["top1"]
                if all(map(math.isfinite, value.ends)):
                    axes.plot([at, at], value.ends, **stroke(item.series, 1.4))
                (point,) = axes.plot([at], [value.value], **mark(item.series, 6.5))
                tip(point, f"{item.label}: {number(value.value, 2)} at {short(x)}")

    seeds = any(len(item.seeds) > 1 for item in data.entries)
    spread = "one standard deviation over training seeds" if seeds else "95 % intervals over test images"
    rows = tuple(
        (item.name, f"{x:,.0f}", number(top1.value, 2), " to ".join(number(end, 2) for end in top1.ends))
        for item, x in points
        if (top1 := item.values["top1"])
    )
    title, description = f"Accuracy against {label}", "; ".join(f"{row[0]} {row[2]} at {row[1]}" for row in rows)
    return Chart(
        title,
        picture(f"{data.dataset.name}-accuracy", title, description, SIZE, draw, SCALE),
        f"Whiskers: {spread}. Entries of the same size are side by side.",
        ("entry", label, "top-1, %", "mean ± sd" if seeds else "95 % interval"),
        rows,
    )


def alignment(data: DatasetData, score: str) -> Chart | None:
    """Plot a score's skill by level, a line for each entry whose maps are compared with a teacher's."""
    lines = [
        Line(item.label, item.series, [(float(one.level), one.skill) for one in item.levels if one.score == score])
        for item in data.entries
    ]
    title = f"{TITLES[score]} skill by level"
    caption = "Similarity of attention maps to the teacher's. 0: chance, 1: equal maps. Level 1 is the shallowest."
    return curves(f"{data.dataset.name}-{score}", title, lines, ("level", "skill"), caption, chance=True)


def training(data: DatasetData) -> Chart | None:
    """Plot top-1 by epoch, for the entries that have a training log next to their weights."""
    lines = [
        Line(item.label, item.series, [(float(epoch), top1) for epoch, top1 in judged])
        for item in data.entries
        if item.run and (judged := run_folder.judged(item.run.log))
    ]
    runs = [item.run for item in data.entries if item.run]
    by_val = any(run.selection == "val" for run in runs)
    how = "on held-out images for runs that chose their epoch by them, else on the test set, which chose none"
    caption = f"From the training logs: {how if by_val else 'on the test set, which chose no epoch'}."
    return curves(f"{data.dataset.name}-training", "Training", lines, ("epoch", "top-1, %"), caption)


# --- charts of an entry


def losses(entry: EntryData) -> Chart | None:
    """Plot the weighted terms of an entry's loss by epoch."""
    log = entry.run.log if entry.run else ()
    terms = [term for term in log[0] if term not in run_folder.NOT_LOSSES] if log else []
    lines = [
        Line(term, index if index < len(MARKERS) else None, [(float(row["epoch"]), float(row[term])) for row in log])
        for index, term in enumerate(terms)
    ]
    caption = "Each term multiplied by its weight, mean over the training images of the epoch."
    title, legend = f"Loss terms of {entry.name}", tuple((line.name, line.series) for line in lines)
    return curves(f"{entry.name}-losses", title, lines, ("epoch", "loss"), caption, legend)


def reliability(entry: EntryData) -> Chart | None:
    """Plot the accuracy of each bin of confidence; None without predictions."""
    if entry.per_image is None:
        return None
    bins = [item for item in entry.per_image.bins.to_dict("records") if item["images"]]
    rows = tuple(
        (
            f"{100 * item['low']:.0f} to {100 * item['high']:.0f}", f"{item['images']:,}",
            number(item["confidence"], 1), number(item["accuracy"], 1),
        )
        for item in bins
    )  # fmt: skip
    descriptions = [f"{row[1]} images of confidence {row[0]} %: {row[3]} % right" for row in rows]

    def draw(axes: Axes) -> None:
        axes.set(xlabel="confidence, %", ylabel="accuracy, %", xlim=(0, 100), ylim=(0, 102))
        axes.grid(axis="y")
        axes.plot([0, 100], [0, 100], color=COLOURS["dim"], linestyle=DASHED, linewidth=1.2)
        most = max(item["images"] for item in bins)
        for item, text in zip(bins, descriptions, strict=True):
            left, right = 100 * item["low"] + 0.4, 100 * item["high"] - 0.4
            (bar,) = axes.bar(left, item["accuracy"], right - left, align="edge", color=COLOURS["accent"])
            bar.set_alpha(0.3 + 0.7 * math.sqrt(item["images"] / most))
            tip(bar, text)
            axes.plot([item["confidence"]], [item["accuracy"]], "o", color=COLOURS["ink"], markersize=4)

    title = f"Reliability of {entry.name}"
    return Chart(
        title,
        picture(f"{entry.name}-reliability", title, "; ".join(descriptions), SIZE, draw, SCALE),
        "On the diagonal, confidence equals accuracy. Darker bars have more images. Dots: mean confidence of a bar.",
        ("confidence, %", "images", "mean confidence, %", "accuracy, %"),
        rows,
    )


def confusion(entry: EntryData) -> Chart | None:
    """Draw the confusion matrix, true classes by predicted classes; None for more than `LARGEST` classes."""
    if entry.per_image is None or entry.per_image.matrix is None:
        return None
    matrix, names = entry.per_image.matrix, entry.per_image.classes
    count, totals = len(names), matrix.sum(axis=1)
    cells = [(row, column) for row in range(count) for column in range(count) if matrix[row, column]]
    share = {(row, column): float(matrix[row, column] / totals[row]) for row, column in cells}
    labels = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in map(printable, names)]
    edge = 12 + 5.6 * max(map(len, labels))
    side = count * (24.0 if count <= COUNTED else 14.0)
    width, height = (float(math.ceil(px)) for px in (1.72 * edge + side, 0.75 * edge + side + 4))

    def draw(axes: Axes) -> None:
        from matplotlib.patches import Rectangle

        axes.set_position((edge / width, 4 / height, side / width, side / height))
        for row, column in cells:
            colour = COLOURS["accent" if row == column else "c1"]
            patch = Rectangle((column + 0.03, row + 0.03), 0.94, 0.94, color=colour, linewidth=0)
            patch.set_alpha(0.1 + 0.55 * math.sqrt(share[row, column]))
            images = f"{matrix[row, column]:,} images, {100 * share[row, column]:.1f} %"
            tip(axes.add_patch(patch), f"{names[row]} predicted as {names[column]}: {images}")
            if count <= COUNTED:
                axes.text(column + 0.5, row + 0.53, str(matrix[row, column]), ha="center", va="center", fontsize=9.5)
        middles = [index + 0.5 for index in range(count)]
        axes.set(xlim=(0, count), ylim=(count, 0))
        axes.xaxis.tick_top()
        axes.set_xticks(middles, labels, rotation=45, ha="left", rotation_mode="anchor", fontsize=9.5)
        axes.set_yticks(middles, labels, fontsize=9.5)
        axes.tick_params(length=0)
        axes.spines[:].set(visible=True, color=COLOURS["rule"])

    wrong = sorted((pair for pair in cells if pair[0] != pair[1]), key=lambda pair: -matrix[pair])
    title = f"Confusion matrix of {entry.name}"
    right = f"{matrix.diagonal().sum():,} of {matrix.sum():,} images"
    description = f"{right} are on the diagonal, where the prediction is right."
    return Chart(
        title,
        picture(f"{entry.name}-confusion", title, description, (width, height), draw, 1.15),
        "Rows: true class. Columns: predicted class. Darker cells have a larger share of the class's images.",
        ("true class", "predicted class", "images", "% of the class"),
        tuple((names[r], names[c], f"{matrix[r, c]:,}", number(100 * share[r, c], 1)) for r, c in wrong),
        words=2,
    )


def curves(
    key: str,
    title: str,
    lines: Sequence[Line],
    labels: tuple[str, str],
    caption: str,
    legend: Legend = (),
    chance: bool = False,
) -> Chart | None:
    """Plot lines over epochs or levels, with a line at 0 for `chance`; None without any finite point."""
    lines = [line for line in lines if line.known()]
    if not lines:
        return None
    xs = sorted({x for line in lines for x, _ in line.known()})

    def draw(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.grid(axis="y")
        for line in sorted(lines, key=lambda item: item.series is not None):  # grey lines first, behind the others
            x, y = zip(*line.known(), strict=True)
            style = stroke(line.series, 1.8) | mark(line.series, 5)
            (artist,) = axes.plot(x, y, markevery=max(1, len(x) // 8), **style)
            tip(artist, f"{line.name}: {number(y[0], 3)} at {x[0]:g}, {number(y[-1], 3)} at {x[-1]:g}")
        if chance:
            axes.axhline(0, color=COLOURS["dim"], linestyle=DASHED, linewidth=1.2)
            axes.text(xs[-1], 0, "chance", color=COLOURS["dim"], ha="right", va="bottom", fontsize=9)
        elif axes.get_ylim()[0] > 0:
            axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))

    values = [dict(line.known()) for line in lines]
    ends = [(line.name, *(number(y, 3) for _, y in (line.known()[0], line.known()[-1]))) for line in lines]
    changes = "; ".join(f"{name} from {first} to {last}" for name, first, last in ends)
    return Chart(
        title,
        picture(key, title, f"{labels[1]} by {labels[0]}. {changes}", SIZE, draw, SCALE),
        caption,
        (labels[0], *(line.name for line in lines)),
        tuple((f"{x:g}", *(number(item.get(x, math.nan), 3) for item in values)) for x in xs),
        legend,
    )
