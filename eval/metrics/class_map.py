"""Cosine of the class maps of student and teacher: whether the evidence for a class is at the same places."""

from __future__ import annotations

import torch
from torch import Tensor

from dctkd_zoo.attention import grad_cam
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.losses.e2kd import e2kd
from eval.metrics._base import LevelMetric


class ClassMap(LevelMetric):
    """Cosine of two Grad-CAMs of the teacher's first class, as in e2KD (Parchami-Araghi et al., ECCV 2024).

    Activation maps say where a network responds, class maps where it responds in favour of a class. They belong to the
    last level, the only one. It is 0 where one network finds nothing in favour of the class.
    """

    needs_class_maps = True

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return the cosine of two maps (B, H, W), none of them negative -> (B,), in [0, 1]."""
        return 1 - e2kd(student_map, teacher_map)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one column, (B, 1)."""
        assert student.class_maps is not None
        assert teacher.class_maps is not None
        first = teacher.logits.argmax(dim=1)
        values = self.compare(grad_cam(student.class_maps, first), grad_cam(teacher.class_maps, first))
        return torch.stack([values], dim=1)
