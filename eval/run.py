"""An entry to a table with one row per test image, and to the figures reduced from it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dctkd_zoo import export, knowledge, models, ranks, registry, teachers, weights
from dctkd_zoo.data import load
from dctkd_zoo.data.split import Split
from dctkd_zoo.data.store import open_store
from dctkd_zoo.data.views import Views, centre_windows
from dctkd_zoo.device import describe, exactly
from dctkd_zoo.device import place as put
from dctkd_zoo.errors import DatasetError, WeightsNotFound
from dctkd_zoo.features import Output, Tapped
from dctkd_zoo.home import cache_home, checkpoints
from dctkd_zoo.knowledge import Kept, View
from dctkd_zoo.spec import Dataset, Entry, Recipe
from dctkd_zoo.weights import Weights
from eval import cost as costs
from eval import ground_truth, kept, protocol, skill, ten_crop, uncertainty
from eval.cost import Cost
from eval.table import Reference, Report, table

log = logging.getLogger(__name__)

_FRESH = set[Path]()  # teachers' outputs that this process has made anew


@dataclass(frozen=True)
class Where:
    """Where an evaluation reads and computes, on how many images, and under which protocol it reduces.

    `trained` is a folder of checkpoints to look in before anywhere else. `limit` takes that many
    images, spread evenly over the test set. `fresh` measures anew what was measured before, `cost` also what
    the network costs here, `ten_crop` also its accuracy over ten crops.
    """

    data: Path | None
    device: torch.device
    trained: Path | None = None
    limit: int | None = None
    protocol: str = "exact"
    fresh: bool = False
    cost: bool = False
    ten_crop: bool = False


@dataclass(frozen=True)
class Result:
    """What was measured of an entry: the per-image table, its figures, and what they were measured on.

    `intervals` (95 %, over images) are of the figures under the exact protocol, but of none that is of all
    images together. `teacher` is the name of what the alignment refers to, `teacher_weights` are missing where
    those could not be had; `failed` names the images that did not decode, which are not in the table.
    """

    entry: Entry
    where: Where
    table: pd.DataFrame
    figures: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    parameters: int
    date: str
    weights: Weights
    teacher: str | None
    teacher_weights: Weights | None
    failed: tuple[str, ...]
    digest: str
    classes: tuple[str, ...]
    note: str
    cost: Cost | None = None


def silent(done: int, total: int) -> None:
    """Report nothing."""


def evaluate(entry: Entry, where: Where, report: Report = silent, found: Weights | None = None) -> Result:
    """Run an entry over the test set once, beside the teacher it is compared with, unless that was done before.

    `found` are the weights to take in place of the entry's own. `WeightsNotFound` and
    `DatasetMissing` where the entry cannot be evaluated here.
    """
    found = found or weights.find(entry, where.trained)  # first, for it reads no data where there are none
    dataset = registry.get_dataset(entry.dataset)
    check_preprocessing(entry, dataset, weights.read_config(found.folder))
    split = test_split(dataset, where.data, where.limit)
    check_classes(entry.name, weights.read_config(found.folder).get("label_names", []), split.classes)
    views = open_views(entry, split, where.device)
    teacher, note = _teacher(entry, where)
    facts = {
        "weights": [found.sha256, found.config_sha256, models.code(found)],
        "teacher": teachers.facts(str(reference(entry)), teacher) if teacher else None,
        "images": [views.facts(), where.limit],
        "objects": split.objects(),
        "metrics": protocol.PROTOCOLS[where.protocol].metrics,
        "device": describe(where.device),
    }
    place = kept.place(facts, cache_home())
    measured = None if where.fresh else kept.read(place)
    missing = ranks.any_of(measured is None)[0]  # of several ranks all measure, or none
    if measured is None or missing:
        measured = _measure(entry, where, found, teacher, split, views, report)
        if ranks.leads():
            _keep(measured, place)
    exact = where.protocol == "exact"
    figures = protocol.figures(measured.table, where.protocol, len(split.classes), measured.together)
    if where.ten_crop and ranks.leads():
        figures["top1_ten_crop"] = ten_crop.top1(network(entry, found, split.classes, where.device), views)
    return Result(
        entry,
        where,
        measured.table,
        figures,
        uncertainty.intervals(measured.table) if exact else {},
        measured.facts["parameters"],
        measured.facts["date"],
        found,
        reference(entry),
        teacher,
        views.store.failed,
        views.store.digest,
        split.classes,
        note,
        costs.measure(found, entry.recipe.crop, where.device) if where.cost and ranks.leads() else None,
    )


def _keep(measured: kept.Measured, place: Path) -> None:
    try:
        kept.write(measured, place)
    except OSError as error:  # a cache that is read-only or full costs time, not the result
        log.warning("what was measured is not kept for the next time: %s", error)


def _measure(
    entry: Entry, where: Where, found: Weights, taught: Weights | None, split: Split, views: Views, report: Report
) -> kept.Measured:
    """Run the networks; the facts are those of the networks alone."""
    student = network(entry, found, split.classes, where.device)
    teacher = None
    if taught:
        dataset = registry.get_dataset(entry.dataset)
        teacher = teachers.build(str(reference(entry)), taught, dataset, split.classes, where.device)
    beside = _beside(entry, teacher, split, views, report, where.fresh)
    metrics = protocol.image_metrics(where.protocol, teacher is not None)
    rows, together = table(student, beside, views, metrics, report)
    ids = pd.Series([split.ids[position] for position in rows["position"]], name="id")
    rows = pd.concat([ids, rows.drop(columns="position")], axis=1)
    facts = {"parameters": models.parameters(student), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    return kept.Measured(rows, together, facts)


def reference(entry: Entry) -> str | None:
    """The name of the teacher that an entry's attention is compared with.

    For a baseline it is the one that the first distilled entry of the same architecture and dataset
    learns from; an entry that teaches others, and has no such sibling, has none.
    """
    if entry.teacher is not None:
        return entry.teacher
    siblings = (e for e in registry.entries().values() if (e.arch, e.dataset) == (entry.arch, entry.dataset))
    return next((sibling.teacher for sibling in siblings if sibling.teacher), None)


def _teacher(entry: Entry, where: Where) -> tuple[Weights | None, str]:
    """The weights of the network an entry is compared with, or why there are none.

    A baseline among runs in a folder of their own was trained by none: it is not compared with one of this machine's
    other checkpoints, which may be of another data set or recipe than the teacher that those runs will have.
    """
    name = reference(entry)
    if name is None:
        return None, ""
    try:
        found = teachers.find(name, where.trained)
    except WeightsNotFound as error:
        return None, f"not compared with its teacher {name}: {error}"
    apart = where.trained is not None and where.trained.resolve() != checkpoints().resolve()
    if entry.teacher is None and apart and found.folder.parent == checkpoints():
        return None, f"not compared with {name}: it is not trained in the folder of these runs yet (--out)"
    return found, ""


def load_teacher(entry: Entry, classes: tuple[str, ...], where: Where) -> teachers.Teacher | None:
    """The network an entry is compared with; None where it has none, or the weights cannot be had."""
    found, _ = _teacher(entry, where)
    if found is None:
        return None
    return teachers.build(str(reference(entry)), found, registry.get_dataset(entry.dataset), classes, where.device)


def _beside(
    entry: Entry, teacher: teachers.Teacher | None, split: Split, views: Views, report: Report, fresh: bool
) -> Reference:
    """What the images are measured against."""
    objects = partial(_objects, split, entry.recipe) if split.masks is not None else None
    return Reference(taught(teacher, views, report, fresh) if teacher else None, objects, partners(views))


def partners(views: Views) -> Tensor | None:
    """The position (N,) of the image that each is compared with for the level of chance; None for a single image."""
    decoded = _decoded(views)
    if len(decoded) < 2:
        return None
    partner = torch.arange(len(views.labels))
    partner[decoded] = skill.others(decoded)
    return partner


def _decoded(views: Views) -> Tensor:
    """Positions of the images that decoded."""
    return torch.nonzero(views.store.heights.cpu()).flatten()


def taught(teacher: teachers.Teacher, views: Views, report: Report, fresh: bool = False) -> Callable[[Tensor], Output]:
    """What a teacher makes of the centre view of images by position, in float32: run once, and kept in the cache.

    If `fresh`, run once by this process, for all its students.
    """
    view = View("centre", centre_windows(views.store, views.recipe))
    how = Kept(torch.float32, torch.float32, means=True)
    place = knowledge.folder(teacher, views, view, how, cache_home())
    with exactly():
        known = knowledge.open_knowledge(teacher, views, view, how, place, report, fresh and place not in _FRESH)
    if fresh:
        _FRESH.add(place)
    decoded = _decoded(views)
    rows = torch.zeros(len(views.labels), dtype=torch.long)
    rows[decoded] = torch.arange(len(decoded))
    return lambda ids: known.rows(rows[ids.cpu()], views.device)


def _objects(split: Split, recipe: Recipe, ids: Tensor) -> Tensor:
    """The objects of the images at some positions, as the centre view shows them."""
    return ground_truth.seen(ground_truth.masks(split, ids), recipe).to(ids.device)


def network(entry: Entry, found: Weights, classes: tuple[str, ...], device: torch.device) -> Tapped:
    """The network of some weights on a device; `DatasetError` where it numbers the classes otherwise."""
    check_classes(entry.name, weights.read_config(found.folder).get("label_names", []), classes)
    return Tapped(put(models.load(entry.arch, found), device)).eval()


def check_classes(name: str, told: Iterable[str], classes: tuple[str, ...]) -> None:
    """Refuse a network whose outputs `told` are not the classes of the data, in the same order."""
    told = tuple(told)
    if len(told) != len(classes):
        raise DatasetError(f"{name} was trained on {len(told):,} classes, the data has {len(classes):,}")
    for label, (ours, theirs) in enumerate(zip(told, classes, strict=True)):
        if ours != theirs:
            raise DatasetError(f"{name}: output {label} means {ours!r}, in the data class {label} is {theirs!r}")


def check_preprocessing(entry: Entry, dataset: Dataset, config: Mapping[str, Any]) -> None:
    """Refuse a network whose `config.json` prepares images otherwise than the catalog, by which they are seen here."""
    due = export.data_config(entry.recipe, dataset)
    told = config.get("pretrained_cfg") or config
    for name, ours in due.items():
        theirs = told.get(name)
        if theirs is not None and not _same(name, ours, theirs, entry.recipe):
            raise DatasetError(
                f"{entry.name}: {name} is {theirs} in the config.json of its weights, {ours} by the catalog: they are "
                "of other images than it would be shown; correct the one that is wrong, or train it again"
            )


def _same(name: str, ours: Any, theirs: Any, recipe: Recipe) -> bool:
    if name == "crop_pct":  # a share that may be rounded: what counts is the size it leads to
        return bool(math.floor(recipe.crop / theirs) == recipe.resize)
    return list(ours) == list(theirs) if isinstance(ours, tuple) else bool(ours == theirs)


@lru_cache(maxsize=2)  # entries of one dataset are evaluated one after the other
def test_split(dataset: Dataset, data: Path | None, limit: int | None) -> Split:
    """The test images of a dataset, or `limit` of them, spread evenly."""
    split = load.load(dataset, data)["test"]
    if limit is None or limit >= len(split):
        return split
    return split.take([index * len(split) // limit for index in range(limit)])


def open_views(entry: Entry, split: Split, device: torch.device) -> Views:
    """The images of a split as an entry sees them."""
    store = open_store(split, entry.recipe, cache_home())
    return Views(store, torch.tensor(split.labels), entry.recipe, registry.get_dataset(entry.dataset), device)
