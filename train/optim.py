"""Optimizer, learning rates and averaged weights of a recipe."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from dctkd_zoo.errors import ZooError, reason_of
from dctkd_zoo.spec import Recipe

BASE = "base_lr"  # key of a parameter group: its learning rate at the schedule's maximum

Group = dict[str, Any]


def optimizer(model: nn.Module, extra: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimizer of a network and of the loss terms' own (`extra`) parameters.

    `sgd` is torch's, with momentum and with weight decay on all parameters. Others are those of `timm.optim`, which
    leaves out norms, biases and what a network itself excludes, as timm does.
    """
    groups = _grouped(model, [*extra], recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )
    return _of_timm(groups, recipe)


def _of_timm(groups: list[Group], recipe: Recipe) -> torch.optim.Optimizer:
    """Return an optimizer of `timm.optim`; refuse one that cannot run here or that could not be resumed."""
    name = recipe.optimizer
    _check_name(name)
    try:
        result = create_optimizer_v2(groups, opt=name, lr=recipe.lr, weight_decay=recipe.weight_decay)
    except (AssertionError, ImportError, RuntimeError) as error:  # a library or a GPU that it needs is missing
        raise ZooError(f"the optimizer {name!r} cannot be used here: {reason_of(error)}") from error
    if more := sorted(result.state_dict().keys() - {"state", "param_groups"}):
        raise ZooError(f"the optimizer {name!r} keeps its {', '.join(more)} where a checkpoint cannot hold it")
    return result


def _check_name(name: str) -> None:
    """Refuse an optimizer that timm does not have, or that needs second derivatives."""
    known: list[str] = list_optimizers()  # type: ignore[assignment]
    if name not in known:
        close = difflib.get_close_matches(name, known)
        hint = f"did you mean {' or '.join(close)}?" if close else "timm.optim.list_optimizers() names all"
        raise ZooError(f"timm has no optimizer {name!r}; {hint}")
    if get_optimizer_info(name).second_order:
        raise ZooError(f"the optimizer {name!r} needs second derivatives, which training here does not compute")


def _grouped(model: nn.Module, extra: list[nn.Parameter], recipe: Recipe) -> list[Group]:
    """Return parameter groups of one learning rate and weight decay each, in the order in which these first occur."""
    groups: dict[tuple[float, float, bool], Group] = {}
    others = ((p, recipe.lr, _decay(p, recipe), False) for p in extra)
    for parameter, rate, decay, in_head in (*_of_network(model, recipe), *others):
        group = groups.setdefault((rate, decay, in_head), {"params": [], BASE: rate, "weight_decay": decay})
        group["params"].append(parameter)
    return [*groups.values()]


def _of_network(model: nn.Module, recipe: Recipe) -> Iterator[tuple[nn.Parameter, float, float, bool]]:
    """Yield each trainable parameter of a network, its learning rate, weight decay, and whether it is of the head."""
    scales = _layer_scales(model, recipe.layer_decay)
    head = set() if recipe.head_lr is None else {id(p) for p in model.get_classifier().parameters()}  # type: ignore[operator]
    excluded = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()  # type: ignore[operator]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            in_head = id(parameter) in head
            rate = recipe.head_lr if in_head and recipe.head_lr is not None else recipe.lr
            is_excluded = any(fnmatchcase(name, pattern) for pattern in excluded)
            yield parameter, rate * scales.get(name, 1.0), _decay(parameter, recipe, is_excluded), in_head


def _decay(parameter: nn.Parameter, recipe: Recipe, excluded: bool = False) -> float:
    """Return a parameter's weight decay: SGD's holds for all, as in the papers; others leave out norms and biases."""
    return recipe.weight_decay if recipe.optimizer == "sgd" or (parameter.ndim > 1 and not excluded) else 0.0


def _layer_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """Return the factor of the learning rate of each parameter by name: `decay` per layer below the last."""
    if decay == 1:
        return {}
    if not hasattr(model, "group_matcher"):
        raise ZooError(f"layer_decay: {type(model).__name__} does not say which parameters are in which layer")
    layers = group_parameters(model, model.group_matcher(coarse=False), reverse=True)  # type: ignore[operator]
    last = max(layers.values())
    return {name: decay ** (last - layer) for name, layer in layers.items()}


def set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: float) -> float:
    """Set the learning rates for `epoch`, a fraction between 0 and the recipe's epochs; return that of the body."""
    factor = recipe.rate(epoch)
    for group in optimizer.param_groups:
        group["lr"] = group[BASE] * factor
    return recipe.lr * factor


def averaged(model: nn.Module, recipe: Recipe) -> ModelEmaV3 | None:
    """Return the average of the network's weights over the steps, if the recipe wants one.

    In the first steps the decay is lower, so that the initial weights are forgotten: 1 - (1 + step) ** (-2/3).
    """
    return ModelEmaV3(model, decay=recipe.ema, use_warmup=True) if recipe.ema else None
