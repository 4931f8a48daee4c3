"""A timm-style zoo of scene classifiers and students distilled from them with a DCT-driven attention loss."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dctkd_zoo import _moved, registry  # noqa: F401  makes modules importable by their earlier names
from dctkd_zoo.errors import CorruptWeights, DatasetError, UnknownEntry, WeightsNotFound, ZooError
from dctkd_zoo.registry import get_entry

if TYPE_CHECKING:
    from dctkd_zoo.data.batch import Batch
    from dctkd_zoo.features import Output, run
    from dctkd_zoo.losses import create as create_loss
    from dctkd_zoo.models import create_model, create_transform
    from dctkd_zoo.prediction import predict
    from dctkd_zoo.predictor import load_predictor

__version__ = "0.1.0"
__all__ = [
    "Batch",
    "CorruptWeights",
    "DatasetError",
    "Output",
    "UnknownEntry",
    "WeightsNotFound",
    "ZooError",
    "create_loss",
    "create_model",
    "create_transform",
    "get_entry",
    "list_models",
    "load_predictor",
    "predict",
    "run",
]

# Names that need torch are imported on first use, so that looking up entries stays fast.
_LAZY = {
    "Batch": ("dctkd_zoo.data.batch", "Batch"),
    "Output": ("dctkd_zoo.features", "Output"),
    "create_loss": ("dctkd_zoo.losses", "create"),
    "create_model": ("dctkd_zoo.models", "create_model"),
    "create_transform": ("dctkd_zoo.models", "create_transform"),
    "load_predictor": ("dctkd_zoo.predictor", "load_predictor"),
    "predict": ("dctkd_zoo.prediction", "predict"),
    "run": ("dctkd_zoo.features", "run"),
}


def list_models(pattern: str = "*", dataset: str | None = None, pretrained: bool = False) -> list[str]:
    """Return the names of entries that match a shell pattern, in natural order.

    With `pretrained`, only those with weights available now.
    """
    names = registry.find(pattern, dataset)
    if not pretrained:
        return names
    from dctkd_zoo import weights

    return [name for name in names if weights.available(name)]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(importlib.import_module(module), attribute)
