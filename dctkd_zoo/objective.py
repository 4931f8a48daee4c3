"""Weighted sum of an entry's loss terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dctkd_zoo import losses
from dctkd_zoo.data.batch import UNLABELLED, Batch
from dctkd_zoo.errors import UnsupportedNetwork
from dctkd_zoo.features import FeatureExtractor, Output
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

    def reading_class_maps(self) -> list[str]:
        """Return the names of the terms that read class maps, for which not every network will do."""
        return [name for name, term in self._terms().items() if term.needs_class_maps]

    def enable_class_maps(self, networks: Iterable[FeatureExtractor], images: Tensor) -> None:
        """Let the networks give class maps if any term reads them; `UnsupportedNetwork` if one has none.

        `images` (B, 3, S, S) are to check that. The networks must be in evaluation mode.
        """
        if reading := self.reading_class_maps():
            for network in networks:
                try:
                    network.enable_class_maps(images)
                except UnsupportedNetwork as error:
                    raise UnsupportedNetwork(f"{', '.join(reading)}: {error}") from error

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
        terms = self._terms()
        if any(term.reads_activations for term in terms.values()):
            student, teacher = student.with_activations(), teacher.with_activations()
        values = {name: term(student, teacher, batch) for name, term in terms.items()}
        if self.some_unlabelled:
            known = batch.labelled()
            factor = over(known)
            values = {
                name: torch.where(known, value, 0) * factor if self.terms[name].needs_labels else value
                for name, value in values.items()
            }
        return {name: self.weights[name] * value.mean() for name, value in values.items()}
