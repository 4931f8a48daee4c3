"""Agreement with the teacher: the share of images for which both predict the same class, in percent."""

from __future__ import annotations

from torch import Tensor

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from eval.metrics._base import ImageMetric


class Agreement(ImageMetric):
    """100 if student and teacher predict the same class, right or wrong, else 0."""

    needs_teacher = True
    share = True

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one number per image, (B,)."""
        return 100.0 * (student.logits.argmax(dim=1) == teacher.logits.argmax(dim=1))
