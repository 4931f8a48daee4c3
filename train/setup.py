"""Setup of a training run: data, student, teacher, objective and optimizer on the device."""

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
from dctkd_zoo.device import to_device
from dctkd_zoo.errors import DatasetError, TeacherMismatch, ZooError
from dctkd_zoo.features import FeatureExtractor
from dctkd_zoo.objective import Objective
from dctkd_zoo.spec import EXTERNAL, Dataset, Entry
from dctkd_zoo.sync_batchnorm import accept_single_values, to_sync_batchnorm
from dctkd_zoo.weights import Weights
from dctkd_zoo.weights.run_folder import recipe_differences
from train import compile, loop, teacher_source
from train.config import TrainConfig
from train.optim import averaged, optimizer


@dataclass(frozen=True)
class TrainData:
    """Images to train on and to judge epochs by (those of `judge_name`, "val" or "test"), and weights to start from."""

    dataset: Dataset
    train: ImageLoader
    judge: ImageLoader
    judge_name: str
    classes: tuple[str, ...]
    start: Weights | None


def prepare(entry: Entry, config: TrainConfig) -> TrainData:
    """Return image loaders for the entry's dataset, and the weights the student starts from."""
    start = models.start(entry, config.trained)
    dataset = registry.get_dataset(entry.dataset)
    splits = load.for_recipe(dataset, entry.recipe, config.data)
    judge = "val" if "val" in splits else "test"
    train, judged = (_loader(splits[name], entry, dataset, config.device) for name in ("train", judge))
    return TrainData(dataset, train, judged, judge, splits["train"].classes, start)


def _loader(split: Split, entry: Entry, dataset: Dataset, device: torch.device) -> ImageLoader:
    pixel_cache = open_pixel_cache(split, entry.recipe, cache_home())
    if entry.recipe.augment == "crop_flip" and not entry.recipe.erasing:  # others work on the CPU
        pixel_cache = resident(pixel_cache, device)
    _refuse_failed(pixel_cache, dataset)
    return ImageLoader(pixel_cache, torch.tensor(split.labels), entry.recipe, dataset, device)


def _refuse_failed(pixel_cache: PixelCache, dataset: Dataset) -> None:
    if pixel_cache.failed:
        first = "\n  ".join(pixel_cache.failed[:5])
        raise DatasetError(
            f"{dataset.name}: cannot decode {len(pixel_cache.failed)} images; download or repair them:\n  {first}"
        )


def build(entry: Entry, data: TrainData, config: TrainConfig, console: Console) -> loop.TrainState:
    """Return student, checked teacher, objective and optimizer, all on the device."""
    torch.manual_seed(derive_seed(entry.recipe.seed, "init"))
    model = models.initial(entry, data.dataset.num_classes, data.start)
    objective = Objective(entry.weights, entry.loss_options)
    _refuse_combinations(entry, objective, config)
    dtype = config.dtype
    student = FeatureExtractor(to_device(model, config.device))
    teacher = _load_teacher(entry, data, config, console) if objective.needs_teacher else None
    if teacher and config.teacher_cache:
        teachers.check_cacheable(objective)
    batch = next(data.train.test(entry.recipe.batch_size))
    student.eval()
    objective.enable_class_maps((student, *([teacher.network] if teacher else [])), batch.images)
    with torch.no_grad():
        student_output = student(batch.images)
        teacher_output = teacher.network(batch.images) if teacher else student_output
    if teacher:
        outputs = {f"teacher {teacher.name}": teacher_output, f"student {entry.name}": student_output}
        for name, output in outputs.items():
            console.print(f"{name}: {teachers.shapes(output)}", highlight=False, markup=False, soft_wrap=True)
    objective.setup(student_output, teacher_output, data.train.labels)
    objective.to(config.device)
    for module in (student, objective):
        to_sync_batchnorm(module, config.device)
    accept_single_values(student)
    chosen = optimizer(model, objective.parameters(), entry.recipe)
    average = averaged(model, entry.recipe)
    source = _teacher_source(teacher, data.train, config, objective, console) if teacher else None
    steps = entry.recipe.epochs * -(-len(data.train.labels) // entry.recipe.batch_size)
    losses = compile.compile_objective(
        objective, steps, len(distributed.local_slice(torch.arange(entry.recipe.batch_size)))
    )
    hashes = (teacher.weights.sha256, teacher.weights.config_sha256) if teacher else ("", "")
    return loop.TrainState(student, source, objective, losses, chosen, entry.recipe, dtype, *hashes, average=average)


def _refuse_combinations(entry: Entry, objective: Objective, config: TrainConfig) -> None:
    """Refuse a recipe that blends images where they are needed as they are, or that only some terms could use."""
    recipe, originals = entry.recipe, objective.reading_ids()
    blended = " and ".join(name for name in ("mixup", "cutmix") if getattr(recipe, name))
    if blended and config.teacher_cache and objective.needs_teacher:
        raise ZooError(f"{blended}: a teacher cache holds no outputs for blended images; leave out --teacher-cache")
    if originals and (blended or recipe.unlabelled):
        what = blended or "unlabelled images"
        raise ZooError(f"{', '.join(originals)}: compares training images by their label and identity, not with {what}")
    if recipe.unlabelled and all(term.needs_labels for term in objective.terms.values()):
        raise ZooError(f"{entry.name}: all of its terms need labels, so unlabelled images would not be used")


def _teacher_source(
    teacher: teachers.Teacher, views: ImageLoader, config: TrainConfig, objective: Objective, console: Console
) -> teacher_source.TeacherSource:
    """Return the teacher's network, or its cached outputs for fixed views."""
    dtype = config.dtype
    if config.teacher_cache is None:
        return teacher_source.OnlineTeacher(teacher.network, dtype, bool(objective.reading_features()))
    return teacher_source.cached(teacher, views, config.teacher_cache, dtype, console)


def _load_teacher(entry: Entry, data: TrainData, config: TrainConfig, console: Console) -> teachers.Teacher:
    """Return the entry's teacher, after checking that it is better than chance on the images epochs are judged by."""
    name = str(entry.teacher)
    try:
        teacher = teachers.load(name, data.dataset, data.classes, config.device, config.trained)
    except TeacherMismatch as error:
        raise TeacherMismatch(
            f"{error}; to start from its weights, make an entry of your own that has them as `pretrained` in its "
            "recipe, and train that first"
        ) from error
    top1 = loop.top1(teacher.network, data.judge, config.dtype, who=f"teacher {teacher.name}: ")
    on = " on val" if data.judge_name == "val" else ""
    resizing = teachers.seen(teacher.network, entry.recipe.crop)
    console.print(
        f"teacher {teacher.name} ({teacher.weights.origin}): {top1:.2f} % top-1{on}{resizing}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if not name.startswith(EXTERNAL) and (
        other := recipe_differences(teacher.weights.folder, registry.get_entry(name))
    ):
        what = f"teacher {name} was trained with another recipe than the catalog's: {', '.join(other)}"
        console.print(what, highlight=False, markup=False, soft_wrap=True)
    teachers.check_knowledge(top1, data.judge.labels, teacher.name, resizing)
    return teacher
