"""Distillation from a stronger teacher, DIST (Huang et al., NeurIPS 2022, arXiv 2205.10536)."""

from __future__ import annotations

import torch
from torch import Tensor

from dctkd_zoo import distributed
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output, to_fp32
from dctkd_zoo.losses import Term
from dctkd_zoo.losses._base import not_negative, positive, same_classes

EPSILON = 1e-8  # as in the authors' code; with it, constant values have correlation 0 and a finite gradient


def pearson(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Return the Pearson correlation of two tensors along `dim`."""
    a, b = (x - x.mean(dim=dim, keepdim=True) for x in (a, b))
    lengths = torch.linalg.vector_norm(a, dim=dim) * torch.linalg.vector_norm(b, dim=dim)
    correlation: Tensor = (a * b).sum(dim=dim) / (lengths + EPSILON)
    return correlation


def dist(student_logits: Tensor, teacher_logits: Tensor, temperature: float, beta: float, gamma: float) -> Tensor:
    """Return `beta (1 - r_i) + gamma (1 - mean over classes r_c)`: logits (B, K) twice -> (B,).

    With `p = softmax(z / T)` of both networks, `r_i` is the correlation of image i's probabilities over the classes,
    `r_c` that of class c's over the batch of all ranks. The second part is one number, added to each image.
    """
    p, q = ((to_fp32(logits) / temperature).softmax(dim=1) for logits in (student_logits, teacher_logits))
    intra = 1 - pearson(distributed.all_gather_with_grad(p), distributed.all_gather_with_grad(q), dim=0).mean()
    return beta * (1 - pearson(p, q, dim=1)) + gamma * intra


class DIST(Term):
    """Correlation of predictions between networks, over classes and over a batch, instead of their divergence.

    Args:
        temperature: of both predictions.
        beta: weight of the relations between the classes of an image (`inter` in the paper).
        gamma: weight of the relations between the images of a batch in a class (`intra`).

    The authors' weight on ImageNet is 1 beside 1 of `ce`. There is no factor T^2; the code that has one is matched by
    a weight T^2 times as large. A class that is constant over the batch counts as uncorrelated. With confident
    networks and many more classes than images most classes nearly are, so the second part stays far above 0 even if
    the networks agree; for one image it is `gamma` with a zero gradient.
    """

    def __init__(self, temperature: float = 1.0, beta: float = 1.0, gamma: float = 1.0) -> None:
        super().__init__()
        positive(temperature=temperature)
        not_negative(beta=beta, gamma=gamma)
        self.temperature, self.beta, self.gamma = temperature, beta, gamma

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        same_classes("dist", student.logits, teacher.logits)
        return dist(student.logits, teacher.logits, self.temperature, self.beta, self.gamma)
