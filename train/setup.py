"""An entry and where it is trained to its data, its networks and its objective on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from rich.console import Console

from dctkd_zoo import distributed, models, registry, teachers
from dctkd_zoo._io.paths import cache_home
from dctkd_zoo.data import load
from dctkd_zoo.data.loader import ImageLoader, derive_seed
from dctkd_zoo.data.pixel_cache import PixelCache, open_pixel_cache, resident
from dctkd_zoo.data.split import Split
from dctkd_zoo.device import amp_dtype, to_device
from dctkd_zoo.errors import DatasetError
from dctkd_zoo.features import FeatureExtractor
from dctkd_zoo.objective import Objective
from dctkd_zoo.spec import Dataset, Entry
from dctkd_zoo.sync_batchnorm import accept_single_values, to_sync_batchnorm
from dctkd_zoo.weights import Weights
from train import compile, loop
from train import teacher_source as guides
from train.config import TrainConfig
from train.optim import optimizer


@dataclass(frozen=True)
class TrainData:
    """What a run begins with: both splits as views, and the weights it starts from if these are in a folder."""

    dataset: Dataset
    train: ImageLoader
    test: ImageLoader
    classes: tuple[str, ...]
    start: Weights | None


def prepare(entry: Entry, config: TrainConfig) -> TrainData:
    """Both splits of the entry's dataset as views on the device, and the weights it starts from."""
    start = models.start(entry, config.trained)
    dataset = registry.get_dataset(entry.dataset)
    splits = load.load(dataset, config.data)
    views = {name: _views(split, entry, dataset, config.device) for name, split in splits.items()}
    return TrainData(dataset, views["train"], views["test"], splits["train"].classes, start)


def _views(split: Split, entry: Entry, dataset: Dataset, device: torch.device) -> ImageLoader:
    store = resident(open_pixel_cache(split, entry.recipe, cache_home()), device)
    _refuse_failed(store, dataset)
    return ImageLoader(store, torch.tensor(split.labels), entry.recipe, dataset, device)


def _refuse_failed(store: PixelCache, dataset: Dataset) -> None:
    if store.failed:
        first = "\n  ".join(store.failed[:5])
        raise DatasetError(
            f"{dataset.name}: {len(store.failed)} images do not decode, fetch them again or repair them:\n  {first}"
        )


def build(entry: Entry, material: TrainData, config: TrainConfig, console: Console) -> loop.TrainState:
    """Student, checked teacher, objective and optimizer, all on the device."""
    torch.manual_seed(derive_seed(entry.recipe.seed, "init"))
    student = models.initial(entry, material.dataset.num_classes, material.start)
    objective = Objective(entry.weights, entry.options)
    dtype = amp_dtype(config.device)
    tapped = FeatureExtractor(to_device(student, config.device))
    guide = _teacher(entry, material, config, console) if objective.needs_teacher else None
    if guide and config.teacher_cache:
        teachers.check_cacheable(objective)
    batch = next(material.train.test(entry.recipe.batch_size))
    with torch.no_grad():
        tapped.eval()
        ours = tapped(batch.images)
        teacher = guide.network(batch.images) if guide else ours
    if guide:
        for name, shown in ((f"teacher {guide.name}", teacher), (f"student {entry.name}", ours)):
            console.print(f"{name}: {teachers.shapes(shown)}", highlight=False, markup=False, soft_wrap=True)
    objective.setup(ours, teacher, material.train.labels)
    objective.to(config.device)
    for module in (tapped, objective):
        to_sync_batchnorm(module, config.device)
    accept_single_values(tapped)
    parameters = [*student.parameters(), *objective.parameters()]
    sgd = optimizer(parameters, entry.recipe)
    teaching = _guide(guide, material.train, config, objective, console) if guide else None
    steps = entry.recipe.epochs * -(-len(material.train.labels) // entry.recipe.batch_size)
    called = compile.compile_objective(
        objective, steps, len(distributed.local_slice(torch.arange(entry.recipe.batch_size)))
    )
    meta = (guide.weights.sha256, guide.weights.config_sha256) if guide else ("", "")
    return loop.TrainState(tapped, teaching, objective, called, sgd, entry.recipe, dtype, *meta)


def _guide(
    teacher: teachers.Teacher, views: ImageLoader, config: TrainConfig, objective: Objective, console: Console
) -> guides.TeacherSource:
    """The teacher's network, or its knowledge of fixed views."""
    dtype = amp_dtype(config.device)
    if config.teacher_cache is None:
        return guides.OnlineTeacher(teacher.network, dtype, bool(objective.reading_features()))
    return guides.cached(teacher, views, config.teacher_cache, dtype, console)


def _teacher(entry: Entry, material: TrainData, config: TrainConfig, console: Console) -> teachers.Teacher:
    """The entry's teacher, shown to know its classes."""
    guide = teachers.load(str(entry.teacher), material.dataset, material.classes, config.device, config.trained)
    top1 = loop.top1(guide.network, material.test, amp_dtype(config.device), who=f"teacher {guide.name}: ")
    seen = teachers.seen(guide.network, entry.recipe.crop)
    console.print(
        f"teacher {guide.name} ({guide.weights.origin}): {top1:.2f} % top-1{seen}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    teachers.check_knowledge(top1, material.test.labels, guide.name, seen)
    return guide
