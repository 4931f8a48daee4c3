"""Top-1 accuracy: the share of images whose class is the student's best guess, in percent."""

from __future__ import annotations

from torch import Tensor

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from eval.metrics._base import ImageMetric


class Top1(ImageMetric):
    """100 where the best guess is the class, else 0."""

    share = True

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """One number per image, (B,)."""
        return 100.0 * (student.logits.argmax(dim=1) == batch.labels)
