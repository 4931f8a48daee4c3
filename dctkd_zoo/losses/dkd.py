"""Decoupled knowledge distillation, DKD (Zhao et al., CVPR 2022, arXiv 2203.08679)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dctkd_zoo.data.batch import UNLABELLED, Batch
from dctkd_zoo.features import Output, to_fp32
from dctkd_zoo.losses import Term
from dctkd_zoo.losses._base import divergence, not_negative, over_labels, positive, same_classes, standardise

CLASSES = 3  # at least: with two there is only one other class, whose share among the others is always 1


def split(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Split predictions into those of the label and of the others: logits (B, K), labels (B,) -> (B, 2), (B, K - 1).

    The first are log-probabilities of the label's class and of all others together, the second those of each other
    class among the others. All are finite for finite logits: the label's column is left out, not masked by -inf, and
    `log(1 - p)` is a sum of the others.
    """
    target = labels.clamp(min=0)[:, None]  # the value of an image without a label is not used
    others = torch.arange(logits.shape[1] - 1, device=logits.device)
    log_p = F.log_softmax(logits, dim=1)
    rest = log_p.gather(1, others + (others >= target))
    total = rest.logsumexp(dim=1, keepdim=True)
    return torch.cat([log_p.gather(1, target), total], dim=1), rest - total


def dkd(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float, alpha: float, beta: float
) -> Tensor:
    """Return `T^2 (alpha KL(b_t || b_s) + beta KL(q_t || q_s))` in nats: logits (B, K), labels (B,) -> (B,).

    `b = (p_y, 1 - p_y)` is the prediction of the label against all other classes, `q` that of the other classes,
    rescaled to sum to 1, both at temperature T. It is 0 for a label of -1, an image without one.
    """
    student, student_rest = split(to_fp32(student_logits) / temperature, labels)
    teacher, teacher_rest = split(to_fp32(teacher_logits) / temperature, labels)
    value = alpha * divergence(student, teacher) + beta * divergence(student_rest, teacher_rest)
    return torch.where(labels == UNLABELLED, 0, temperature**2 * value)


class DKD(Term):
    """Decoupled distillation: `kd` is the sum of both parts with `alpha` = 1 and `beta` = 1 - p_y of the teacher.

    For a blended image, it is the weighted mean of the values of both labels.

    Args:
        temperature: of both predictions.
        alpha: weight of the label against all other classes.
        beta: weight of the other classes among each other. The authors take 8 for ResNet-32x4 and ShuffleNets, 6 for
            wide ResNets, 2 for ResNet-56 (CIFAR-100), and 0.5 at temperature 1 on ImageNet. The more confident the
            teacher, the larger it should be; with few classes 8 can be too much.
        standardise: whether each image's logits are first brought to mean 0 and deviation 1, as in `kd`.

    The authors' weight is 1 beside 1 of `ce`, with a linear warm-up over the first 20 of 240 epochs, which is
    `Recipe(ramps={"dkd": Ramp(over=1 / 12)})`. Their code takes the logarithm of a rounded probability and is infinite
    for confident logits; where it is finite, the values are the same.
    """

    needs_labels = True

    def __init__(
        self, temperature: float = 4.0, alpha: float = 1.0, beta: float = 8.0, standardise: bool = False
    ) -> None:
        super().__init__()
        positive(temperature=temperature)
        not_negative(alpha=alpha, beta=beta)
        self.temperature, self.alpha, self.beta = temperature, alpha, beta
        self.standardise = standardise

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        same_classes("dkd", student.logits, teacher.logits)
        if student.logits.shape[1] < CLASSES:
            raise ValueError(f"dkd needs at least {CLASSES} classes, but there are {student.logits.shape[1]}")
        prepare = standardise if self.standardise else to_fp32
        logits = prepare(student.logits), prepare(teacher.logits)
        return over_labels(lambda labels: dkd(*logits, labels, self.temperature, self.alpha, self.beta), batch)
