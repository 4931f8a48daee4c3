"""Optimizer and learning rate of a recipe."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from dctkd_zoo.spec import Recipe


def optimizer(parameters: Iterable[nn.Parameter], recipe: Recipe, head: Iterable[nn.Parameter] = ()) -> torch.optim.SGD:
    """Return SGD with the recipe's momentum and weight decay, and its learning rates.

    With a `head_lr`, the parameters of the `head`, which are also among `parameters`, are a second group.
    """
    groups = [list(parameters)]
    if recipe.head_lr is not None:
        own = {id(parameter) for parameter in head}
        groups = [[p for p in groups[0] if (id(p) in own) == is_head] for is_head in (False, True)]
    return torch.optim.SGD(
        [{"params": group} for group in groups],
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: float) -> float:
    """Set the learning rates for `epoch`, a fraction between 0 and the recipe's epochs; return that of the body."""
    factor = recipe.schedule.factor(epoch, recipe.epochs)
    rates = [recipe.lr] if recipe.head_lr is None else [recipe.lr, recipe.head_lr]
    for group, base in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = base * factor
    return recipe.lr * factor
