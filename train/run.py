"""An entry to a trained network in a folder that timm loads, with its recipe, log and results beside it."""

from __future__ import annotations

import csv
import io
import json
import logging
import platform
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from dctkd_zoo import atomic, export, lock, models, registry, teachers, weights
from dctkd_zoo.data import load
from dctkd_zoo.data.split import Split
from dctkd_zoo.data.store import Store, open_store, resident
from dctkd_zoo.data.views import Views, derive
from dctkd_zoo.device import describe, place, precision
from dctkd_zoo.errors import DatasetError, ZooError
from dctkd_zoo.features import Tapped
from dctkd_zoo.home import cache_home
from dctkd_zoo.objective import Objective
from dctkd_zoo.spec import Dataset, Entry
from eval import record as results_record
from eval import results
from eval import run as evaluation
from train import checkpoint, compiled, loop, teacher
from train import guide as guides
from train.display import Display, figure
from train.optim import optimizer

log = logging.getLogger(__name__)

ENVIRONMENT = ("precision", "dataset_digest", "teacher_sha256", "teacher_cache")  # facts that stand there too
STATE, BEST, LOG = "checkpoint.safetensors", "best.safetensors", "train_log.csv"


@dataclass(frozen=True)
class Where:
    """Where a run reads, computes and writes; what it trains is the entry's business."""

    data: Path | None
    out: Path
    device: torch.device
    resume: bool = False
    trained: Path | None = None  # where teachers are looked for before anywhere else
    teacher_cache: int | None = None  # train on so many fixed views, with what the teacher said of them


@dataclass(frozen=True)
class Material:
    """The data of a run: both splits and their views."""

    dataset: Dataset
    train: Views
    test: Views
    classes: tuple[str, ...]


def train(entry: Entry, where: Where, console: Console) -> Path:
    """Train an entry into `out/<name>` and return that folder; `Busy` where another process does."""
    folder = where.out / entry.run_name
    with lock.held(folder, wait=False):
        return _train(entry, folder, where, console)


def _train(entry: Entry, folder: Path, where: Where, console: Console) -> Path:
    """Train it; a finished run is left as it is."""
    begun = (folder / STATE).exists()  # it goes last, when the results are there too
    if weights.is_whole(folder) and not begun:
        refuse_other_recipe(entry, folder, where)
        console.print(f"{entry.name} is trained already: {folder} (delete it to train again)", soft_wrap=True)
        return folder
    if begun and not where.resume:
        raise ZooError(f"{folder} holds a run that stopped early: go on with --resume, or delete it")
    material = prepare(entry, where)
    learner = build(entry, material, where, console)
    facts = {name: entry.facts()[name] for name in ("name", "recipe", "weights", "options")}
    facts |= {"precision": str(learner.precision), "dataset_digest": material.train.store.digest}
    if learner.guide is not None:
        facts |= {"teacher_sha256": learner.teacher_sha256, "teacher_cache": where.teacher_cache}
    progress = restore(folder, learner, facts, where.resume)
    write_facts(entry, folder, where, facts)
    run_epochs(entry, learner, material, progress, folder, console)
    export.write(learner.student.model, entry, material.dataset, material.classes, folder)
    top1 = write_results(entry, folder, where)
    (folder / STATE).unlink()
    console.print(f"evaluated in float32: {top1:.2f} % top-1; written to {folder}", highlight=False, soft_wrap=True)
    return folder


def command(entry: Entry, where: Where) -> str:
    """What makes the same weights again."""
    cache = f" --teacher-cache {where.teacher_cache}" if where.teacher_cache and entry.terms else ""
    return entry.train_command + cache


def refuse_other_recipe(entry: Entry, folder: Path, where: Where) -> None:
    """Refuse a folder whose network was trained by another recipe than the entry's, or on other views."""
    path = folder / "recipe.json"
    told = json.loads(path.read_text()) if path.is_file() else {}
    due = {"command": command(entry, where), **entry.facts()}
    differing = sorted(name for name, fact in due.items() if told.get(name) != fact)
    if differing:
        raise ZooError(f"{folder} was trained with another {', '.join(differing)}; delete it or choose another --out")


def prepare(entry: Entry, where: Where) -> Material:
    """Both splits of the entry's dataset as views on the device."""
    dataset = registry.get_dataset(entry.dataset)
    splits = load.load(dataset, where.data)
    views = {name: _views(split, entry, dataset, where.device) for name, split in splits.items()}
    return Material(dataset, views["train"], views["test"], splits["train"].classes)


def _views(split: Split, entry: Entry, dataset: Dataset, device: torch.device) -> Views:
    store = resident(open_store(split, entry.recipe, cache_home()), device)
    _refuse_failed(store, dataset)
    return Views(store, torch.tensor(split.labels), entry.recipe, dataset, device)


def _refuse_failed(store: Store, dataset: Dataset) -> None:
    if store.failed:
        first = "\n  ".join(store.failed[:5])
        raise DatasetError(
            f"{dataset.name}: {len(store.failed)} images do not decode, fetch them again or repair them:\n  {first}"
        )


def build(entry: Entry, material: Material, where: Where, console: Console) -> loop.Learner:
    """Student, checked teacher, objective and optimizer, all on the device."""
    torch.manual_seed(derive(entry.recipe.seed, "init"))
    student = models.initial(entry, material.dataset.num_classes)
    objective = Objective(entry.weights, entry.options)
    dtype = precision(where.device)
    tapped = Tapped(place(student, where.device))
    guide = _teacher(entry, material, where, console) if objective.needs_teacher else None
    if guide and where.teacher_cache:
        teacher.check_cacheable(objective)
    batch = next(material.train.test(entry.recipe.batch_size))
    with torch.no_grad():
        tapped.eval()
        ours = tapped(batch.images)
        theirs = guide.network(batch.images) if guide else ours
    if guide:
        for name, shown in ((f"teacher {guide.name}", theirs), (f"student {entry.name}", ours)):
            console.print(f"{name}: {teacher.shapes(shown)}", highlight=False, soft_wrap=True)
    objective.setup(ours, theirs, material.train.labels)
    objective.to(where.device)
    parameters = [*student.parameters(), *objective.parameters()]
    sgd = optimizer(parameters, entry.recipe)
    teaching = _guide(guide, material.train, where, objective, console) if guide else None
    steps = entry.recipe.epochs * -(-len(material.train.labels) // entry.recipe.batch_size)
    called = compiled.losses(objective, steps)
    sha256 = guide.weights.sha256 if guide else ""
    return loop.Learner(tapped, teaching, objective, called, sgd, entry.recipe, dtype, sha256)


def _guide(
    teacher: teachers.Teacher, views: Views, where: Where, objective: Objective, console: Console
) -> guides.Guide:
    """The teacher's network, or its knowledge of fixed views."""
    dtype = precision(where.device)
    if where.teacher_cache is None:
        return guides.Live(teacher.network, dtype, bool(objective.reading_features()))
    return guides.cached(teacher, views, where.teacher_cache, dtype, console)


def _teacher(entry: Entry, material: Material, where: Where, console: Console) -> teachers.Teacher:
    """The entry's teacher, shown to know its classes."""
    guide = teachers.load(str(entry.teacher), material.dataset, material.classes, where.device, where.trained)
    top1 = loop.top1(guide.network, material.test, precision(where.device))
    console.print(f"teacher {guide.name} ({guide.weights.origin}): {top1:.2f} % top-1", highlight=False, soft_wrap=True)
    teacher.check_knowledge(top1, material.test.labels, guide.name)
    return guide


def restore(folder: Path, learner: loop.Learner, facts: dict[str, Any], resume: bool) -> checkpoint.Progress:
    """The state to go on from: a new one, or that of the run in `folder` if it is the same run."""
    path = folder / STATE
    if not (resume and path.exists()):
        return checkpoint.Progress(facts)
    told = checkpoint.progress(path).facts
    if told != facts:
        differing = sorted(key for key in facts if told.get(key) != facts[key])
        raise ZooError(f"{path} was made with another {', '.join(differing)}; delete {folder} to start over")
    return checkpoint.load(path, learner.student.model, learner.objective, learner.optimizer)


def run_epochs(
    entry: Entry,
    learner: loop.Learner,
    material: Material,
    progress: checkpoint.Progress,
    folder: Path,
    console: Console,
) -> None:
    """Train to the last epoch; after each, test, keep the best, and write log and checkpoint."""
    model = learner.student.model
    recipe = entry.recipe
    with Display(entry.name, recipe.epochs, len(material.train.labels), console) as display:
        while progress.epoch < recipe.epochs:
            row = loop.epoch(
                learner,
                material.train,
                recipe.seed,
                progress.epoch,
                lambda done, losses: display.update(progress, done, losses),
            )
            due = (progress.epoch + 1) % recipe.test_every == 0 or progress.epoch + 1 == recipe.epochs
            record(progress, row, loop.top1(learner.student, material.test, learner.precision) if due else None)
            if progress.best_epoch == progress.epoch:
                checkpoint.save_model(folder / BEST, model)
            write_log(progress, folder)
            checkpoint.save(folder / STATE, progress, model, learner.objective, learner.optimizer)
            display.finish_epoch(progress)
    console.print(
        f"{entry.name}: last {progress.log[-1]['test_top1']:.2f} %, best {progress.best_top1:.2f} % in epoch "
        f"{progress.best_epoch} (chosen on the test set)",
        highlight=False,
        soft_wrap=True,
    )


def record(progress: checkpoint.Progress, row: dict[str, float], top1: float | None) -> None:
    """Add an epoch to the log, with its test accuracy where it was tested, and note whether that is the best so far."""
    progress.epoch += 1
    progress.log.append({"epoch": progress.epoch, "test_top1": top1, **row})
    if top1 is not None and top1 > progress.best_top1:
        progress.best_top1, progress.best_epoch = top1, progress.epoch


def write_log(progress: checkpoint.Progress, folder: Path) -> None:
    """Write the log of all epochs so far as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(progress.log[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: figure(value, 6) for name, value in row.items()} for row in progress.log)
    atomic.write_text(folder / LOG, text.getvalue())


def write_results(entry: Entry, folder: Path, where: Where) -> float:
    """Evaluate the exported network as `python -m eval` does, into `results.json`; its top-1 in percent."""
    there = evaluation.Where(where.data, where.device, where.trained)
    result = evaluation.evaluate(entry, there, found=weights.from_folder(folder, "trained here"))
    atomic.write_text(folder / "results.json", results.as_json(results_record.row(result)))
    return result.figures["top1"]


def write_facts(entry: Entry, folder: Path, where: Where, facts: dict[str, Any]) -> None:
    """Write what the run is (`recipe.json`) and what it runs on (`environment.json`)."""
    recipe = {"command": command(entry, where), **entry.facts()}
    environment: dict[str, str] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": describe(where.device),
        "python": platform.python_version(),
        "platform": sys.platform,
        **{name: version(name) for name in ("dctkd-zoo", "torch", "torchvision", "timm", "numpy", "pillow")},
        **{name: facts[name] for name in ENVIRONMENT if name in facts},
    }
    atomic.write_text(folder / "recipe.json", json.dumps(recipe, indent=2) + "\n")
    atomic.write_text(folder / "environment.json", json.dumps(environment, indent=2) + "\n")
