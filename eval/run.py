"""An entry to a table with one row per test image, and to the figures reduced from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd
import torch

from dctkd_zoo import knowledge, models, registry, teachers, weights
from dctkd_zoo.data import load
from dctkd_zoo.data.split import Split
from dctkd_zoo.data.store import open_store
from dctkd_zoo.data.views import Views, centre_windows
from dctkd_zoo.device import place
from dctkd_zoo.errors import DatasetError, WeightsNotFound
from dctkd_zoo.features import Tapped
from dctkd_zoo.home import cache_home
from dctkd_zoo.knowledge import View
from dctkd_zoo.spec import Dataset, Entry
from dctkd_zoo.weights import Weights
from eval import protocol
from eval.table import Report, Teach, exactly, table


@dataclass(frozen=True)
class Where:
    """Where an evaluation reads and computes, on how many images, and under which protocol it reduces.

    `trained` is a folder of checkpoints to look in before anywhere else. `limit` takes that many
    images, spread evenly over the test set.
    """

    data: Path | None
    device: torch.device
    trained: Path | None = None
    limit: int | None = None
    protocol: str = "exact"


@dataclass(frozen=True)
class Result:
    """What was measured of an entry: the per-image table, its figures, and what they were measured on.

    `teacher` is the name of what the alignment refers to, `teacher_weights` are missing where those
    could not be had; `failed` names the images that did not decode, which are not in the table.
    """

    entry: Entry
    where: Where
    table: pd.DataFrame
    figures: Mapping[str, float]
    parameters: int
    weights: Weights
    teacher: str | None
    teacher_weights: Weights | None
    failed: tuple[str, ...]
    digest: str
    note: str


def silent(done: int, total: int) -> None:
    """Report nothing."""


def evaluate(entry: Entry, where: Where, report: Report = silent, found: Weights | None = None) -> Result:
    """Run an entry, and the teacher it is compared with, over the test set once.

    `found` are the weights to take in place of the entry's own. `WeightsNotFound` and
    `DatasetMissing` where the entry cannot be evaluated here.
    """
    found = found or weights.find(entry, where.trained)  # first, for it reads no data where there are none
    split = test_split(registry.get_dataset(entry.dataset), where.data, where.limit)
    views = _views(entry, split, where.device)
    student = network(entry, found, split.classes, where.device)
    teacher, note = _teacher(entry, split.classes, where)
    metrics = protocol.image_metrics(where.protocol, teacher is not None)
    measured = table(student, _taught(teacher, views, report) if teacher else None, views, metrics, report)
    measured.insert(0, "id", [split.ids[position] for position in measured.pop("position")])
    return Result(
        entry,
        where,
        measured,
        protocol.figures(measured, where.protocol, len(split.classes)),
        models.parameters(student),
        found,
        reference(entry),
        teacher.weights if teacher else None,
        views.store.failed,
        views.store.digest,
        note,
    )


def reference(entry: Entry) -> str | None:
    """The name of the teacher that an entry's attention is compared with.

    For a baseline it is the one that the first distilled entry of the same architecture and dataset
    learns from; an entry that teaches others, and has no such sibling, has none.
    """
    if entry.teacher is not None:
        return entry.teacher
    siblings = (e for e in registry.entries().values() if (e.arch, e.dataset) == (entry.arch, entry.dataset))
    return next((sibling.teacher for sibling in siblings if sibling.teacher), None)


def _teacher(entry: Entry, classes: tuple[str, ...], where: Where) -> tuple[teachers.Teacher | None, str]:
    """The network an entry is compared with, or why there is none."""
    name = reference(entry)
    if name is None:
        return None, ""
    try:
        dataset = registry.get_dataset(entry.dataset)
        return teachers.load(name, dataset, classes, where.device, where.trained), ""
    except WeightsNotFound as error:
        return None, f"not compared with its teacher {name}: {error}"


def _taught(teacher: teachers.Teacher, views: Views, report: Report) -> Teach:
    """What the teacher makes of the test set: run once for all its students, and kept in the cache in float32."""
    if views.store.failed:  # positions are not rows then
        return lambda batch: teacher.network(batch.images)
    view = View("centre", centre_windows(views.store, views.recipe))
    place = knowledge.folder(teacher, views, view, torch.float32, torch.float32, cache_home())
    with exactly():
        return knowledge.open_knowledge(teacher, views, view, torch.float32, torch.float32, place, report).output


def network(entry: Entry, found: Weights, classes: tuple[str, ...], device: torch.device) -> Tapped:
    """The network of some weights on a device; `DatasetError` where it numbers the classes otherwise."""
    check_classes(entry.name, weights.read_config(found.folder).get("label_names", []), classes)
    return Tapped(place(models.load(entry.arch, found), device)).eval()


def check_classes(name: str, told: Iterable[str], classes: tuple[str, ...]) -> None:
    """Refuse a network whose outputs `told` are not the classes of the data, in the same order."""
    told = tuple(told)
    if len(told) != len(classes):
        raise DatasetError(f"{name} was trained on {len(told):,} classes, the data has {len(classes):,}")
    for label, (ours, theirs) in enumerate(zip(told, classes, strict=True)):
        if ours != theirs:
            raise DatasetError(f"{name}: output {label} means {ours!r}, in the data class {label} is {theirs!r}")


@lru_cache(maxsize=2)  # entries of one dataset are evaluated one after the other
def test_split(dataset: Dataset, data: Path | None, limit: int | None) -> Split:
    """The test images of a dataset, or `limit` of them, spread evenly."""
    split = load.load(dataset, data)["test"]
    if limit is None or limit >= len(split):
        return split
    return split.take([index * len(split) // limit for index in range(limit)])


def _views(entry: Entry, split: Split, device: torch.device) -> Views:
    store = open_store(split, entry.recipe, cache_home())
    return Views(store, torch.tensor(split.labels), entry.recipe, registry.get_dataset(entry.dataset), device)
