"""Base classes of metrics: of single images, of levels of activation maps, and of per-image tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cache

import pandas as pd
import torch
from torch import Tensor

from dctkd_zoo import discover
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.levels import map_pairs
from eval import metrics


class Metric(ABC):  # noqa: B024  the subclasses have the abstract methods
    """A metric, named after its file in `eval/metrics/`; `protocols` are those that it belongs to.

    One with `needs_teacher` is left out if there is no teacher.
    """

    protocols: tuple[str, ...] = ("exact",)
    needs_teacher = False

    @property
    def name(self) -> str:
        """The name of its module."""
        return type(self).__module__.rpartition(".")[2]


class ImageMetric(Metric):
    """A metric with one number per image (B,), or one per image and level (B, L); the protocol averages them.

    A `share` has only the numbers 100 and 0. One with `needs_class_maps` is left out if the networks give none.
    """

    share = False
    needs_class_maps = False

    @abstractmethod
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return the numbers of one batch, (B,) or (B, L)."""


class LevelMetric(ImageMetric):
    """A metric that compares the activation maps of student and teacher at each level, from shallow to deep.

    Maps of different sizes are compared at the smaller size, as in training (`levels.map_pairs`). `best` is the value
    for equal maps: 1 for a similarity, 0 for a distance.
    """

    needs_teacher = True
    best: float = 1.0

    @abstractmethod
    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return the values (B,) of one level with maps (B, H, W); they must be finite for constant maps too."""

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return a column per level, (B, L)."""
        return torch.stack([self.compare(s, t) for s, t in map_pairs(student, teacher)], dim=1)


class TableMetric(Metric):
    """A metric that is not a mean over images."""

    def fits(self, table: pd.DataFrame) -> bool:
        """Return whether a per-image table has the columns that the metric reads."""
        return "teacher_prediction" in table or not self.needs_teacher

    @abstractmethod
    def reduce(self, table: pd.DataFrame, num_classes: int) -> float:
        """Return the value of a per-image table (columns `label`, `prediction`, `confidence`, `teacher_prediction`)."""


def load(names: Iterable[str]) -> tuple[Metric, ...]:
    """Return the metrics in the files `eval/metrics/<name>.py`; `ValueError` for a name without a file."""
    return tuple(discover.only(discover.load(metrics.__name__, name), Metric)() for name in names)


@cache
def of_protocol(protocol: str) -> tuple[str, ...]:
    """Return the names of all metrics of a protocol, sorted."""
    return tuple(metric.name for metric in load(discover.modules(metrics.__name__)) if protocol in metric.protocols)
