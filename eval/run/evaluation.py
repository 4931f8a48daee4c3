"""Evaluation of an entry on its test set: a table with one row per image, and the metrics computed from it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from dctkd_zoo import distributed, registry, teacher_cache, teachers, weights
from dctkd_zoo._io.paths import cache_home
from dctkd_zoo.data.loader import ImageLoader, centre_crops
from dctkd_zoo.data.split import Split
from dctkd_zoo.device import describe, fp32_inference
from dctkd_zoo.features import FeatureExtractor, Output
from dctkd_zoo.spec import Entry
from dctkd_zoo.teacher_cache import CacheFormat, FixedView
from dctkd_zoo.weights import Weights
from eval.run import cache, faithfulness, protocol
from eval.run import cost as costs
from eval.run.config import EvalConfig
from eval.run.cost import Cost
from eval.run.per_image import References, Report, table
from eval.run.sanity import Step, cascade
from eval.run.setup import (
    build_teacher,
    check_classes,
    check_preprocessing,
    compared_with,
    enable_class_maps,
    find_teacher,
    load_network,
    object_masks,
    open_views,
    test_split,
)
from eval.stats import intervals as uncertainty
from eval.stats import skill

log = logging.getLogger(__name__)

CHECKED = 4  # images on which class maps are checked

_FRESH = set[Path]()  # teacher caches that this process has recomputed


@dataclass(frozen=True)
class Result:
    """Result of an evaluation: the per-image table, its metrics, and what they were measured on.

    - `intervals`: 95 % intervals over images, under the exact protocol only; metrics that are computed from all
      images together (CKA) have none.
    - `teacher`: the network that the entry is compared with; `teacher_weights` is None if they are not available.
    - `failed`: the images that did not decode, which are not in the table.
    - `label`: what its row is called, if not by the entry.
    """

    entry: Entry
    config: EvalConfig
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
    sanity: tuple[Step, ...] = ()
    faithfulness: tuple[faithfulness.Difference, ...] = ()
    label: str = ""


def silent(done: int, total: int) -> None:
    """Ignore progress reports."""


def evaluate(entry: Entry, config: EvalConfig, report: Report = silent, found: Weights | None = None) -> Result:
    """Run an entry and the teacher it is compared with over the test set, or read the cached measurement.

    `found` are weights to use instead of the entry's own. Raises `WeightsNotFound` or `DatasetMissing` if the entry
    cannot be evaluated here.
    """
    found = found or weights.find(entry, config.trained)  # first, so that no data is read if there are no weights
    dataset = registry.get_dataset(entry.dataset)
    check_preprocessing(entry, dataset, weights.read_config(found.folder))
    chosen = protocol.PROTOCOLS[config.protocol]
    split = test_split(dataset, config.data, config.limit, chosen.annotated)
    check_classes(entry.name, weights.read_config(found.folder).get("label_names", []), split.classes)
    views = open_views(entry, split, config.device)
    teacher, note = find_teacher(entry, config)
    facts = {
        "weights": [found.sha256, found.config_sha256, weights.registered_code(found)],
        "teacher": teachers.facts(str(compared_with(entry, config)), teacher) if teacher else None,
        "images": [views.cache_key(), config.limit],
        "objects": split.objects(),
        "metrics": chosen.metrics,
        "device": describe(config.device),
    }
    path = cache.cache_path(facts, cache_home())
    measured = None if config.fresh else cache.read(path)
    missing = distributed.any_rank(measured is None)[0]  # either all ranks measure or none
    if measured is None or missing:
        measured = _measure(entry, config, found, teacher, split, views, report)
        if distributed.is_primary():
            _write_cache(measured, path)
    figures = protocol.figures(measured.table, config.protocol, len(split.classes), measured.together)
    return Result(
        entry,
        config,
        measured.table,
        figures,
        cache.intervals(path, lambda: uncertainty.intervals(measured.table)) if chosen.complete else {},
        measured.facts["parameters"],
        measured.facts["date"],
        found,
        compared_with(entry, config),
        teacher,
        views.store.failed,
        views.store.digest,
        split.classes,
        note,
        costs.measure(found, entry.recipe.crop, config.device) if config.cost and distributed.is_primary() else None,
        _sanity(entry, config, found, teacher, split, views, report, figures) if config.sanity and teacher else (),
        _faithfulness(entry, config, found, teacher, split, views, report) if config.faithfulness and teacher else (),
    )


def _write_cache(measured: cache.CachedTable, path: Path) -> None:
    try:
        cache.write(measured, path)
    except OSError as error:  # the result does not need the cache
        log.warning("the measurement could not be cached and will be repeated next time: %s", error)


def _measure(
    entry: Entry,
    config: EvalConfig,
    found: Weights,
    teacher_weights: Weights | None,
    split: Split,
    views: ImageLoader,
    report: Report,
) -> cache.CachedTable:
    """Run the networks over the test set."""
    from dctkd_zoo import models  # here: it imports timm, which takes seconds, and kept results need no network

    student = load_network(entry, found, split.classes, config.device)
    teacher = build_teacher(entry, teacher_weights, split.classes, config) if teacher_weights else None
    class_maps = teacher is not None and _with_class_maps(student, teacher, views)
    references = _references(entry, teacher, split, views, report, config.fresh)
    metrics = protocol.image_metrics(config.protocol, teacher is not None, class_maps)
    rows, together = table(student, references, views, metrics, report)
    ids = pd.Series([split.ids[position] for position in rows["position"]], name="id")
    rows = pd.concat([ids, rows.drop(columns="position")], axis=1)
    facts = {"parameters": models.parameters(student), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    return cache.CachedTable(rows, together, facts)


def _sanity(
    entry: Entry,
    config: EvalConfig,
    found: Weights,
    teacher_weights: Weights,
    split: Split,
    views: ImageLoader,
    report: Report,
    trained: Mapping[str, float],
) -> tuple[Step, ...]:
    """Measure alignment as the network's weights are replaced by untrained ones; `trained` are its own metrics."""
    student, teacher, class_maps = _pair(entry, config, found, teacher_weights, split, views)
    references = References(teacher_outputs(teacher, views, report), None, partners(views))
    metrics = protocol.image_metrics(config.protocol, teacher=True, class_maps=class_maps)

    def measure(network: FeatureExtractor) -> Mapping[str, float]:
        rows, together = table(network, references, views, metrics, report)
        return protocol.figures(rows, config.protocol, len(split.classes), together)

    return cascade(student, found, trained, measure)


def _faithfulness(
    entry: Entry,
    config: EvalConfig,
    found: Weights,
    teacher_weights: Weights,
    split: Split,
    views: ImageLoader,
    report: Report,
) -> tuple[faithfulness.Difference, ...]:
    """Measure insertion and deletion on images that are spread over the test set."""
    student, teacher, _ = _pair(entry, config, found, teacher_weights, split, views)
    decoded = views.decoded
    chosen = torch.linspace(0, len(decoded) - 1, min(faithfulness.IMAGES, len(decoded))).round().long()
    return faithfulness.measure(student, teacher_outputs(teacher, views, report), views, decoded[chosen])


def _pair(
    entry: Entry, config: EvalConfig, found: Weights, teacher_weights: Weights, split: Split, views: ImageLoader
) -> tuple[FeatureExtractor, teachers.Teacher, bool]:
    """Load the network and its teacher anew; return whether both give class maps, too."""
    teacher = build_teacher(entry, teacher_weights, split.classes, config)
    student = load_network(entry, found, split.classes, config.device)
    return student, teacher, _with_class_maps(student, teacher, views)


def _with_class_maps(student: FeatureExtractor, teacher: teachers.Teacher, views: ImageLoader) -> bool:
    """Let both networks give class maps if both can; return whether they do."""
    with fp32_inference():
        few = next(views.test(CHECKED), None)
        return few is not None and enable_class_maps((student, teacher.network), few.images)


def _references(
    entry: Entry, teacher: teachers.Teacher | None, split: Split, views: ImageLoader, report: Report, fresh: bool
) -> References:
    objects = partial(object_masks, split, entry.recipe) if split.outlines is not None else None
    return References(teacher_outputs(teacher, views, report, fresh) if teacher else None, objects, partners(views))


def partners(views: ImageLoader) -> Tensor | None:
    """Return the position (N,) of the image that each is compared with for the chance level; None for one image."""
    decoded = views.decoded
    if len(decoded) < 2:
        return None
    partner = torch.arange(len(views.labels))
    partner[decoded] = skill.others(decoded)
    return partner


def teacher_outputs(
    teacher: teachers.Teacher, views: ImageLoader, report: Report, fresh: bool = False
) -> Callable[[Tensor], Output]:
    """Return a function from positions to the teacher's outputs for the centre crops, float32, from the teacher cache.

    With `fresh` this process runs the teacher once and uses its outputs for all students.
    """
    view = FixedView("centre", centre_crops(views.store, views.recipe))
    form = CacheFormat(torch.float32, torch.float32, means=True)
    path = teacher_cache.folder(teacher, views, view, form, cache_home())
    with fp32_inference():
        cached = teacher_cache.open_teacher_cache(
            teacher, views, view, form, path, report, fresh and path not in _FRESH
        )
    if fresh:
        _FRESH.add(path)
    decoded = views.decoded
    rows = torch.zeros(len(views.labels), dtype=torch.long)
    rows[decoded] = torch.arange(len(decoded))
    return lambda ids: cached.rows(rows[ids.cpu()], views.device)
