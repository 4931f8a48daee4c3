"""Class attention transfer, CAT-KD (Guo et al., CVPR 2023, arXiv 2304.12777)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.losses import Term
from dctkd_zoo.losses._base import class_map_pair, positive


def cat(student_maps: Tensor, teacher_maps: Tensor, size: int = 2) -> Tensor:
    """Return the mean squared difference of class maps (B, K, H, W), average-pooled to `size` px a side -> (B,)."""
    student, teacher = (F.adaptive_avg_pool2d(maps, size) for maps in (student_maps, teacher_maps))
    return (student - teacher).square().mean(dim=(1, 2, 3))


class CAT(Term):
    """Distance of all class maps, pooled to `size` x `size` px (2 in the paper).

    The maps are not normalised, so the term grows with the teacher's logits: the authors choose its weight, 0.7 to 15,
    so that it is 1 to 50 after an epoch. With `size=1` it compares the logits without their bias.
    """

    needs_class_maps = True

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        positive(size=size)
        self.size = size

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        return cat(*class_map_pair(student, teacher, "cat"), self.size)
