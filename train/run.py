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

from dctkd_zoo import distributed, weights
from dctkd_zoo._io import atomic, csv_rows
from dctkd_zoo.device import describe
from dctkd_zoo.errors import ZooError
from dctkd_zoo.models import export
from dctkd_zoo.spec import Entry
from dctkd_zoo.weights import licence
from eval.run import evaluation, results_csv
from eval.run import result_row as results_record
from eval.run.config import EvalConfig
from train import checkpoint, loop, setup
from train.checkpoint import CheckpointManager
from train.config import TrainConfig
from train.progress import Display, format_cell
from train.setup import TrainData
from train.signals import Interrupted, StopSignal

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


def train(entry: Entry, config: TrainConfig, console: Console) -> Path:
    """Train an entry into `out/<name>` and return that folder; a finished run is left as it is.

    `Busy` where another process trains there, `Interrupted` where a signal asked this one to stop.
    """
    folder = config.out / entry.run_name
    if not _finished(entry, config, folder, console):
        with distributed.primary_lock(folder, wait=False):
            if not _finished(entry, config, folder, console):
                _train(entry, config, folder, console)
    distributed.barrier()  # the next entry may learn from this one
    return folder


def _finished(entry: Entry, config: TrainConfig, folder: Path, console: Console) -> bool:
    """Whether there is nothing left to train. Ranks go by what the first of them sees."""
    begun = checkpoint.begun(folder)  # it goes last, when the results are there too
    whole, begun = distributed.any_rank(
        *(distributed.is_primary() and item for item in (weights.is_complete(folder), begun))
    )
    if whole and not begun:
        refuse_other_recipe(entry, folder, config)
        console.print(
            f"{entry.name} is trained already: {folder} (delete it to train again)", markup=False, soft_wrap=True
        )
    elif begun and not config.resume:
        raise ZooError(f"{folder} holds a run that stopped early: go on with --resume, or delete it")
    return whole and not begun


def _train(entry: Entry, config: TrainConfig, folder: Path, console: Console) -> None:
    if distributed.is_primary():
        atomic.sweep(folder)
        (folder / ERROR).unlink(missing_ok=True)
    material = setup.prepare(entry, config)
    learner = setup.build(entry, material, config, console)
    facts = {name: entry.to_dict()[name] for name in ("name", "recipe", "weights", "options")}
    facts |= {"precision": str(learner.precision), "dataset_digest": material.train.store.digest}
    if learner.guide is not None:
        facts |= {"teacher_sha256": learner.teacher_sha256, "teacher_config_sha256": learner.teacher_config_sha256}
        facts |= {"teacher_cache": config.teacher_cache}
    if material.start is not None:
        facts |= {"start_sha256": material.start.sha256, "start_config_sha256": material.start.config_sha256}
    progress = restore(folder, learner, facts, config.resume)
    if distributed.is_primary():
        write_facts(entry, folder, config, facts)
    run_epochs(entry, learner, material, progress, folder, console)
    if distributed.is_primary():
        export.write(learner.student.model, entry, material.dataset, material.classes, folder)
    distributed.barrier()
    top1 = write_results(entry, folder, config)
    if distributed.is_primary():
        checkpoint.remove(folder)
    console.print(
        f"evaluated in float32: {top1:.2f} % top-1; written to {folder}", highlight=False, markup=False, soft_wrap=True
    )


def command(entry: Entry, config: TrainConfig) -> str:
    """What makes the same weights again."""
    cache = f" --teacher-cache {config.teacher_cache}" if config.teacher_cache and entry.terms else ""
    return entry.train_command + cache


def refuse_other_recipe(entry: Entry, folder: Path, config: TrainConfig) -> None:
    """Refuse a folder whose network was trained by another recipe than the entry's, or on other views."""
    differing = weights.recipe_mismatch(folder, {"command": command(entry, config), **entry.to_dict()})
    if differing:
        raise ZooError(f"{folder} was trained with another {', '.join(differing)}; delete it or choose another --out")


def restore(folder: Path, learner: loop.TrainState, facts: dict[str, Any], resume: bool) -> checkpoint.Progress:
    """The state to go on from: a new one, or that of the run in `folder` if it is the same run."""
    if not (resume and checkpoint.begun(folder)):
        return checkpoint.Progress(facts)
    state = checkpoint.load(folder)
    meta = state.progress.facts
    if meta != facts:
        differing = sorted(key for key in meta | facts if meta.get(key) != facts.get(key))
        raise ZooError(f"the run in {folder} is of another {', '.join(differing)}; delete it to start over")
    checkpoint.restore(state, learner.student.model, learner.objective, learner.optimizer)
    _same_for_all(folder, state.progress)
    if distributed.is_primary():
        checkpoint.discard_damaged(state)
    return state.progress


def _same_for_all(folder: Path, progress: checkpoint.Progress) -> None:
    """Refuse ranks that have not read the same state; go on when all have read it."""
    path = torch.tensor([progress.epoch, progress.step])
    if any(not torch.equal(path, other) for other in distributed.all_gather(path)):
        raise ZooError(f"{folder} is not the same for all ranks: give them an --out that all of them see")


def run_epochs(
    entry: Entry,
    learner: loop.TrainState,
    material: TrainData,
    progress: checkpoint.Progress,
    folder: Path,
    console: Console,
) -> None:
    """Train to the last epoch; after each, test, keep the best, and write log and checkpoint."""
    recipe, images = entry.recipe, len(material.train.labels)
    begun = progress.epoch + min(progress.step * recipe.batch_size, images) / images
    with Display(entry.name, recipe.epochs, images, begun, console) as display, StopSignal() as requests:
        while progress.epoch < recipe.epochs:
            meter = loop.Meter(progress.epoch + 1, dict(progress.sums), progress.step)
            keeper = CheckpointManager(folder, learner, progress, meter, requests)
            row = loop.epoch(
                learner,
                material.train,
                recipe.seed,
                progress.epoch,
                lambda done, losses: display.update(progress, done, losses),
                meter,
                keeper.on_step_end,
            )
            expected = (progress.epoch + 1) % recipe.test_every == 0 or progress.epoch + 1 == recipe.epochs
            top1 = (
                loop.top1(learner.student, material.test, learner.precision, keeper.on_step_end) if expected else None
            )
            record(progress, row, top1)
            if distributed.is_primary():
                if progress.best_epoch == progress.epoch:
                    checkpoint.save_model(folder / BEST, learner.student.model)
                write_log(progress, folder)
            keeper.save()
            display.finish_epoch(progress)
            if distributed.any_rank(requests.asked is not None)[0]:
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
    meta = [{name: format_cell(value, 6) for name, value in row.items()} for row in progress.log]
    atomic.write_text(folder / LOG, csv_rows.as_csv(list(meta[0]), meta))


def write_results(entry: Entry, folder: Path, config: TrainConfig) -> float:
    """Evaluate the exported network as `python -m eval` does, into `results.json`; its top-1 in percent."""
    there = EvalConfig(config.data, config.device, config.trained)
    result = evaluation.evaluate(entry, there, found=weights.from_folder(folder, "trained here"))
    if distributed.is_primary():
        atomic.write_text(folder / "results.json", results_csv.as_json(results_record.row(result)))
    return result.figures["top1"]


def write_facts(entry: Entry, folder: Path, config: TrainConfig, facts: dict[str, Any]) -> None:
    """Write what the run is (`recipe.json`) and what it runs on (`environment.json`)."""
    recipe = weights.portable({"command": command(entry, config), **entry.to_dict()})
    environment: dict[str, str] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": describe(config.device),
        "python": platform.python_version(),
        "platform": sys.platform,
        **{name: version(name) for name in ("dctkd-zoo", "torch", "torchvision", "timm", "numpy", "pillow")},
        **{name: facts[name] for name in ENVIRONMENT if name in facts},
    }
    started = licence.of_start(entry)
    environment |= {"start_license": started} if started else {}
    atomic.write_text(folder / "recipe.json", json.dumps(recipe, indent=2) + "\n")
    atomic.write_text(folder / "environment.json", json.dumps(environment, indent=2) + "\n")
