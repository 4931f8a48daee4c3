"""Catalog file for a folder of images that nobody prepared: what is in it, and recipes that suit it."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import timm

from dctkd_zoo import registry
from dctkd_zoo.catalog import _remembered
from dctkd_zoo.data import load, unprepared, validate
from dctkd_zoo.data.filelist import brief
from dctkd_zoo.data.split import Split, held_out
from dctkd_zoo.errors import DatasetError, Undecodable, Unreadable, UsageError
from dctkd_zoo.models import pretrained
from dctkd_zoo.spec import NAME, Cosine, Dataset, Recipe

FEW = 20  # training images of a class below which it is hardly learned
UNEVEN = 10  # times as many images in the largest class as in the smallest
WAY_ON = "pip install 'dctkd-zoo[imagenet]' has those of el0, el1, el2; docs/training.md has the way for others"
FEWEST = 6  # held-out images that an epoch can be chosen on
SAMPLED = 200  # images whose size is looked at
# Sides in px of the stored image and the crop, by the least short side of the images they are for.
GEOMETRY = {224: (256, 224), 112: (128, 112), 64: (72, 64), 0: (40, 32)}
# Images that a network sees in all, and the least and largest number of epochs for that.
TEACHER_IMAGES, STUDENT_IMAGES = (30_000, 5, 30), (90_000, 10, 60)
STUDENTS = {"dctkd": '"ce": 1, "dctkd": 1', "dctkd_kd": '"ce": 0.1, "dctkd": 1, "kd": 1'}  # their terms' weights
TRANSFORMERS = ("vit", "deit", "swin", "convnext", "beit", "eva", "cait", "maxvit", "coatnet")  # trained with AdamW


@dataclass(frozen=True)
class Found:
    """A folder of images: its dataset, splits, check, and median short side in px."""

    dataset: Dataset
    splits: dict[str, Split]
    report: validate.Report
    side: int


@dataclass(frozen=True)
class Plan:
    """Networks and recipes for a folder; `notes` are what a user must know of them."""

    teacher: tuple[str, str]  # short name and timm's
    student: tuple[str, str]
    teaching: Recipe
    learning: Recipe
    notes: tuple[str, ...]


def dataset_name(folder: Path, path: Path | None = None) -> str:
    """Return a name for the dataset of a folder: its letters and digits, with `my` or a number if that is taken.

    A name is taken by the zoo's datasets, and by entries that were trained here with another catalog than `path`.
    """
    plain = unicodedata.normalize("NFKD", folder.resolve().name).encode("ascii", "ignore").decode().lower()
    name = re.sub("[^a-z0-9]", "", plain).lstrip("0123456789") or "images"
    name = f"my{name}" if name in registry.datasets() else name
    numbered = (name, *(f"{name}{number}" for number in range(2, 1000)))
    return next(item for item in numbered if not _is_taken(item, path or Path(f"{item}.py")))


def _is_taken(name: str, path: Path) -> bool:
    others = (entry for entry, file in _remembered.files().items() if file != path.resolve())
    return any((match := NAME.fullmatch(entry)) and match["dataset"] == name for entry in others)


def scan(folder: Path, name: str) -> Found:
    """Read a folder and check every image; `DatasetError` if it has no classes of images."""
    root, source = unprepared.layout(folder)
    dataset = Dataset(name, folder.resolve().name, source, 1, folder=str(root.resolve()))
    splits = load.read(dataset)
    classes = len(splits["train"].classes)
    if classes < 2:
        what = "folders of images, one for each class" + (", in train and test" if source == "folders" else "")
        raise DatasetError(f"{folder}: {classes} class: put at least two {what} there")
    if empty := [part for part, split in splits.items() if not len(split)]:
        raise DatasetError(f"{folder}: no image is left for {' and '.join(empty)}: each class needs several")
    report = validate.check(replace(dataset, num_classes=classes), splits)
    leaked = next((finding.count for finding in report.findings if finding.what == validate.LEAKED), 0)
    if leaked == len(splits["test"]):
        raise DatasetError(f"{folder}: all {leaked:,} test images are also in the training set")
    dataset = replace(dataset, num_classes=classes, drop_leaked=leaked > 0)
    return Found(dataset, splits, report, _side(splits["train"]))


def _side(split: Split) -> int:
    """Return the median short side in px of images spread over a split."""
    step = max(1, len(split) // SAMPLED)
    sides = []
    for index in range(0, len(split), step):
        try:
            sides.append(min(split.images.load(index).size))
        except (Undecodable, Unreadable):  # the report has it
            continue
    return int(median(sides)) if sides else 0


def warnings(found: Found) -> Iterator[str]:
    """Yield what a user may not expect of the images, besides the findings of the check."""
    train = found.splits["train"]
    counts = Counter(train.labels.tolist())
    few = [f"{name} ({counts[label]})" for label, name in enumerate(train.classes) if counts[label] < FEW]
    if few:
        yield f"fewer than {FEW} training images, hardly enough to learn from: {brief(few)}"
    largest, smallest = max(counts.values()), min(counts.values())
    if largest > UNEVEN * smallest:
        yield f"uneven classes, from {smallest:,} to {largest:,} training images: look at MCA beside top-1"
    yield from unprepared.unread(Path(found.dataset.folder), found.splits)
    if found.dataset.drop_leaked:
        yield "test images that are also in the training set are left out of the test (drop_leaked)"
    if found.dataset.source == "folders/split":
        yield "one folder: one image in five of each class is the test set, the same ones on every machine"
    yield "the licence of the images is not known; write it into the file before you publish a network"


def plan(found: Found, teacher: str, student: str) -> Plan:
    """Choose sizes and recipes; `ZooError` for a network that timm does not have."""
    networks = tuple(_network(name) for name in (teacher, student))
    count, select = _selection(found)
    resize, crop = next(sizes for least, sizes in GEOMETRY.items() if found.side >= least)
    base = Recipe(
        epochs=1, batch_size=32 if count < 5_000 else 64, lr=0.02, schedule=Cosine(0.1), resize=resize, crop=crop,
        nesterov=True, weight_decay=5e-4, augment="rrc", rrc_scale=(0.2, 1.0), select=select,
    )  # fmt: skip
    teaching, notes = _recipe(networks[0], base, count, TEACHER_IMAGES)
    learning, more = _recipe(networks[1], replace(base, lr=0.0125), count, STUDENT_IMAGES, start=False)
    return Plan(networks[0], networks[1], teaching, learning, (*notes, *more))


def _selection(found: Found) -> tuple[int, str]:
    """Return the number of images to train on, and how to choose the epoch: on val if that has enough images."""
    train = found.splits["train"]
    rest, held = (train, found.splits["val"]) if "val" in found.splits else held_out(train, found.dataset.val)
    return (len(rest), "val") if len(held) >= FEWEST else (len(train), "last")


def _network(name: str) -> tuple[str, str]:
    """Return the short name and timm's name of a network given by either."""
    archs = registry.archs()
    if name in archs:
        return name, archs[name].timm_name
    if not timm.is_model(name):
        close = timm.list_models(f"*{name[:8]}*")[:3]
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise UsageError(f"{name!r} is neither one of {', '.join(archs)} nor a network of timm{hint}")
    short = re.sub("[^a-z0-9]", "", name.lower())[:12]
    return (f"my{short}" if short in archs else short), name


def _recipe(
    network: tuple[str, str], base: Recipe, count: int, length: tuple[int, int, int], start: bool = True
) -> tuple[Recipe, list[str]]:
    """Return the recipe of a network, and notes on it."""
    images, least, most = length
    weights = start and pretrained.is_local(f"{network[1]}.in1k")
    from_scratch = replace(base, epochs=max(least, min(most if weights or not start else 2 * most, images // count)))
    transformer = network[1].startswith(TRANSFORMERS)
    recipe = replace(from_scratch, label_smoothing=0.1 if start else 0.0)
    if weights:
        recipe = replace(recipe, pretrained="in1k", head_lr=5 * recipe.lr)
    if transformer:
        rate = {"lr": 1e-3, "head_lr": None} if not weights else {"lr": 2e-4, "head_lr": 1e-3, "layer_decay": 0.75}
        recipe = replace(recipe, optimizer="adamw", weight_decay=0.05, nesterov=False, clip_grad=1.0, **rate)
    missing = f"the teacher {network[0]} starts from scratch, no ImageNet weights of it are on this machine: {WAY_ON}"
    return recipe, [missing] if start and not weights else []


def summary(found: Found, plan: Plan) -> str:
    """Return a line on what will be trained."""
    counts = ", ".join(f"{len(split):,} {name}" for name, split in found.splits.items())
    classes = found.dataset.num_classes
    start = "from ImageNet" if plan.teaching.pretrained else "from scratch"
    (teacher, _), (student, _), crop = plan.teacher, plan.student, plan.teaching.crop
    return (
        f"{found.dataset.name}: {classes} classes, {counts} images of about {found.side} px; {teacher} {start} teaches "
        f"{student} at {crop} px, {plan.teaching.epochs} and {plan.learning.epochs} epochs"
    )


def catalog(found: Found, plan: Plan, path: Path) -> str:
    """Return the text of the catalog file that is to be written to `path`."""
    dataset, (teacher, _), (student, _) = found.dataset, plan.teacher, plan.student
    if teacher == student:
        raise UsageError(f"teacher and student are both {teacher}: choose another with --teacher or --student")
    name, counts = dataset.name, ", ".join(f"{len(s):,} {part}" for part, s in found.splits.items())
    own = {short: full for short, full in (plan.teacher, plan.student) if short not in registry.archs()}
    archs = ", ".join(f'"{short}": Arch("{full}")' for short, full in own.items())
    imports = ", ".join([*(["Arch"] if own else []), "Cosine", "Dataset", "Entry", "Recipe"])
    lines = [
        f"# {name}: {dataset.num_classes} classes, {counts} images; docs/recipes.md has what you can change.",
        "from dataclasses import replace",
        "",
        f"from dctkd_zoo.spec import {imports}",
        "",
        *([f"ARCHS = {{{archs}}}"] if own else []),
        "DATASET = Dataset(",
        f'    "{name}", {_code(dataset.title)}, source="{dataset.source}", num_classes={dataset.num_classes},',
        f'    folder={_code(_relative(Path(dataset.folder), path))},  # license="...", for publishing',
        *(["    drop_leaked=True,"] if dataset.drop_leaked else []),
        ")",
        f"# The teacher{', from ImageNet' if plan.teaching.pretrained else ''}."
        f"{' Its epoch is the best one on val.' if plan.teaching.select == 'val' else ''}",
        f"TEACHER = {written(plan.teaching)}",
        "# Students and their baseline start from scratch.",
        f"STUDENT = {changed(plan.learning, plan.teaching)}",
        "ENTRIES = (",
        f'    Entry("{teacher}_{name}", TEACHER, {{"ce": 1}}),',
        f'    Entry("{student}_{name}", STUDENT, {{"ce": 1}}),  # the baseline: without a teacher',
        *(
            f'    Entry("{student}_{terms}_{name}", STUDENT, {{{weights}}}, teacher="{teacher}_{name}"),'
            for terms, weights in STUDENTS.items()
        ),
        ")",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _relative(folder: Path, path: Path) -> str:
    """Return the folder as the file `path` should name it: relative to it if it is below the file's folder."""
    base = path.resolve().parent
    return os.path.relpath(folder, base) if folder.is_relative_to(base) else str(folder)


def written(recipe: Recipe) -> str:
    """Return a recipe as code, in lines of at most 120 characters."""
    return _call("Recipe(", _fields(recipe))


def changed(recipe: Recipe, base: Recipe) -> str:
    """Return a recipe as code that changes `base`, called TEACHER."""
    before = _fields(base)
    fields = {name: value for name, value in _all(recipe).items() if before.get(name, _all(base)[name]) != value}
    return _call("replace(\n    TEACHER,", fields)


def _call(start: str, fields: dict[str, str]) -> str:
    lines, line = [start], "   "
    for name, value in fields.items():
        part = f" {name}={value},"
        if len(line) + len(part) > 118:
            lines, line = [*lines, line], "   "
        line += part
    return "\n".join([*lines, line, ")"])


def _all(recipe: Recipe) -> dict[str, str]:
    return {name: _code(getattr(recipe, name)) for name in recipe.__dataclass_fields__}


def _code(value: object) -> str:
    """Return a value as code, a text in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) and value.isprintable() else repr(value)


def _fields(recipe: Recipe) -> dict[str, str]:
    """Return the fields that are not at their defaults, as code."""
    bare = Recipe(recipe.epochs, recipe.batch_size, recipe.lr, recipe.schedule, recipe.resize, recipe.crop)
    needed = ("epochs", "batch_size", "lr", "schedule", "resize", "crop")
    return {name: value for name, value in _all(recipe).items() if name in needed or _all(bare)[name] != value}
