"""An entry to a trained network in a folder that timm loads, with its recipe, log and results beside it."""

from __future__ import annotations

import json
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from dctkd_zoo import atomic, export, licence, ranks, rows, weights
from dctkd_zoo.device import describe
from dctkd_zoo.errors import ZooError
from dctkd_zoo.spec import Entry
from eval import record as results_record
from eval import results
from eval import run as evaluation
from train import build, checkpoint, loop
from train.build import Material
from train.display import Display, figure
from train.interrupt import Interrupted, Requests
from train.keeper import Keeper
from train.where import Where

ENVIRONMENT = (
    "precision",
    "dataset_digest",
    "teacher_sha256",
    "teacher_config_sha256",
    "teacher_cache",
    "start_sha256",
    "start_config_sha256",
)  # facts that stand there too
BEST, LOG, ERROR = "best.safetensors", "train_log.csv", "error.txt"


def train(entry: Entry, where: Where, console: Console) -> Path:
    """Train an entry into `out/<name>` and return that folder; a finished run is left as it is.

    `Busy` where another process trains there, `Interrupted` where a signal asked this one to stop.
    """
    folder = where.out / entry.run_name
    if not _finished(entry, where, folder, console):
        with ranks.alone(folder, wait=False):
            if not _finished(entry, where, folder, console):
                _train(entry, where, folder, console)
    ranks.wait()  # the next entry may learn from this one
    return folder


def _finished(entry: Entry, where: Where, folder: Path, console: Console) -> bool:
    """Whether there is nothing left to train. Ranks go by what the first of them sees."""
    begun = checkpoint.begun(folder)  # it goes last, when the results are there too
    whole, begun = ranks.any_of(*(ranks.leads() and each for each in (weights.is_whole(folder), begun)))
    if whole and not begun:
        refuse_other_recipe(entry, folder, where)
        console.print(
            f"{entry.name} is trained already: {folder} (delete it to train again)", markup=False, soft_wrap=True
        )
    elif begun and not where.resume:
        raise ZooError(f"{folder} holds a run that stopped early: go on with --resume, or delete it")
    return whole and not begun


def _train(entry: Entry, where: Where, folder: Path, console: Console) -> None:
    if ranks.leads():
        atomic.sweep(folder)
        (folder / ERROR).unlink(missing_ok=True)
    material = build.prepare(entry, where)
    learner = build.build(entry, material, where, console)
    facts = {name: entry.facts()[name] for name in ("name", "recipe", "weights", "options")}
    facts |= {"precision": str(learner.precision), "dataset_digest": material.train.store.digest}
    if learner.guide is not None:
        facts |= {"teacher_sha256": learner.teacher_sha256, "teacher_config_sha256": learner.teacher_config_sha256}
        facts |= {"teacher_cache": where.teacher_cache}
    if material.start is not None:
        facts |= {"start_sha256": material.start.sha256, "start_config_sha256": material.start.config_sha256}
    progress = restore(folder, learner, facts, where.resume)
    if ranks.leads():
        write_facts(entry, folder, where, facts)
    run_epochs(entry, learner, material, progress, folder, console)
    if ranks.leads():
        export.write(learner.student.model, entry, material.dataset, material.classes, folder)
    ranks.wait()
    top1 = write_results(entry, folder, where)
    if ranks.leads():
        checkpoint.remove(folder)
    console.print(
        f"evaluated in float32: {top1:.2f} % top-1; written to {folder}", highlight=False, markup=False, soft_wrap=True
    )


def command(entry: Entry, where: Where) -> str:
    """What makes the same weights again."""
    cache = f" --teacher-cache {where.teacher_cache}" if where.teacher_cache and entry.terms else ""
    return entry.train_command + cache


def refuse_other_recipe(entry: Entry, folder: Path, where: Where) -> None:
    """Refuse a folder whose network was trained by another recipe than the entry's, or on other views."""
    differing = weights.trained_otherwise(folder, {"command": command(entry, where), **entry.facts()})
    if differing:
        raise ZooError(f"{folder} was trained with another {', '.join(differing)}; delete it or choose another --out")


def restore(folder: Path, learner: loop.Learner, facts: dict[str, Any], resume: bool) -> checkpoint.Progress:
    """The state to go on from: a new one, or that of the run in `folder` if it is the same run."""
    if not (resume and checkpoint.begun(folder)):
        return checkpoint.Progress(facts)
    state = checkpoint.load(folder)
    told = state.progress.facts
    if told != facts:
        differing = sorted(key for key in told | facts if told.get(key) != facts.get(key))
        raise ZooError(f"the run in {folder} is of another {', '.join(differing)}; delete it to start over")
    checkpoint.restore(state, learner.student.model, learner.objective, learner.optimizer)
    _same_for_all(folder, state.progress)
    if ranks.leads():
        checkpoint.discard_damaged(state)
    return state.progress


def _same_for_all(folder: Path, progress: checkpoint.Progress) -> None:
    """Refuse ranks that have not read the same state; go on when all have read it."""
    place = torch.tensor([progress.epoch, progress.step])
    if any(not torch.equal(place, other) for other in ranks.alike(place)):
        raise ZooError(f"{folder} is not the same for all ranks: give them an --out that all of them see")


def run_epochs(
    entry: Entry,
    learner: loop.Learner,
    material: Material,
    progress: checkpoint.Progress,
    folder: Path,
    console: Console,
) -> None:
    """Train to the last epoch; after each, test, keep the best, and write log and checkpoint."""
    recipe, images = entry.recipe, len(material.train.labels)
    begun = progress.epoch + min(progress.step * recipe.batch_size, images) / images
    with Display(entry.name, recipe.epochs, images, begun, console) as display, Requests() as requests:
        while progress.epoch < recipe.epochs:
            meter = loop.Meter(progress.epoch + 1, dict(progress.sums), progress.step)
            keeper = Keeper(folder, learner, progress, meter, requests)
            row = loop.epoch(
                learner,
                material.train,
                recipe.seed,
                progress.epoch,
                lambda done, losses: display.update(progress, done, losses),
                meter,
                keeper.between,
            )
            due = (progress.epoch + 1) % recipe.test_every == 0 or progress.epoch + 1 == recipe.epochs
            top1 = loop.top1(learner.student, material.test, learner.precision, keeper.between) if due else None
            record(progress, row, top1)
            if ranks.leads():
                if progress.best_epoch == progress.epoch:
                    checkpoint.save_model(folder / BEST, learner.student.model)
                write_log(progress, folder)
            keeper.save()
            display.finish_epoch(progress)
            if ranks.any_of(requests.asked is not None)[0]:
                raise Interrupted(requests.asked, f"after epoch {progress.epoch}")
    console.print(
        f"{entry.name}: last {progress.log[-1]['test_top1']:.2f} %, best {progress.best_top1:.2f} % in epoch "
        f"{progress.best_epoch} (chosen on the test set)",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def record(progress: checkpoint.Progress, row: dict[str, float], top1: float | None) -> None:
    """Add an epoch to the log, with its test accuracy where it was tested, and note whether that is the best so far."""
    progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
    progress.log.append({"epoch": progress.epoch, "test_top1": top1, **row})
    if top1 is not None and top1 > progress.best_top1:
        progress.best_top1, progress.best_epoch = top1, progress.epoch


def write_log(progress: checkpoint.Progress, folder: Path) -> None:
    """Write the log of all epochs so far as CSV."""
    told = [{name: figure(value, 6) for name, value in row.items()} for row in progress.log]
    atomic.write_text(folder / LOG, rows.as_csv(list(told[0]), told))


def write_results(entry: Entry, folder: Path, where: Where) -> float:
    """Evaluate the exported network as `python -m eval` does, into `results.json`; its top-1 in percent."""
    there = evaluation.Where(where.data, where.device, where.trained)
    result = evaluation.evaluate(entry, there, found=weights.from_folder(folder, "trained here"))
    if ranks.leads():
        atomic.write_text(folder / "results.json", results.as_json(results_record.row(result)))
    return result.figures["top1"]


def write_facts(entry: Entry, folder: Path, where: Where, facts: dict[str, Any]) -> None:
    """Write what the run is (`recipe.json`) and what it runs on (`environment.json`)."""
    recipe = weights.portable({"command": command(entry, where), **entry.facts()})
    environment: dict[str, str] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": describe(where.device),
        "python": platform.python_version(),
        "platform": sys.platform,
        **{name: version(name) for name in ("dctkd-zoo", "torch", "torchvision", "timm", "numpy", "pillow")},
        **{name: facts[name] for name in ENVIRONMENT if name in facts},
    }
    started = licence.of_start(entry)
    environment |= {"start_license": started} if started else {}
    atomic.write_text(folder / "recipe.json", json.dumps(recipe, indent=2) + "\n")
    atomic.write_text(folder / "environment.json", json.dumps(environment, indent=2) + "\n")
