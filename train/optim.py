"""Optimizer and learning rate of a recipe."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from dctkd_zoo.spec import Recipe


def optimizer(parameters: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.SGD:
    """Return SGD with the recipe's learning rate, momentum and weight decay."""
    return torch.optim.SGD(
        parameters,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: float) -> float:
    """Set the learning rate for `epoch`, a fraction between 0 and the recipe's epochs, and return it."""
    lr = recipe.lr * recipe.schedule.factor(epoch, recipe.epochs)
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr
