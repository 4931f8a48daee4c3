"""Cross-entropy of the student's logits with the labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output, to_fp32
from dctkd_zoo.losses import Term


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the negative log-likelihood in nats: logits (B, K), labels (B,) -> (B,)."""
    return F.cross_entropy(to_fp32(logits), labels, reduction="none")


class CrossEntropy(Term):
    """Cross-entropy with the labels; no teacher needed."""

    needs_teacher = False

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        return cross_entropy(student.logits, batch.labels)
