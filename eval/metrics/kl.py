"""Kullback-Leibler divergence of the student's probabilities from the teacher's, at temperature 1, in nats."""

from __future__ import annotations

from torch import Tensor

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.losses.kd import kd
from eval.metrics._base import ImageMetric


class KL(ImageMetric):
    """KL(teacher || student) over all classes; 0 for equal probabilities."""

    needs_teacher = True

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one number per image, (B,)."""
        # Rounding can bring equal probabilities below 0.
        return kd(student.logits, teacher.logits, temperature=1.0).clamp(min=0)
