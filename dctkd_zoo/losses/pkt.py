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
    """Return how similar each image of a batch is to each: (B, D) -> (B, B), rows sum to 1.

    These are cosine similarities scaled to [0, 1], as the probability that one image picks another as its neighbour.
    With several ranks, the rows are this rank's images, the columns those of all ranks.
    """
    length = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
    unit = embeddings / (length + EPSILON)
    with torch.autocast(embeddings.device.type, enabled=False):
        similarity = (unit @ distributed.all_gather_with_grad(unit).T + 1) / 2
    probabilities: Tensor = similarity / similarity.sum(dim=1, keepdim=True)
    return probabilities


def pkt(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the KL divergence of the teacher's neighbours from the student's in nats, over B: (B, D), (B, D') -> (B,).

    It is divided by the batch size as in the authors' code, whose mean runs over all pairs of images.
    """
    q, p = neighbours(to_fp32(student)), neighbours(to_fp32(teacher))
    return (p * ((p + EPSILON) / (q + EPSILON)).log()).mean(dim=1)


class PKT(Term):
    """Neighbourhoods of the embeddings within a batch, of which a batch of one image has none."""

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        return pkt(student.embedding, teacher.embedding)
