"""How time and memory grow with images, classes, levels and map sizes: `python -m benchmarks.growth --json FILE`.

Each cost is measured at several sizes in a process of its own. The exponent between the two largest sizes says how it
grows: 1 is linear.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.harness.orders import Work, growth, seconds
from benchmarks.harness.setting import Setting, home
from benchmarks.harness.sides import process
from dctkd_zoo import losses, models, registry
from dctkd_zoo._io import atomic
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.pixel_cache import open_pixel_cache
from dctkd_zoo.data.split import Arrays, Split
from dctkd_zoo.device import fp32_inference
from dctkd_zoo.features import FeatureExtractor, Output
from dctkd_zoo.objective import Objective
from eval.metrics import _base
from eval.run import results_csv
from eval.stats import intervals, per_class

BATCH, CLASSES, SIDE, LEVELS = 32, 100, 28, 4
HEADINGS = ("cost", "grows with", "sizes", "time", "memory", "exponent of time", "of memory")


@dataclass(frozen=True)
class Cost:
    """A cost and what it grows with; `work` returns the work of one size."""

    name: str
    grows_with: str
    sizes: tuple[int, ...]
    work: Callable[[int], Work]


@dataclass(frozen=True)
class Grown:
    """Seconds and MiB at each size."""

    cost: Cost
    seconds: tuple[float, ...]
    mib: tuple[float, ...]


def table(images: int, classes: int) -> pd.DataFrame:
    """Return a per-image table with random values."""
    generator = np.random.default_rng(0)
    label, prediction = generator.integers(classes, size=(2, images))
    columns = {"id": [f"{number:06}" for number in range(images)], "label": label, "prediction": prediction}
    columns |= {"confidence": generator.random(images), "top1": 100.0 * (label == prediction)}
    columns |= {f"ssim.{level}": generator.random(images) for level in range(1, LEVELS + 1)}
    columns |= {f"chance.ssim.{level}": generator.random(images) for level in range(1, LEVELS + 1)}
    return pd.DataFrame(columns)


def bootstrap(images: int, classes: int) -> Work:
    """Return the intervals of all metrics of a table."""
    return partial(intervals.intervals, table(images, classes))


def report(classes: int, images: int = 100_000) -> Work:
    """Return the statistics of classes in a report."""
    rows, names = table(images, classes), [str(number) for number in range(classes)]
    return lambda: (per_class.per_class(rows, names), per_class.worst_pairs(rows, names))


def outputs(side: int, classes: int, levels: int) -> tuple[Output, Output, Batch]:
    """Return outputs of a student and a teacher whose largest maps are of `side` px, and a batch."""
    generator = torch.Generator().manual_seed(0)

    def output(width: int) -> Output:
        maps = tuple(
            torch.randn(BATCH, width, max(1, side >> level), max(1, side >> level), generator=generator)
            .contiguous(memory_format=torch.channels_last)
            .requires_grad_()
            for level in range(levels)
        )
        logits = torch.randn(BATCH, classes, generator=generator).requires_grad_()
        return Output(logits, maps, maps[-1].mean(dim=(2, 3)))

    labels = torch.arange(BATCH) % classes
    return output(64), output(128), Batch(torch.zeros(BATCH, 3, 8, 8), labels, labels)


def term(name: str, side: int = SIDE, classes: int = CLASSES, levels: int = LEVELS) -> Work:
    """Return a term's forward and backward pass."""
    student, teacher, batch = outputs(side, classes, levels)
    value = losses.create(name)
    value.setup(student, teacher, batch.labels)
    leaves = [student.logits, *student.maps]

    def work() -> None:
        loss = value(student, teacher, batch).mean()
        torch.autograd.grad(loss, leaves, allow_unused=True, retain_graph=True)

    return work


def metrics(side: int = SIDE, levels: int = LEVELS) -> Work:
    """Return the alignment metrics of a batch of an evaluation."""
    student, teacher, batch = outputs(side, CLASSES, levels)
    chosen = [
        item for item in _base.load(["iou", "pearson", "spectral", "ssim"]) if isinstance(item, _base.LevelMetric)
    ]

    def work() -> None:
        with fp32_inference():
            for metric in chosen:
                metric(student, teacher, batch)

    return work


def step(classes: int = CLASSES, batch: int = BATCH, side: int = 64) -> Work:
    """Return a training step of `r20` under a teacher of the same kind, with `ce`, `dctkd` and `kd`."""
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(batch, 3, side, side, generator=generator), torch.arange(batch) % classes
    student, teacher = (FeatureExtractor(models.create("r20", classes)) for _ in range(2))
    teacher.eval().requires_grad_(False)
    objective = Objective({"ce": 1.0, "dctkd": 1.0, "kd": 0.8}, {})
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9)

    def work() -> None:
        values = objective(student(images), teacher(images), Batch(images, labels, labels))
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(values.values())).sum().backward()
        optimizer.step()

    return work


def pixel_cache(images: int, side: int = 32) -> Work:
    """Return the building of a pixel cache of images in memory."""
    pixels = np.random.default_rng(0).integers(256, size=(images, side, side, 3), dtype=np.uint8)
    labels, ids = np.arange(images) % CLASSES, tuple(f"{number:06}" for number in range(images))
    split = Split(tuple(map(str, range(CLASSES))), ids, labels, Arrays(pixels))
    recipe = registry.get_entry("r20_synthscenes").recipe

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            open_pixel_cache(split, recipe, Path(folder))

    return work


IMAGES, MANY, SIDES = (1_000, 10_000, 100_000), (10, 100, 1_000, 10_000), (7, 14, 28, 56, 112)
COSTS = (
    Cost("bootstrap of all metrics", "images", IMAGES, partial(bootstrap, classes=CLASSES)),
    Cost("bootstrap of all metrics, 10,000 images", "classes", MANY, partial(bootstrap, 10_000)),
    Cost("statistics of classes in a report", "images", IMAGES, lambda size: report(CLASSES, size)),
    Cost("statistics of classes in a report, 100,000 images", "classes", MANY, report),
    Cost("pixel cache, built", "images", IMAGES, pixel_cache),
    Cost("training step of r20", "classes", MANY, step),
    Cost("training step of r20", "images in a batch", (8, 32, 128), lambda size: step(batch=size)),
    Cost("training step of r20", "side of the images", (32, 64, 128), lambda size: step(side=size)),
    Cost("term kd", "classes", MANY, lambda size: term("kd", classes=size)),
    Cost("term dist", "classes", MANY, lambda size: term("dist", classes=size)),
    Cost("term dctkd", "side of the maps", SIDES, lambda size: term("dctkd", side=size)),
    Cost("term dctkd", "levels", (1, 2, 4), lambda size: term("dctkd", levels=size)),
    Cost("alignment metrics of a batch", "side of the maps", SIDES, metrics),
    Cost("alignment metrics of a batch", "levels", (1, 2, 4), lambda size: metrics(levels=size)),
)


def measured(cost: Cost) -> Grown:
    """Measure a cost at each size, in a process of its own."""
    times, memory = [], []
    for size in cost.sizes:
        make = partial(_made, COSTS.index(cost), size)
        with process(make, Setting(Path()), keep_memory=True) as remote:
            memory.append(float(remote.ask(growth)))
            times.append(min(float(remote.ask(seconds)) for _ in range(3)))
    return Grown(cost, tuple(times), tuple(memory))


def _made(index: int, size: int, setting: Setting) -> Work:
    return COSTS[index].work(size)


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Return the power of the size that the last two values grow with; NaN if either is not positive."""
    if min(values[-2:]) <= 0:
        return math.nan
    return math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])


def cells(grown: Grown) -> tuple[str, ...]:
    """Return the cells of a row."""
    cost = grown.cost
    times, memory = (" / ".join(f"{value:.3g}" for value in values) for values in (grown.seconds, grown.mib))
    sizes = " / ".join(f"{size:,}" for size in cost.sizes)
    powers = (f"{exponent(cost.sizes, values):.1f}" for values in (grown.seconds, grown.mib))
    return (cost.name, cost.grows_with, sizes, f"{times} s", f"{memory} MiB", *powers)


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to FILE")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = parser().parse_args(arguments)
    result = Table(*HEADINGS)
    rows = []
    with tempfile.TemporaryDirectory(prefix="benchmarks.") as name, home(Path(name)):
        for cost in COSTS:
            rows.append(cells(measured(cost)))
            result.add_row(*rows[-1])
    Console(width=None if sys.stdout.isatty() else 170).print(result)
    if options.json:
        atomic.write_text(options.json, results_csv.as_json({"headings": HEADINGS, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
