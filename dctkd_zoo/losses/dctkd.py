"""The DCT loss: distance between the frequency transforms of activation maps (López-Cifuentes et al., TCSVT 2023)."""

from __future__ import annotations

import torch
from torch import Tensor

from dctkd_zoo.attention import activation_map
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.losses import Term, check_levels
from dctkd_zoo.spectrum import TRANSFORMS, Transform


def spectral_distance(student_map: Tensor, teacher_map: Tensor, transform: Transform) -> Tensor:
    """L2 norm of the difference of two normalised spectra: maps (B, H, W) -> (B,).

    The norm is neither squared nor divided by H W, as released. Its gradient where the maps are
    equal is zero, and constant maps are at a finite distance (METHOD.md section 1.2, item 7).
    """
    distance: Tensor = torch.linalg.vector_norm(transform(student_map) - transform(teacher_map), dim=(1, 2))
    return distance


def teacher_is_right(teacher: Output, batch: Batch) -> Tensor:
    """True where the teacher's best guess is the label, (B,)."""
    return teacher.logits.argmax(dim=1) == batch.labels


class DCTKD(Term):
    """Spectral distance summed over the levels.

    `transform` is `dct2` (a true DCT-II), `dft_abs` (what produced the reported tables) or
    `dft_signed` (the released main branch). `guided`: images that the teacher gets wrong count
    zero, while the mean still goes over the full batch, as released.
    """

    def __init__(self, transform: str = "dct2", guided: bool = True) -> None:
        super().__init__()
        if transform not in TRANSFORMS:
            raise ValueError(f"transform {transform!r} is none of {sorted(TRANSFORMS)}")
        self.transform = TRANSFORMS[transform]
        self.guided = guided

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """One number per image, (B,)."""
        check_levels(student, teacher)
        pairs = zip(student.maps, teacher.maps, strict=True)
        levels = [spectral_distance(activation_map(s), activation_map(t), self.transform) for s, t in pairs]
        distance = torch.stack(levels).sum(dim=0)
        return torch.where(teacher_is_right(teacher, batch), distance, 0) if self.guided else distance
