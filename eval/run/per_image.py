"""Per-image table of a network and its teacher on a test set, and the metrics of all images together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from dctkd_zoo import distributed
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.loader import ImageLoader, centre_crops
from dctkd_zoo.device import fp32_inference
from dctkd_zoo.errors import DatasetError
from dctkd_zoo.features import Output, finite, refuse_non_finite
from dctkd_zoo.teacher_cache import compact
from eval.metrics import _objects
from eval.metrics._base import ImageMetric, LevelMetric
from eval.metrics._cka import LinearCKA
from eval.stats import skill
from eval.stats.skill import CHANCE, CKA, TEACHER

BATCH_SIZE = 64  # fits into memory with two networks at 224 px; the metrics do not depend on it

FINITE = "finite"  # temporary column for `refuse_non_finite`: whether a row's outputs are finite

Report = Callable[[int, int], None]  # images done, images in total
Network = Callable[[Tensor], Output]  # images (B, 3, S, S) to outputs
Look = Callable[[Tensor], Tensor]  # positions of images (B,) to the objects in them (B, H, W)


@dataclass(frozen=True)
class References:
    """What a network is measured against, in addition to the labels.

    `teacher` returns a teacher's outputs for the images at positions (B,), `objects` the pixels of the objects that
    decide their class. Both are evaluated for each image and for its `partner` (N,), which gives the chance level.
    """

    teacher: Callable[[Tensor], Output] | None = None
    objects: Look | None = None
    partner: Tensor | None = None


@dataclass
class CKAMeter:
    """CKA of the features of all images so far by level: of student and teacher, and its chance level."""

    levels: list[LinearCKA] = field(default_factory=list)

    def update(self, student: Output, teacher: Output, partners: Output, local: bool) -> None:
        """Add a batch: the outputs of the student, of the teacher, and of the teacher for the partner images.

        `local` is false for a repeated batch, which is not counted (`ImageLoader.iter_sharded`). Each rank adds the
        features of all ranks, batch by batch, so its values are those of a single process.
        """
        pooled = [output.pooled() for output in (student, teacher, partners)]
        count = min(map(len, pooled))  # levels are paired from the deepest
        self.levels += [LinearCKA() for _ in range(count - len(self.levels))]
        for level, *features in zip(self.levels, *(each[-count:] for each in pooled), strict=True):
            gathered = [distributed.all_gather_uneven(rows if local else rows[:0]) for rows in features]
            for parts in zip(*gathered, strict=True):
                level.update(*parts)

    def values(self) -> dict[str, float]:
        """Return `cka.1`, `cka.2` and so on, and `chance.cka.1` and so on."""
        together = {f"{CKA}.{level}": cka.value() for level, cka in enumerate(self.levels, start=1)}
        return together | {f"{CHANCE}.{CKA}.{level}": cka.chance() for level, cka in enumerate(self.levels, start=1)}


def table(
    student: Network, reference: References, views: ImageLoader, metrics: Iterable[ImageMetric], report: Report
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return a table with one row per image that decoded, and the metrics of all images together.

    Columns: position in the split, label, predictions, and one per metric and level. Each rank runs its share of the
    batches, every image once, and returns the complete table. Raises `NonFiniteAnswers` if any output of the student
    is not finite.
    """
    metrics, total, done = tuple(metrics), int(views.store.heights.count_nonzero()), 0
    columns: dict[str, NDArray[Any]] = {}
    cka = CKAMeter()
    with fp32_inference():
        report(0, total)
        for batch, local in views.iter_sharded(centre_crops(views.store, views.recipe), BATCH_SIZE):
            for name, values in measure(student, reference, batch, local, metrics, cka).items():
                part = torch.cat(distributed.all_gather_uneven(values if local else values[:0])).cpu().numpy()
                columns.setdefault(name, np.empty(total, part.dtype))[done : done + len(part)] = part
            done += len(part)
            report(done, total)
    if not columns:
        raise DatasetError(f"{views.dataset.name}: none of the {len(views.labels):,} test images decodes")
    finite_rows = columns.pop(FINITE)
    refuse_non_finite(int((~finite_rows).sum()), total)
    return pd.DataFrame(columns, copy=False), cka.values()


def measure(
    student: Network,
    reference: References,
    batch: Batch,
    local: bool,
    metrics: Iterable[ImageMetric],
    cka: CKAMeter,
) -> dict[str, Tensor]:
    """Return the columns of one batch; the student runs once."""
    output = student(batch.images)
    confidence, prediction = output.logits.softmax(dim=1).max(dim=1)
    maps = compact(output)  # activation maps, computed once
    columns = {FINITE: finite(maps.tensors())}
    columns |= {"position": batch.ids, "label": batch.labels, "prediction": prediction, "confidence": confidence}
    teacher = output if reference.teacher is None else reference.teacher(batch.ids)
    partners = None
    if reference.teacher is not None:
        columns["teacher_prediction"] = teacher.logits.argmax(dim=1)
        if reference.partner is not None:
            partners = reference.teacher(reference.partner[batch.ids.cpu()])
            cka.update(output, teacher, partners, local)
    for metric in metrics:
        levels = isinstance(metric, LevelMetric)
        columns |= by_level(metric.name, metric(maps if levels else output, teacher, batch))
        if levels and partners is not None:
            columns |= by_level(f"{CHANCE}.{metric.name}", metric(maps, partners, batch))
    if reference.objects is not None:
        objects = {"": reference.objects(batch.ids)}
        if reference.partner is not None:
            objects[f"{CHANCE}."] = reference.objects(reference.partner[batch.ids.cpu()])
        columns[skill.IN_VIEW] = _objects.in_view(objects[""])
        columns |= on_objects("", maps, objects)
        if reference.teacher is not None:
            columns |= on_objects(TEACHER, teacher, objects)
    return columns


def on_objects(who: str, output: Output, looks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the scores of maps on the objects of their images, and the chance level: on the objects of the partners.

    `who` is a prefix for the columns' names, `looks` are objects (B, H, W), each with a further prefix.
    """
    columns: dict[str, Tensor] = {}
    levels = output.activation_maps()
    for prefix, objects in looks.items():
        for name, score in _objects.SCORES.items():
            values = [score.of(maps, objects) for maps in levels]
            columns |= by_level(f"{prefix}{who}{name}", torch.stack(values, dim=1))
    return columns


def by_level(name: str, values: Tensor) -> dict[str, Tensor]:
    """Return `{"top1": (B,)}` for (B,), `{"ssim.1": (B,), "ssim.2": ...}` from the shallowest level on for (B, L)."""
    if values.dim() == 1:
        return {name: values}
    return {f"{name}.{level}": column for level, column in enumerate(values.unbind(dim=1), start=1)}
