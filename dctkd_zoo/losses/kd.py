"""Knowledge distillation of logits (Hinton, Vinyals and Dean, 2015, arXiv 1503.02531)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output, to_fp32
from dctkd_zoo.losses import Term


def kd(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return `T^2 KL(softmax(teacher / T) || softmax(student / T))` in nats: logits (B, K) -> (B,)."""
    student = F.log_softmax(to_fp32(student_logits) / temperature, dim=1)
    teacher = F.log_softmax(to_fp32(teacher_logits) / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)


class KD(Term):
    """Hinton's distillation at `temperature` (4 in the paper's experiments)."""

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature {temperature} is not positive")
        self.temperature = temperature

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        if student.logits.shape != teacher.logits.shape:
            classes = student.logits.shape[1], teacher.logits.shape[1]
            raise ValueError(
                f"kd needs the same classes, but the student has {classes[0]} and the teacher {classes[1]}"
            )
        return kd(student.logits, teacher.logits, self.temperature)
