"""Probabilistic knowledge transfer (Passalis and Tefas, ECCV 2018, arXiv 1803.10837), on the embedding."""

from __future__ import annotations

import torch
from torch import Tensor

from dctkd_zoo import distributed
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output, to_fp32
from dctkd_zoo.losses import Term

EPSILON = 1e-7  # as in the authors' code


def neighbours(embeddings: Tensor) -> Tensor:
    """How alike each image of a batch is to each: (B, D) -> (B, B), rows of sum 1.

    Cosine similarities brought to [0, 1], as the chance that one image picks the other for its neighbour.
    Where ranks share a batch, the rows are this one's, the columns all of theirs.
    """
    length = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
    unit = embeddings / (length + EPSILON)
    with torch.autocast(embeddings.device.type, enabled=False):
        likeness = (unit @ distributed.all_gather_with_grad(unit).T + 1) / 2
    chances: Tensor = likeness / likeness.sum(dim=1, keepdim=True)
    return chances


def pkt(student: Tensor, teacher: Tensor) -> Tensor:
    """KL divergence of the teacher's neighbours from the student's in nats, over B: (B, D), (B, D') -> (B,).

    Divided by the batch as in the authors' code, whose mean goes over all pairs of images.
    """
    ours, theirs = neighbours(to_fp32(student)), neighbours(to_fp32(teacher))
    return (theirs * ((theirs + EPSILON) / (ours + EPSILON)).log()).mean(dim=1)


class PKT(Term):
    """Neighbourhoods of the embeddings. Compares images of a batch with each other: a batch of one has none."""

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """One number per image, (B,)."""
        return pkt(student.embedding, teacher.embedding)
