"""Explanation-enhanced distillation, e2KD (Parchami-Araghi et al., ECCV 2024, arXiv 2402.03119)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from dctkd_zoo.attention import grad_cam
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.levels import pooled
from dctkd_zoo.losses import Term
from dctkd_zoo.losses._base import class_map_pair, not_negative, positive
from dctkd_zoo.losses.kd import kd


def e2kd(student_cam: Tensor, teacher_cam: Tensor) -> Tensor:
    """Return 1 - cosine of two Grad-CAMs (B, H, W) of any sizes -> (B,), in [0, 1].

    They are average-pooled to the smaller height and width. It is 1, without a gradient, if one of them is zero.
    """
    student, teacher = (m.flatten(1) for m in pooled(student_cam[:, None], teacher_cam[:, None]))
    return 1 - (F.normalize(student, dim=1) * F.normalize(teacher, dim=1)).sum(dim=1)


class E2KD(Term):
    """Hinton's distillation at `temperature`, plus `explanation` times the distance of two Grad-CAMs.

    These are student's and teacher's, both of the teacher's first class, so that the student is right for the same
    reason. The authors use no labels, temperatures of 1 and 5, and 0.2 to 10 as `explanation`. They differentiate twice
    for Grad-CAM; from class maps it follows without that (`attention.grad_cam`).
    """

    needs_class_maps = True

    def __init__(self, temperature: float = 1.0, explanation: float = 1.0) -> None:
        super().__init__()
        positive(temperature=temperature)
        not_negative(explanation=explanation)
        self.temperature, self.explanation = temperature, explanation

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        maps, first = class_map_pair(student, teacher, "e2kd"), teacher.logits.argmax(dim=1)
        distance = e2kd(*(grad_cam(m, first) for m in maps))
        return kd(student.logits, teacher.logits, self.temperature) + self.explanation * distance
