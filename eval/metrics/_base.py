"""What a metric is: outputs and a batch to one number per image, or a per-image table to one number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import pandas as pd
import torch
from torch import Tensor

from dctkd_zoo import discover
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.levels import map_pairs
from eval import metrics


class Metric(ABC):  # noqa: B024  the two kinds below say what a metric must do
    """A metric, called as its file in `eval/metrics/` is."""

    @property
    def name(self) -> str:
        """The name of its file."""
        return type(self).__module__.rpartition(".")[2]


class ImageMetric(Metric):
    """A number per image (B,), or one per image and level (B, L); a protocol takes its mean.

    A metric with `needs_teacher` is left out where there is no teacher; of one that is a `share`
    each number is 100 or 0.
    """

    needs_teacher = False
    share = False

    @abstractmethod
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The numbers of one batch."""


class LevelMetric(ImageMetric):
    """How alike the activation maps of student and teacher are at each level, from shallow to deep.

    Maps of different sizes are compared at the smaller one, as in training (`levels.map_pairs`).
    `best` is the score of equal maps: 1 for a likeness, 0 for a distance.
    """

    needs_teacher = True
    best: float = 1.0

    @abstractmethod
    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """One level: maps (B, H, W) -> (B,), finite on constant maps too."""

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """A column per level, (B, L)."""
        return torch.stack([self.compare(s, t) for s, t in map_pairs(student, teacher)], dim=1)


class TableMetric(Metric):
    """A number that is no mean over images."""

    @abstractmethod
    def reduce(self, table: pd.DataFrame, num_classes: int) -> float:
        """The per-image table (columns `label`, `prediction`, `confidence`) to one number."""


def load(names: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics of the files `eval/metrics/<name>.py`; `ValueError` for a name that has none."""
    return tuple(discover.only(discover.load(metrics.__name__, name), Metric)() for name in names)
