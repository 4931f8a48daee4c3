"""Agreement in the top 5: how often the teacher's class is among the student's five most probable ones, in percent."""

from __future__ import annotations

from torch import Tensor

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from eval.metrics._base import ImageMetric
from eval.metrics.top5 import among_five


class Agreement5(ImageMetric):
    """100 if the teacher's class is among the student's five most probable ones, else 0; 100 for up to five classes."""

    needs_teacher = True
    share = True

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one number per image, (B,)."""
        return among_five(student.logits, teacher.logits.argmax(dim=1))
