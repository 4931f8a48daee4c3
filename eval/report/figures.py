"""What is told of entries to the plots of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eval import card
from eval.report.plots import Line, Plot, Point, lines, scatter

if TYPE_CHECKING:
    from eval.report.gather import Told

HEADLINES = ("ssim", "pearson", "iou")  # scores whose skill stands in the leaderboard, and is drawn and compared
TITLES = {"ssim": "SSIM", "pearson": "Pearson", "iou": "IoU"}
NOT_LOSSES = ("epoch", "test_top1", "lr", "images_per_s")


def accuracy(key: str, entries: Sequence[Told]) -> Plot:
    """Top-1 against multiply-accumulates where those of every entry are known, else against parameters."""
    costs = {each.name: each.result.cost for each in entries if each.result.cost}
    known = len(costs) == len(entries)
    label = "multiply-accumulates of an image" if known else "parameters"
    none = (math.nan, math.nan)
    points = [
        Point(
            e.name,
            e.series,
            costs[e.name].macs if known else e.result.parameters,
            e.result.figures["top1"],
            *e.result.intervals.get("top1", none),
        )
        for e in entries
    ]
    return scatter(f"{key}-accuracy", f"Accuracy against {label}", points, (label, "top-1, %"))


def alignment(key: str, entries: Sequence[Told]) -> tuple[Plot, ...]:
    """A plot for each score of the leaderboard: its skill by level, a line per entry that has a teacher."""
    found = []
    for score in HEADLINES:
        drawn = [
            Line(each.name, each.series, tuple(float(one.level) for one in of), tuple(one.skill for one in of))
            for each in entries
            if (of := [one for one in each.levels if one.score == score])
        ]
        if drawn:
            title = f"{TITLES[score]} with the teacher's maps, above chance"
            caption = "0: what maps of two different images score. 1: equal maps. Level 1 is the shallowest."
            found.append(lines(f"{key}-{score}", title, drawn, ("level", "skill"), caption, chance=True))
    return tuple(found)


def learning(key: str, entries: Sequence[Told]) -> Plot | None:
    """Accuracy on the test set by epoch, of the entries whose training log lies beside their weights."""
    drawn = []
    for each in entries:
        tested = [row for row in (each.run.log if each.run else ()) if row.get("test_top1")]
        if tested:
            epochs = tuple(float(row["epoch"]) for row in tested)
            drawn.append(Line(each.name, each.series, epochs, tuple(float(row["test_top1"]) for row in tested)))
    caption = "From the training logs. Weights are those of the last epoch; none was chosen by this curve."
    return lines(f"{key}-training", "Training", drawn, ("epoch", "test top-1, %"), caption) if drawn else None


def losses(name: str, log: card.Run | None) -> Plot | None:
    """The weighted terms of an entry's loss by epoch."""
    if log is None or not log.log:
        return None
    terms = [term for term in log.log[0] if term not in NOT_LOSSES]
    epochs = tuple(float(row["epoch"]) for row in log.log)
    drawn = [Line(t, place, epochs, tuple(float(row[t]) for row in log.log)) for place, t in enumerate(terms)]
    caption = "Each term with its weight, mean over the epoch's training images."
    return lines(f"{name}-losses", f"Loss terms of {name}", drawn, ("epoch", "loss"), caption)
