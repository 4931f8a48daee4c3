"""Weighted sum of an entry's loss terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dctkd_zoo import losses
from dctkd_zoo.data.batch import UNLABELLED, Batch
from dctkd_zoo.features import Output
from dctkd_zoo.losses import Term, over


class Objective(nn.Module):
    """Loss terms by name with their weights: `L = sum over terms of weight * mean over the batch`."""

    def __init__(self, weights: Mapping[str, float], options: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        self.weights = dict(weights)
        self.some_unlabelled = False
        self.terms = nn.ModuleDict({name: losses.create(name, **options.get(name, {})) for name in weights})

    @property
    def needs_teacher(self) -> bool:
        """Whether any term reads the teacher's output."""
        return any(term.needs_teacher for term in self._terms().values())

    def reading_features(self) -> list[str]:
        """Return the names of the terms that read the teacher's whole feature maps."""
        return [name for name, term in self._terms().items() if term.needs_features]

    def reading_ids(self) -> list[str]:
        """Return the names of the terms that know the training images by number, so that none can be blended."""
        return [name for name, term in self._terms().items() if term.needs_ids]

    def _terms(self) -> dict[str, Term]:
        return {name: term for name, term in self.terms.items() if isinstance(term, Term)}

    def setup(self, student: Output, teacher: Output, labels: Tensor | None = None) -> None:
        """Let each term create what depends on the outputs' shapes and the training set's labels (N,)."""
        self.some_unlabelled = labels is not None and bool((labels == UNLABELLED).any())
        for term in self._terms().values():
            term.setup(student, teacher, labels)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted value of each term, scalars; their sum is the loss.

        A term that needs labels is a mean over the images that have one.
        """
        values = {name: term(student, teacher, batch) for name, term in self._terms().items()}
        if self.some_unlabelled:
            known = batch.labelled()
            factor = over(known)
            values = {
                name: torch.where(known, value, 0) * factor if self.terms[name].needs_labels else value
                for name, value in values.items()
            }
        return {name: self.weights[name] * value.mean() for name, value in values.items()}
