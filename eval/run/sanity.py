"""Sanity check of alignment by cascading randomisation (Adebayo et al., NeurIPS 2018)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dctkd_zoo.data.loader import derive_seed
from dctkd_zoo.errors import NonFiniteAnswers
from dctkd_zoo.features import FeatureExtractor
from dctkd_zoo.weights import Weights
from eval import columns

TRAINED = "nothing"
SHOWN = ("agreement", *(c.name for c in columns.COLUMNS if c.name.startswith("skill.") and c.family == "alignment"))
CAPTION = "A score that does not fall is not about what was learned."


@dataclass(frozen=True)
class Step:
    """Agreement and skills of a network whose `part` and all deeper parts have untrained weights."""

    part: str
    figures: Mapping[str, float]


def cascade(
    network: FeatureExtractor,
    found: Weights,
    trained: Mapping[str, float],
    measure: Callable[[FeatureExtractor], Mapping[str, float]],
    seed: int = 0,
) -> tuple[Step, ...]:
    """Replace the weights of a network by untrained ones, part by part from the head to the stem, and measure each.

    The untrained weights are the initial ones of the same architecture, drawn with a seed. `trained` are the metrics
    before. Where outputs are not finite, which untrained batch statistics can cause, metrics are NaN.
    """
    chosen = [name for name in SHOWN if name in trained]
    steps = [Step(TRAINED, {name: trained[name] for name in chosen})]
    state, fresh = network.model.state_dict(), untrained(found, seed).state_dict()
    for part, names in parts(network.model):
        for name in names:
            state[name].copy_(fresh[name])
        try:
            figures = measure(network)
        except NonFiniteAnswers:
            figures = dict.fromkeys(chosen, math.nan)
        steps.append(Step(part, {name: figures[name] for name in chosen}))
    return tuple(steps)


def untrained(found: Weights, seed: int) -> nn.Module:
    """Return a network with the architecture of some weights, initialised with a seed as its own code does."""
    import timm  # here, since it takes seconds and only this needs it

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "sanity"))
        return timm.create_model(f"local-dir:{found.folder}", pretrained=False)


def parts(model: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield the parts of a timm model from the deepest on, `head`, `stage 3`, ..., `stem`, and their tensors' names."""
    from timm.models._manipulate import group_with_matcher  # private, but `group_parameters` leaves out buffers

    groups = group_with_matcher(iter(model.state_dict().items()), model.group_matcher(coarse=True))
    for index in sorted(groups, reverse=True):
        part = "head" if index == max(groups) else f"stage {index}" if index else "stem"
        yield part, groups[index]
