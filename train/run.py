"""Training of an entry into a folder that timm can load, with its recipe, log and results."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

from dctkd_zoo import distributed, registry, weights
from dctkd_zoo._io import atomic, csv_rows
from dctkd_zoo.device import describe
from dctkd_zoo.errors import ZooError
from dctkd_zoo.models import export
from dctkd_zoo.spec import Entry, Recipe
from dctkd_zoo.weights import licence
from dctkd_zoo.weights.run_folder import BEST, ENVIRONMENT, ERROR, LOG, RECIPE, RESULTS, TOP1
from eval.run import evaluation, results_csv
from eval.run import result_row as results_record
from eval.run.config import EvalConfig
from train import checkpoint, loop, precision, run_log, setup
from train.checkpoint import CheckpointManager
from train.config import TrainConfig
from train.launch.plan import CHANGES
from train.progress import Display, format_cell
from train.run_log import RunLog
from train.setup import TrainData
from train.signals import Interrupted, StopSignal

RECORDED = (
    "precision",
    "dataset_digest",
    "teacher_sha256",
    "teacher_config_sha256",
    "teacher_cache",
    "start_sha256",
    "start_config_sha256",
)  # facts that are also written to environment.json


# What the best epoch is, by a recipe's `select`.
MEANING = {"last": "", "val": ", whose weights are the result", "released": " (chosen on the test set: not the result)"}


def train(entry: Entry, config: TrainConfig, console: Console) -> Path:
    """Train an entry into `out/<name>` and return that folder; a finished run is left unchanged.

    `Busy` if another process is training there, `Interrupted` if a signal stopped this one.
    """
    folder = config.out / entry.run_name
    if not _finished(entry, config, folder, console):
        with distributed.primary_lock(folder, wait=False):
            if not _finished(entry, config, folder, console):
                _train(entry, config, folder, console)
    distributed.barrier()  # the next entry may need this one as its teacher
    return folder


def _finished(entry: Entry, config: TrainConfig, folder: Path, console: Console) -> bool:
    """Return whether the run is finished, as seen by the primary rank."""
    has_checkpoint = checkpoint.begun(folder)  # deleted last, once the results are written
    complete, has_checkpoint = distributed.any_rank(
        *(distributed.is_primary() and flag for flag in (weights.is_complete(folder), has_checkpoint))
    )
    if complete and not has_checkpoint:
        refuse_other_recipe(entry, folder, config)
        console.print(
            f"{entry.name} is already trained: {folder} (delete it to train again)", markup=False, soft_wrap=True
        )
    elif has_checkpoint and not config.resume:
        raise ZooError(f"{folder} holds an interrupted run: continue it with --resume, or delete it")
    return complete and not has_checkpoint


def _train(entry: Entry, config: TrainConfig, folder: Path, console: Console) -> None:
    data, state, progress = begin(entry, config, folder, console)
    with run_log.opened(entry, config, progress, len(data.train.labels), folder) as log:
        run_epochs(entry, state, data, progress, folder, console, log)
    if distributed.is_primary():
        export.write(chosen_network(entry, state, folder), entry, data.dataset, data.classes, folder)
    distributed.barrier()
    top1 = write_results(entry, folder, config)
    if distributed.is_primary():
        checkpoint.remove(folder)
    console.print(
        f"evaluated in float32: {top1:.2f} % top-1; written to {folder}", highlight=False, markup=False, soft_wrap=True
    )


def begin(
    entry: Entry, config: TrainConfig, folder: Path, console: Console
) -> tuple[TrainData, loop.TrainState, checkpoint.Progress]:
    """Return all that a run in `folder` needs, at its beginning or where it was interrupted, and write its facts."""
    if distributed.is_primary():
        atomic.sweep(folder)
        (folder / ERROR).unlink(missing_ok=True)
    data = setup.prepare(entry, config)
    few = next(data.train.test(min(precision.IMAGES, entry.recipe.batch_size)))
    config = replace(config, precision=precision.chosen(entry, few, len(data.train.labels), config, folder, console))
    state = setup.build(entry, data, config, console)
    facts = {name: entry.to_dict()[name] for name in ("name", "recipe", "weights", "options")}
    facts |= {"precision": str(state.precision), "dataset_digest": data.train.store.digest}
    if state.teacher is not None:
        facts |= {"teacher_sha256": state.teacher_sha256, "teacher_config_sha256": state.teacher_config_sha256}
        facts |= {"teacher_cache": config.teacher_cache}
    if data.start is not None:
        facts |= {"start_sha256": data.start.sha256, "start_config_sha256": data.start.config_sha256}
    progress = restore(folder, state, facts, config.resume)
    if distributed.is_primary():
        write_facts(entry, folder, config, facts, data.start.origin if data.start else None)
    return data, replace(state, measures_norm=run_log.measures_norm(progress, config)), progress


def chosen_network(entry: Entry, state: loop.TrainState, folder: Path) -> nn.Module:
    """Return the network of the epoch that is the result: the last, or the best one on val."""
    network = state.result.model
    if entry.recipe.select == "val":
        network.load_state_dict(load_file(folder / BEST))
    return network


def command(entry: Entry, config: TrainConfig) -> str:
    """Return the command that reproduces the weights, with options for what differs from the catalog's recipe."""
    catalogued = registry.entries().get(entry.name, entry).recipe
    values = ((name, getattr(entry.recipe, name)) for name in CHANGES)
    changed = [f" --{name.replace('_', '-')} {value:g}" for name, value in values if value != getattr(catalogued, name)]
    cache = f" --teacher-cache {config.teacher_cache}" if config.teacher_cache and entry.terms else ""
    given = config.precision if config.precision != entry.recipe.precision else None
    number_format = f" --precision {given}" if given else ""
    return "".join([entry.train_command, *changed, cache, number_format])


def refuse_other_recipe(entry: Entry, folder: Path, config: TrainConfig) -> None:
    """Refuse a folder whose network was trained with another recipe than the entry's, or on other views."""
    given = replace(config, precision=None)
    differing = weights.recipe_mismatch(folder, {"command": command(entry, given), **entry.to_dict()})
    if differing:
        raise ZooError(f"{folder} was trained with another {', '.join(differing)}; delete it or choose another --out")


def restore(folder: Path, state: loop.TrainState, facts: dict[str, Any], resume: bool) -> checkpoint.Progress:
    """Return new progress, or load the checkpoint in `folder` into `state` and return its progress.

    `ZooError` if the checkpoint belongs to another run: other recipe, precision, data, teacher or starting weights.
    """
    if not (resume and checkpoint.begun(folder)):
        return checkpoint.Progress(facts)
    saved = checkpoint.load(folder)
    previous = saved.progress.facts
    if previous != facts:
        differing = sorted(key for key in previous | facts if previous.get(key) != facts.get(key))
        raise ZooError(f"the run in {folder} used another {', '.join(differing)}; delete it to start over")
    checkpoint.restore(saved, state.student.model, state.objective, state.optimizer, state.average)
    _check_same_on_all_ranks(folder, saved.progress)
    if distributed.is_primary():
        checkpoint.discard_damaged(saved)
    return saved.progress


def _check_same_on_all_ranks(folder: Path, progress: checkpoint.Progress) -> None:
    """Refuse to resume if ranks have read different checkpoints; returns once all ranks have read theirs."""
    position = torch.tensor([progress.epoch, progress.step])
    if any(not torch.equal(position, other) for other in distributed.all_gather(position)):
        raise ZooError(f"{folder} differs between ranks: choose an --out on a disk that all of them share")


def run_epochs(
    entry: Entry,
    state: loop.TrainState,
    data: TrainData,
    progress: checkpoint.Progress,
    folder: Path,
    console: Console,
    log: RunLog | None = None,
) -> None:
    """Train to the last epoch, or until val has not become better; write log and checkpoint after each.

    Epochs are judged by val if the recipe selects by it, else by the test set.
    """
    recipe, images = entry.recipe, len(data.train.labels)
    log = log or RunLog((), recipe, 1)
    epochs_done = progress.epoch + min(progress.step * recipe.batch_size, images) / images
    chosen_on = data.judge_name if MEANING[recipe.select] else ""
    display = Display(entry.name, recipe.epochs, images, epochs_done, console, chosen_on)
    with display, StopSignal() as stop_signal:
        while not is_over(recipe, progress):
            meter = loop.Meter(progress.epoch + 1, dict(progress.sums), progress.step)
            checkpoints = CheckpointManager(folder, state, progress, meter, stop_signal)
            row = loop.epoch(
                state,
                data.train,
                recipe.seed,
                progress.epoch,
                partial(_report, display, log, progress, meter),
                meter,
                checkpoints.on_step_end,
            )
            is_tested = (progress.epoch + 1) % recipe.test_every == 0 or progress.epoch + 1 == recipe.epochs
            top1 = loop.top1(state.result, data.judge, state.precision, checkpoints.on_step_end) if is_tested else None
            record(progress, row, top1, data.judge_name)
            if distributed.is_primary():
                if progress.best_epoch == progress.epoch and recipe.select != "last":
                    checkpoint.save_model(folder / BEST, state.result.model)
                write_log(progress, folder)
                log.epoch(progress.log[-1], meter)
            checkpoints.save()
            display.finish_epoch(progress)
            if distributed.any_rank(stop_signal.signum is not None)[0]:
                raise Interrupted(stop_signal.signum, f"after epoch {progress.epoch}")
    last = f"{entry.name}: {progress.log[-1][f'{data.judge_name}_top1']:.2f} % on {data.judge_name} in the last epoch"
    best = f", best {progress.best_top1:.2f} % in epoch {progress.best_epoch}{MEANING[recipe.select]}"
    early = f" ({progress.epoch} of {recipe.epochs}: no better one in {progress.epoch - progress.best_epoch})"
    ended = early if progress.epoch < recipe.epochs else ""
    text = f"{last}{ended}{best if MEANING[recipe.select] else ''}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _report(
    display: Display,
    log: RunLog,
    progress: checkpoint.Progress,
    meter: loop.Meter,
    done: int,
    losses: dict[str, float],
) -> None:
    display.update(progress, done, losses)
    log.recent(progress.epoch, meter)


def is_over(recipe: Recipe, progress: checkpoint.Progress) -> bool:
    """Return whether training ends: all epochs are done, or the last one shows that val has not become better.

    The recipe's `patience` says for how many epochs it may not.
    """
    judged = bool(progress.log) and any(progress.log[-1].get(name) is not None for name in TOP1)
    waited = progress.epoch - progress.best_epoch
    return progress.epoch >= recipe.epochs or (judged and 0 < recipe.patience <= waited)


def record(progress: checkpoint.Progress, row: dict[str, float], top1: float | None, judge: str = "test") -> None:
    """Add an epoch to the log, and update the best accuracy if the epoch was judged."""
    progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
    progress.log.append({"epoch": progress.epoch, f"{judge}_top1": top1, **row})
    if top1 is not None and top1 > progress.best_top1:
        progress.best_top1, progress.best_epoch = top1, progress.epoch


def write_log(progress: checkpoint.Progress, folder: Path) -> None:
    """Write the log of all epochs so far as CSV."""
    rows = [{name: format_cell(value, 6) for name, value in row.items()} for row in progress.log]
    atomic.write_text(folder / LOG, csv_rows.as_csv(list(rows[0]), rows))


def write_results(entry: Entry, folder: Path, config: TrainConfig) -> float:
    """Evaluate the exported network as `python -m eval` does, write `results.json`, and return top-1 in percent."""
    eval_config = EvalConfig(config.data, config.device, config.trained)
    result = evaluation.evaluate(entry, eval_config, found=weights.from_folder(folder, "trained here"))
    if distributed.is_primary():
        atomic.write_text(folder / RESULTS, results_csv.as_json(results_record.row(result)))
    return result.figures["top1"]


def write_facts(entry: Entry, folder: Path, config: TrainConfig, facts: dict[str, Any], start: str | None) -> None:
    """Write the recipe (`recipe.json`) and the versions, device, data and teacher of a run (`environment.json`).

    `start` is the origin of the weights it starts from.
    """
    recipe = weights.portable({"command": command(entry, config), **entry.to_dict()})
    environment: dict[str, str] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": describe(config.device),
        "python": platform.python_version(),
        "platform": sys.platform,
        **{name: version(name) for name in ("dctkd-zoo", "torch", "torchvision", "timm", "numpy", "pillow")},
        **{name: facts[name] for name in RECORDED if name in facts},
    }
    beginning = {"start": start, "start_license": licence.of_start(entry)}
    environment |= {name: value for name, value in beginning.items() if value}
    atomic.write_text(folder / RECIPE, json.dumps(recipe, indent=2) + "\n")
    atomic.write_text(folder / ENVIRONMENT, json.dumps(environment, indent=2) + "\n")
