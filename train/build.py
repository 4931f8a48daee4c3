"""An entry and where it is trained to its data, its networks and its objective on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from rich.console import Console

from dctkd_zoo import models, ranks, registry, teachers
from dctkd_zoo.data import load
from dctkd_zoo.data.split import Split
from dctkd_zoo.data.store import Store, open_store, resident
from dctkd_zoo.data.views import Views, derive
from dctkd_zoo.device import place, precision
from dctkd_zoo.errors import DatasetError
from dctkd_zoo.features import Tapped
from dctkd_zoo.home import cache_home
from dctkd_zoo.objective import Objective
from dctkd_zoo.spec import Dataset, Entry
from dctkd_zoo.sync_batchnorm import accept_single_values, synced
from dctkd_zoo.weights import Weights
from train import compiled, loop, teacher
from train import guide as guides
from train.optim import optimizer
from train.where import Where


@dataclass(frozen=True)
class Material:
    """What a run begins with: both splits as views, and the weights it starts from if these are in a folder."""

    dataset: Dataset
    train: Views
    test: Views
    classes: tuple[str, ...]
    start: Weights | None


def prepare(entry: Entry, where: Where) -> Material:
    """Both splits of the entry's dataset as views on the device, and the weights it starts from."""
    start = models.start(entry, where.trained)
    dataset = registry.get_dataset(entry.dataset)
    splits = load.load(dataset, where.data)
    views = {name: _views(split, entry, dataset, where.device) for name, split in splits.items()}
    return Material(dataset, views["train"], views["test"], splits["train"].classes, start)


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
    student = models.initial(entry, material.dataset.num_classes, material.start)
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
            console.print(f"{name}: {teacher.shapes(shown)}", highlight=False, markup=False, soft_wrap=True)
    objective.setup(ours, theirs, material.train.labels)
    objective.to(where.device)
    for module in (tapped, objective):
        synced(module, where.device)
    accept_single_values(tapped)
    parameters = [*student.parameters(), *objective.parameters()]
    sgd = optimizer(parameters, entry.recipe)
    teaching = _guide(guide, material.train, where, objective, console) if guide else None
    steps = entry.recipe.epochs * -(-len(material.train.labels) // entry.recipe.batch_size)
    called = compiled.losses(objective, steps, len(ranks.share(torch.arange(entry.recipe.batch_size))))
    told = (guide.weights.sha256, guide.weights.config_sha256) if guide else ("", "")
    return loop.Learner(tapped, teaching, objective, called, sgd, entry.recipe, dtype, *told)


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
    top1 = loop.top1(guide.network, material.test, precision(where.device), who=f"teacher {guide.name}: ")
    seen = teacher.seen(guide.network, entry.recipe.crop)
    console.print(
        f"teacher {guide.name} ({guide.weights.origin}): {top1:.2f} % top-1{seen}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    teacher.check_knowledge(top1, material.test.labels, guide.name, seen)
    return guide
