"""A recipe and a network to an optimizer, and an epoch to its learning rate."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from dctkd_zoo.spec import Recipe


def optimizer(parameters: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.SGD:
    """SGD with the recipe's momentum and weight decay."""
    return torch.optim.SGD(
        parameters,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: float) -> float:
    """Set and return the learning rate at `epoch`, fractional from 0 to the recipe's epochs."""
    rate = recipe.lr * recipe.schedule.factor(epoch, recipe.epochs)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate
