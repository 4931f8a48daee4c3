"""Top-1 accuracy: the share of images whose predicted class is the true class, in percent."""

from __future__ import annotations

from torch import Tensor

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from eval.metrics._base import ImageMetric


class Top1(ImageMetric):
    """100 if the predicted class is the true class, else 0."""

    protocols = ("exact", "released")

    share = True

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one number per image, (B,)."""
        return 100.0 * (student.logits.argmax(dim=1) == batch.labels)
