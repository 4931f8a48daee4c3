"""Contrastive representation distillation (Tian, Krishnan and Isola, ICLR 2020, arXiv 1910.10699)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dctkd_zoo import distributed
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output, to_fp32
from dctkd_zoo.losses import Term

EPSILON = 1e-7  # as in the authors' code


def crd(scores: Tensor, size: int) -> Tensor:
    """Return the noise-contrastive loss of scores (B, 1 + K), the positive first, in nats -> (B,).

    It is the negative log-probability of telling a pair of the same image from K pairs of different ones, drawn
    from `size` images (equation 18 of the paper's appendix).
    """
    noise = (scores.shape[1] - 1) / size
    positive = scores[:, 0] / (scores[:, 0] + noise + EPSILON)
    negative = noise / (scores[:, 1:] + noise + EPSILON)
    return -(positive.log() + negative.log().sum(dim=1))


class Pool(nn.Module):
    """Training images that may serve as negatives, to draw those of another class from."""

    labels: Tensor

    def __init__(self, labels: Tensor, count: int) -> None:
        super().__init__()
        others = len(labels) - labels.unique(return_counts=True)[1]
        if others.min() < 1:
            raise ValueError(f"all {len(labels)} images that crd may draw negatives from are of one class")
        self.register_buffer("labels", labels, persistent=False)
        self.count = count
        self.replace = count > int(others.min())

    def draw(self, labels: Tensor) -> Tensor:
        """Draw `count` images of another class for each of `labels` (B,) -> positions (B, count)."""
        other = self.labels[None, :] != labels[:, None]
        return torch.multinomial(other.float(), self.count, replacement=self.replace)


class Bank(nn.Module):
    """The latest embedding of every training image (N, D), and the normalisation of its scores."""

    memory: Tensor
    partition: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        bound = math.sqrt(3 / dim)
        self.register_buffer("memory", torch.empty(size, dim).uniform_(-bound, bound))
        self.register_buffer("partition", torch.zeros(()))  # set by the first batch, then fixed

    def scores(self, anchors: Tensor, ids: Tensor, temperature: float) -> Tensor:
        """Return likelihood scores of each anchor (B, D) with the images `ids` (B, 1 + K) -> (B, 1 + K)."""
        # Compute all N products, then select: otherwise K embeddings per image would have to be gathered first.
        scores = ((anchors @ self.memory.T).gather(1, ids) / temperature).exp()
        first = distributed.all_gather_with_grad(scores.detach().mean(dim=1)).mean() * len(self.memory)
        partition = torch.where(self.partition == 0, first, self.partition)
        if self.training:
            self.partition.copy_(partition)
        return scores / partition

    def update(self, ids: Tensor, embeddings: Tensor, momentum: float) -> None:
        """Move the stored embeddings of the images `ids` (B,) towards the new ones (B, D), equally on all ranks."""
        ids, embeddings = distributed.all_gather_with_grad(ids), distributed.all_gather_with_grad(embeddings)
        moved = torch.lerp(embeddings, self.memory[ids], momentum)
        # A new tensor: the products of this step still need the old one for their gradient.
        self.memory = self.memory.index_copy(0, ids, F.normalize(moved, dim=1))


class CRD(Term):
    """Contrast of the teacher's embedding with the bank of student embeddings, and vice versa.

    Args:
        negatives: `all` draws them from the whole training set; `released` from its first images
            only, as many as there are classes, which is what the released code does (docs/method.md, D-7).
        count: negatives per image, K; drawn without replacement if every class leaves that many.
        temperature: of the scores.
        momentum: weight of the old embedding when an image's entry in a bank is updated.
        dim: dimension of the space that both embeddings are projected to.
    """

    needs_labels = True
    needs_ids = True

    def __init__(
        self,
        negatives: str = "all",
        count: int = 16_384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        dim: int = 128,
    ) -> None:
        super().__init__()
        if negatives not in ("all", "released"):
            raise ValueError(f"negatives {negatives!r} is neither 'all' nor 'released'")
        self.negatives, self.count, self.dim = negatives, count, dim
        self.temperature, self.momentum = temperature, momentum

    def setup(self, student: Output, teacher: Output, labels: Tensor | None = None) -> None:
        """Create projections, banks and the pool of negatives."""
        if labels is None:
            raise ValueError("crd draws its negatives from the training set: pass its labels to setup")
        self.project_student = nn.Linear(student.embedding.shape[1], self.dim)
        self.project_teacher = nn.Linear(teacher.embedding.shape[1], self.dim)
        self.student_bank, self.teacher_bank = Bank(len(labels), self.dim), Bank(len(labels), self.dim)
        eligible = len(labels) if self.negatives == "all" else student.logits.shape[1]
        self.pool = Pool(labels[:eligible], self.count)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,). In training mode it also updates the banks."""
        with torch.autocast(batch.labels.device.type, enabled=False):  # exp(1 / 0.07) needs full precision
            student_embedding = F.normalize(self.project_student(to_fp32(student.embedding)), dim=1)
            teacher_embedding = F.normalize(self.project_teacher(to_fp32(teacher.embedding)), dim=1)
            # Drawn for the batch of all ranks, so that an image has the same negatives on any number of ranks.
            negatives = distributed.local_rows(
                self.pool.draw(distributed.all_gather_with_grad(batch.labels)), len(batch.labels)
            )
            ids = torch.cat([batch.ids[:, None], negatives], dim=1)
            size = len(self.student_bank.memory)
            value = crd(self.teacher_bank.scores(student_embedding, ids, self.temperature), size)
            value = value + crd(self.student_bank.scores(teacher_embedding, ids, self.temperature), size)
        if self.training:
            self.student_bank.update(batch.ids, student_embedding.detach(), self.momentum)
            self.teacher_bank.update(batch.ids, teacher_embedding.detach(), self.momentum)
        return value
