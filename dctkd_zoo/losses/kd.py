"""Knowledge distillation of logits (Hinton, Vinyals and Dean, 2015, arXiv 1503.02531)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output, to_fp32
from dctkd_zoo.losses import Term
from dctkd_zoo.losses._base import divergence, positive, same_classes, standardise


def kd(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return `T^2 KL(softmax(teacher / T) || softmax(student / T))` in nats: logits (B, K) -> (B,)."""
    student = F.log_softmax(to_fp32(student_logits) / temperature, dim=1)
    teacher = F.log_softmax(to_fp32(teacher_logits) / temperature, dim=1)
    return temperature**2 * divergence(student, teacher)


class KD(Term):
    """Hinton's distillation at `temperature` (4 in the paper's experiments).

    With `standardise`, each image's logits are first brought to mean 0 and deviation 1 on both sides (Sun et al., CVPR
    2024, arXiv 2403.01427), so that a student need not copy their scale. Its authors use temperature 2 and weight 9
    beside 0.1 of `ce`. The gradient then grows as the student's logits shrink.
    """

    def __init__(self, temperature: float = 4.0, standardise: bool = False) -> None:
        super().__init__()
        positive(temperature=temperature)
        self.temperature = temperature
        self.standardise = standardise

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        same_classes("kd", student.logits, teacher.logits)
        if self.standardise:
            return kd(standardise(student.logits), standardise(teacher.logits), self.temperature)
        return kd(student.logits, teacher.logits, self.temperature)
