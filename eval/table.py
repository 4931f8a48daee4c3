"""Two networks and a test set to a table with one row per image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.views import Views
from dctkd_zoo.errors import DatasetError
from dctkd_zoo.features import Output, Tapped
from eval.metric import ImageMetric

BATCH_SIZE = 64  # what fits beside two networks at 224 px; the figures do not depend on it

Report = Callable[[int, int], None]  # images done, of how many
Teach = Callable[[Batch], Output]  # a network that is run, or what it said before


@contextmanager
def exactly() -> Iterator[None]:
    """No gradients, and no TF32, to which a GPU's convolutions would otherwise round float32."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def table(
    student: Tapped, teach: Teach | None, views: Views, metrics: Iterable[ImageMetric], report: Report
) -> pd.DataFrame:
    """One row per image that decoded: position in the split, label, predictions, and a column per metric and level."""
    metrics, total, done = tuple(metrics), int(views.store.heights.count_nonzero()), 0
    parts: list[dict[str, Tensor]] = []
    with exactly():
        report(0, total)
        for batch in views.test(BATCH_SIZE):
            parts.append(measure(student, teach, batch, metrics))
            done += len(batch.labels)
            report(done, total)
    if not parts:
        raise DatasetError(f"{views.dataset.name}: none of the {len(views.labels):,} test images decodes")
    return pd.DataFrame({name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]})


def measure(student: Tapped, teach: Teach | None, batch: Batch, metrics: Iterable[ImageMetric]) -> dict[str, Tensor]:
    """The columns of one batch, on the CPU; each network runs once."""
    ours = student(batch.images)
    theirs = ours if teach is None else teach(batch)
    confidence, prediction = ours.logits.softmax(dim=1).max(dim=1)
    columns = {"position": batch.ids, "label": batch.labels, "prediction": prediction, "confidence": confidence}
    if teach is not None:
        columns["teacher_prediction"] = theirs.logits.argmax(dim=1)
    for metric in metrics:
        columns |= _columns(metric.name, metric(ours, theirs, batch))
    return {name: _plain(values) for name, values in columns.items()}


def _columns(name: str, values: Tensor) -> dict[str, Tensor]:
    """`{"top1": (B,)}`, or `{"ssim.1": (B,), "ssim.2": ...}` from the shallowest level on."""
    if values.dim() == 1:
        return {name: values}
    return {f"{name}.{level}": column for level, column in enumerate(values.unbind(dim=1), start=1)}


def _plain(values: Tensor) -> Tensor:
    values = values.cpu()
    return values.double() if values.is_floating_point() else values
