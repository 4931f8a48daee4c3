"""Weighted sum of an entry's loss terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from dctkd_zoo import losses
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.losses import Term


class Objective(nn.Module):
    """Loss terms by name with their weights: `L = sum over terms of weight * mean over the batch`."""

    def __init__(self, weights: Mapping[str, float], options: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        self.weights = dict(weights)
        self.terms = nn.ModuleDict({name: losses.create(name, **options.get(name, {})) for name in weights})

    @property
    def needs_teacher(self) -> bool:
        """Whether any term reads the teacher's output."""
        return any(term.needs_teacher for term in self._terms().values())

    def reading_features(self) -> list[str]:
        """Return the names of the terms that read the teacher's whole feature maps."""
        return [name for name, term in self._terms().items() if term.needs_features]

    def _terms(self) -> dict[str, Term]:
        return {name: term for name, term in self.terms.items() if isinstance(term, Term)}

    def setup(self, student: Output, teacher: Output, labels: Tensor | None = None) -> None:
        """Let each term create what depends on the outputs' shapes and the training set's labels (N,)."""
        for term in self._terms().values():
            term.setup(student, teacher, labels)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted value of each term, scalars; their sum is the loss."""
        return {name: self.weights[name] * term(student, teacher, batch).mean() for name, term in self._terms().items()}
