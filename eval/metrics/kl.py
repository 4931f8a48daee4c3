"""Kullback-Leibler divergence of the student's probabilities from the teacher's, at temperature 1, in nats."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output, to_fp32
from eval.metrics._base import ImageMetric


class KL(ImageMetric):
    """KL(teacher || student) over all classes; 0 for equal probabilities."""

    needs_teacher = True

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one number per image, (B,)."""
        ours, theirs = (F.log_softmax(to_fp32(output.logits), dim=1) for output in (student, teacher))
        terms = F.kl_div(ours, theirs, reduction="none", log_target=True)
        return terms.sum(dim=1).clamp(min=0)  # rounding can bring equal probabilities below 0
