"""Cross-entropy of the student's logits with the labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from dctkd_zoo.data.batch import UNLABELLED, Batch
from dctkd_zoo.features import Output, to_fp32
from dctkd_zoo.losses import Term
from dctkd_zoo.losses._base import over_labels


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy in nats: logits (B, K), labels (B,) -> (B,).

    It is 0 for a label of -1, an image without one. `label_smoothing` of the target's probability is spread evenly over
    all K classes (Szegedy et al., CVPR 2016).
    """
    return F.cross_entropy(
        to_fp32(logits), labels, reduction="none", label_smoothing=label_smoothing, ignore_index=UNLABELLED
    )


class CrossEntropy(Term):
    """Cross-entropy with the labels; no teacher needed. For a blended image, the weighted mean of that with both."""

    needs_teacher = False
    needs_labels = True

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing} but should be in [0, 1)")
        self.label_smoothing = label_smoothing

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        return over_labels(lambda labels: cross_entropy(student.logits, labels, self.label_smoothing), batch)
