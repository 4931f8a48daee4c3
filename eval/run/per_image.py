"""Two networks and a test set to a table with one row per image, and to what is told of all images together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from dctkd_zoo import distributed
from dctkd_zoo.attention import activation_map
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.loader import ImageLoader, centre_crops
from dctkd_zoo.device import fp32_inference
from dctkd_zoo.errors import DatasetError
from dctkd_zoo.features import FeatureExtractor, Output, finite, refuse_non_finite
from dctkd_zoo.teacher_cache import compact
from eval.metrics import _objects
from eval.metrics._base import ImageMetric, LevelMetric
from eval.metrics._cka import LinearCKA
from eval.stats.skill import CHANCE, CKA, TEACHER

BATCH_SIZE = 64  # what fits beside two networks at 224 px; the figures do not depend on it

FINITE = "finite"  # the column of what `refuse_non_finite` is told

Report = Callable[[int, int], None]  # images done, of how many
Look = Callable[[Tensor], Tensor]  # positions of images (B,) to the objects in them (B, H, W)


@dataclass(frozen=True)
class References:
    """What the images are measured against beside their labels.

    `teacher` says what a teacher makes of the images at some positions (B,), `objects` which pixels show the objects
    that decide their class; both are asked for an image and for its `partner` (N,), for the level of chance.
    """

    teacher: Callable[[Tensor], Output] | None = None
    objects: Look | None = None
    partner: Tensor | None = None


@dataclass
class CKAMeter:
    """Similarity of the features of all images so far, by level: of student and teacher, and by chance."""

    together: list[LinearCKA] = field(default_factory=list)
    apart: list[LinearCKA] = field(default_factory=list)

    def update(self, student: Output, theirs: Output, others: Output, own: bool) -> None:
        """Add a batch: the student's outputs, the teacher's, and the teacher's of the partners; `own` as `ranks.turns`.

        Each rank adds what all of them have, batch by batch, and so has the figures of a single process.
        """
        for result, teacher in ((self.together, theirs), (self.apart, others)):
            mine, other = student.pooled(), teacher.pooled()
            count = min(len(mine), len(other))  # levels are paired from the deepest
            result += [LinearCKA() for _ in range(count - len(result))]
            for level, x, y in zip(result, mine[-count:], other[-count:], strict=True):
                for xs, ys in zip(
                    *(distributed.all_gather_uneven(rows if own else rows[:0]) for rows in (x, y)), strict=True
                ):
                    level.update(xs, ys)

    def values(self) -> dict[str, float]:
        """`cka.1` and on, and `chance.cka.1` and on."""
        sides = ((CKA, self.together), (f"{CHANCE}.{CKA}", self.apart))
        return {f"{name}.{level}": cka.value() for name, result in sides for level, cka in enumerate(result, start=1)}


def table(
    student: FeatureExtractor, reference: References, views: ImageLoader, metrics: Iterable[ImageMetric], report: Report
) -> tuple[pd.DataFrame, dict[str, float]]:
    """One row per image that decoded, and figures of all images together.

    Columns: position in the split, label, predictions, and one per metric and level. Of several ranks each
    runs its share of the batches, every image once, and has the whole table. `NonFiniteAnswers` where the student's
    are no numbers on any of them.
    """
    metrics, total, done = tuple(metrics), int(views.store.heights.count_nonzero()), 0
    columns: dict[str, NDArray[Any]] = {}
    alike = CKAMeter()
    with fp32_inference():
        report(0, total)
        for batch, own in views.iter_sharded(centre_crops(views.store, views.recipe), BATCH_SIZE):
            for name, values in measure(student, reference, batch, own, metrics, alike).items():
                part = torch.cat(distributed.all_gather_uneven(values if own else values[:0])).cpu().numpy()
                columns.setdefault(name, np.empty(total, part.dtype))[done : done + len(part)] = part
            done += len(part)
            report(done, total)
    if not columns:
        raise DatasetError(f"{views.dataset.name}: none of the {len(views.labels):,} test images decodes")
    answered = columns.pop(FINITE)
    refuse_non_finite(int((~answered).sum()), total)
    return pd.DataFrame(columns, copy=False), alike.values()


def measure(
    student: FeatureExtractor,
    reference: References,
    batch: Batch,
    own: bool,
    metrics: Iterable[ImageMetric],
    alike: CKAMeter,
) -> dict[str, Tensor]:
    """The columns of one batch; the student runs once."""
    ours = student(batch.images)
    confidence, prediction = ours.logits.softmax(dim=1).max(dim=1)
    columns = {FINITE: finite(ours.tensors())}
    columns |= {"position": batch.ids, "label": batch.labels, "prediction": prediction, "confidence": confidence}
    teacher = ours if reference.teacher is None else reference.teacher(batch.ids)
    others = None
    if reference.teacher is not None:
        columns["teacher_prediction"] = teacher.logits.argmax(dim=1)
        if reference.partner is not None:
            others = reference.teacher(reference.partner[batch.ids.cpu()])
            alike.update(ours, teacher, others, own)
    small = compact(ours)  # metrics of levels read activation maps, made once
    for metric in metrics:
        levels = isinstance(metric, LevelMetric)
        columns |= by_level(metric.name, metric(small if levels else ours, teacher, batch))
        if levels and others is not None:
            columns |= by_level(f"{CHANCE}.{metric.name}", metric(small, others, batch))
    if reference.objects is not None:
        columns |= on_objects("", small, batch.ids, reference.objects, reference.partner)
        if reference.teacher is not None:
            columns |= on_objects(TEACHER, teacher, batch.ids, reference.objects, reference.partner)
    return columns


def on_objects(who: str, output: Output, ids: Tensor, look: Look, partner: Tensor | None) -> dict[str, Tensor]:
    """How far the maps of some images lie on their objects, and by chance: on those of their partners."""
    columns: dict[str, Tensor] = {}
    looks = {"": look(ids)} | ({f"{CHANCE}.": look(partner[ids.cpu()])} if partner is not None else {})
    for prefix, objects in looks.items():
        for name, score in _objects.SCORES.items():
            values = [score.of(activation_map(features), objects) for features in output.maps]
            columns |= by_level(f"{prefix}{who}{name}", torch.stack(values, dim=1))
    return columns


def by_level(name: str, values: Tensor) -> dict[str, Tensor]:
    """`{"top1": (B,)}`, or `{"ssim.1": (B,), "ssim.2": ...}` from the shallowest level on."""
    if values.dim() == 1:
        return {name: values}
    return {f"{name}.{level}": column for level, column in enumerate(values.unbind(dim=1), start=1)}
