"""Top-5 accuracy: the share of images whose true class is among the five most probable ones, in percent."""

from __future__ import annotations

from torch import Tensor

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from eval.metrics._base import ImageMetric


def among_five(logits: Tensor, labels: Tensor) -> Tensor:
    """Return 100 if a label (B,) is among the five largest of the logits (B, K), else 0 -> (B,)."""
    guesses = logits.topk(min(5, logits.shape[1]), dim=1).indices
    return 100.0 * (guesses == labels[:, None]).any(dim=1)


class Top5(ImageMetric):
    """100 if the true class is among the five most probable classes, else 0; always 100 for up to five classes."""

    protocols = ("exact", "released")

    share = True

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one number per image, (B,)."""
        return among_five(student.logits, batch.labels)
