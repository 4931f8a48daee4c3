"""Weights of loss terms, tried on held-out images: as many for each term, and never on the test set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from dctkd_zoo import distributed
from dctkd_zoo._io import atomic, json_file
from dctkd_zoo.cli.shell import Column, Grid
from dctkd_zoo.errors import CorruptFile
from dctkd_zoo.spec import Entry
from dctkd_zoo.weights.run_folder import BEST, WAY_ON
from eval.stats.bootstrap import wilson
from train import checkpoint, run
from train.config import TrainConfig

STEP = 4.0  # ratio of neighbouring weights
RESULT = "tuned.json"


@dataclass(frozen=True)
class Trial:
    """One weight of one term of an entry; the other weights are the entry's."""

    entry: Entry
    term: str
    weight: float

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.entry.run_name}.{self.term}={self.weight:g}"


@dataclass(frozen=True)
class Tried:
    """Top-1 of a trial in percent, best of its epochs on `images` held-out images."""

    trial: Trial
    top1: float
    epoch: int
    images: int


def trials(entry: Entry, tries: int, epochs: int | None = None) -> list[Trial]:
    """Return `tries` weights of each distillation term, a factor of `STEP` apart and around that of the entry.

    Their recipe is the entry's, for `epochs` if given, but trains without the images that it is judged by.
    """
    recipe = replace(entry.recipe, select="val", epochs=epochs or entry.recipe.epochs)
    result = []
    for term in entry.terms:
        for number in range(tries):
            weight = float(f"{entry.weights[term] * STEP ** (number - (tries - 1) / 2):.3g}")
            changed = replace(entry, recipe=recipe, weights={**entry.weights, term: weight})
            result.append(Trial(changed, term, weight))
    return result


def measure(trial: Trial, config: TrainConfig, console: Console) -> Tried:
    """Train a trial in `OUT/tune/<name>`, or read its result if that is there; an interrupted one is continued."""
    folder = config.out / "tune" / trial.name
    facts = {"trial": trial.entry.to_dict(), "teacher_cache": config.teacher_cache}
    with distributed.primary_lock(folder):
        known = _recorded(folder / RESULT, facts)
        if known is None:
            data, state, progress = run.begin(trial.entry, replace(config, resume=True), folder, console)
            run.run_epochs(trial.entry, state, data, progress, folder, console)
            known = {"top1": progress.best_top1, "epoch": progress.best_epoch, "images": len(data.judge.labels)}
            if distributed.is_primary():
                atomic.write_text(folder / RESULT, json.dumps({**facts, **known}, indent=2) + "\n")
                (folder / BEST).unlink(missing_ok=True)
                checkpoint.remove(folder)
    return Tried(trial, float(known["top1"]), int(known["epoch"]), int(known["images"]))


def _recorded(path: Path, facts: dict[str, Any]) -> dict[str, Any] | None:
    """Return the result in a file if it is of these facts."""
    if not path.is_file():
        return None
    result: dict[str, Any] = json_file.read_object(path, CorruptFile, WAY_ON)
    return result if all(result.get(name) == value for name, value in facts.items()) else None


def table(tried: Sequence[Tried]) -> Grid:
    """Return a table of the trials, the best of each entry's terms in bold."""
    best = [max(group, key=lambda item: item.top1) for group in _by_term(tried)]
    columns = [
        Column("entry"),
        Column("term"),
        *(Column(title, right=True) for title in ("weight", "val top-1", "epoch")),
    ]
    rows = [[Text(cell, "bold" if item in best else "") for cell in _cells(item)] for item in tried]
    images = max(item.images for item in tried)
    reach = max(100 * (high - low) / 2 for low, high in (wilson(item.top1 / 100, item.images) for item in tried))
    caption = (
        f"Top-1 in % of {images:,} held-out training images, ± {reach:.1f} (95 %): nearer values are not told apart. "
        "Bold: best of a term. The test set was not used."
    )
    return Grid(columns, rows, caption=Text(caption), spare=("epoch",))


def _by_term(tried: Iterable[Tried]) -> list[list[Tried]]:
    groups: dict[tuple[str, str], list[Tried]] = {}
    for item in tried:
        groups.setdefault((item.trial.entry.name, item.trial.term), []).append(item)
    return [*groups.values()]


def _cells(item: Tried) -> tuple[str, ...]:
    trial = item.trial
    return trial.entry.run_name, trial.term, f"{trial.weight:g}", f"{item.top1:.2f}", str(item.epoch)
