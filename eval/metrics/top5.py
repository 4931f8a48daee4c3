"""Top-5 accuracy: the share of images whose class is among the student's five best guesses, in percent."""

from __future__ import annotations

from torch import Tensor

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from eval.metrics._base import ImageMetric


class Top5(ImageMetric):
    """100 where the class is among the five best guesses (all of them, where there are fewer), else 0."""

    share = True

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """One number per image, (B,)."""
        guesses = student.logits.topk(min(5, student.logits.shape[1]), dim=1).indices
        return 100.0 * (guesses == batch.labels[:, None]).any(dim=1)
