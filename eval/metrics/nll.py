"""Negative log-likelihood (NLL) of the true class in nats: the cross-entropy that training minimises."""

from __future__ import annotations

from torch import Tensor

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.losses.ce import cross_entropy
from eval.metrics._base import ImageMetric


class NLL(ImageMetric):
    """Negative log of the probability that the student gives the true class."""

    protocols = ("exact", "released")

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one number per image, (B,)."""
        return cross_entropy(student.logits, batch.labels)
