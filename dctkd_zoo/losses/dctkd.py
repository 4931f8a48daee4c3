"""The DCT loss: distance between the frequency transforms of activation maps (López-Cifuentes et al., TCSVT 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.levels import map_pairs
from dctkd_zoo.losses import Term, over
from dctkd_zoo.spectrum import TRANSFORMS, Transform


def spectral_distance(student_map: Tensor, teacher_map: Tensor, transform: Transform) -> Tensor:
    """Return the L2 norm of the difference of two normalised spectra: maps (B, H, W) -> (B,).

    The norm is neither squared nor divided by H W, as released. Its gradient is zero where the maps are equal, and
    constant maps have a finite distance (docs/method.md, Fact 7).
    """
    distance: Tensor = torch.linalg.vector_norm(transform(student_map) - transform(teacher_map), dim=(1, 2))
    return distance


def teacher_is_right(teacher: Output, batch: Batch) -> Tensor:
    """Return whether the teacher's top-1 prediction is the label, (B,); for a blended image, one of the two.

    It is false for an image that counts as unlabelled.
    """
    prediction = teacher.logits.argmax(dim=1)
    right = prediction == batch.labels
    return right if batch.other_labels is None else (right | (prediction == batch.other_labels)) & batch.labelled()


def over_batch(correct: Tensor, batch: Batch) -> Tensor:
    """Return the factor 1: a mean over the batch divides by all of its images, or by those with a label."""
    return torch.ones((), device=correct.device)


def over_correct(correct: Tensor, batch: Batch) -> Tensor:
    """Return the ratio of the images with a label to the `correct` ones."""
    return over(correct) / over(batch.labelled())


REDUCTIONS = {"batch": over_batch, "correct": over_correct}


class DCTKD(Term):
    """Spectral distance summed over the levels.

    Args:
        transform: `dct2` (a true DCT-II), `dft_abs` (what produced the reported tables), `dft_signed`
            (the released main branch), or an ablation: `dct2_raw`, `l2_minmax`.
        guided: whether images that the teacher gets wrong count as zero (docs/method.md).
        reduction: what a guided mean runs over: the whole `batch`, as released, so that the term has less weight
            the more the teacher errs; or only the `correct` images.
        keep: compare only the `keep` x `keep` lowest frequencies, at least 2.
        level_weights: a factor per level from shallow to deep; as released, all are 1.
    """

    def __init__(
        self,
        transform: str = "dct2",
        guided: bool = True,
        reduction: str = "batch",
        keep: int | None = None,
        level_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if transform not in TRANSFORMS:
            raise ValueError(f"transform {transform!r} is not one of {sorted(TRANSFORMS)}")
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction {reduction!r} is not one of {sorted(REDUCTIONS)}")
        if keep is not None and keep < 2:
            raise ValueError(f"keep {keep} leaves only the mean, which the transforms ignore: use at least 2")
        self.transform = TRANSFORMS[transform]
        self.guided = self.needs_labels = guided
        self.scale = REDUCTIONS[reduction]
        self.keep = keep
        self.level_weights = level_weights

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        correct = teacher_is_right(teacher, batch) if self.guided else None
        pairs = map_pairs(student, teacher, self.keep, correct)
        weights = (1.0,) * len(pairs) if self.level_weights is None else self.level_weights
        if len(weights) != len(pairs):
            raise ValueError(f"{len(weights)} level_weights for the {len(pairs)} levels that are compared")
        levels = [w * spectral_distance(s, t, self.transform) for w, (s, t) in zip(weights, pairs, strict=True)]
        distance = torch.stack(levels).sum(dim=0)
        if correct is None:
            return distance
        return torch.where(correct, distance, 0) * self.scale(correct, batch)
