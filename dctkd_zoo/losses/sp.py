"""Similarity-preserving distillation (Tung and Mori, ICCV 2019, arXiv 1907.09682), on the deepest features."""

from __future__ import annotations

import torch
from torch import Tensor

from dctkd_zoo.attention import safe_divide
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output, to_fp32
from dctkd_zoo.levels import feature_pairs
from dctkd_zoo.losses import Term
from dctkd_zoo.losses._base import inner_products


def similarities(features: Tensor) -> Tensor:
    """Return inner products of each image's features (B, C, H, W) with those of its batch, rows of unit L2 norm.

    With several ranks, the rows are this rank's images, the columns those of all ranks. The row of an image whose
    features are all zero is zero and has a zero gradient, which 1 over its length would make infinite.
    """
    products = inner_products(to_fp32(features))
    return safe_divide(products, torch.linalg.vector_norm(products, dim=1, keepdim=True))


def sp(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of two rows of similarities: (B, C, H, W), (B, C', H', W') -> (B,).

    Its mean over the batch is `||G_t - G_s||^2 / B^2`, with the Frobenius norm, as in the paper.
    """
    return (similarities(student) - similarities(teacher)).square().mean(dim=1)


class SP(Term):
    """Similarities between the images of a batch, of which a batch of one image has none.

    The usual weight is 3,000 (CIFAR-100, batches of 64), since values are at most 4 / B: it has to grow with the batch.
    Networks may differ in channels and in size. Of features after a ReLU, all similarities are positive.
    """

    needs_features = True

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        return sp(*feature_pairs(student, teacher)[-1])
