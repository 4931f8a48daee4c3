"""Entries to networks: plain timm models, untrained or with their weights, and their preprocessing."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn
from torchvision import transforms

from dctkd_zoo import (
    digest,
    registry,
    resnet_cifar,  # noqa: F401  registers the CIFAR ResNets with timm
    weights,
)
from dctkd_zoo.data.pixels import rgb
from dctkd_zoo.errors import CatalogError, CorruptWeights, WeightsNotFound
from dctkd_zoo.spec import EXTERNAL, Arch, Entry

log = logging.getLogger(__name__)


def create(arch: str, num_classes: int, crop: int | None = None) -> nn.Module:
    """An untrained network of architecture `arch` ("r18") in training mode, initialised as its recipes start it.

    One that takes images of a single size (a ViT) is built for `crop` px where that is given.
    """
    spec = registry.archs()[arch]
    told = {**_sized(spec, crop), **spec.scratch, **spec.train}
    try:
        return timm.create_model(spec.timm_name, num_classes=num_classes, **told)
    except Exception as error:  # whatever arguments lead a network's own code to
        raise CatalogError(f"{arch}: timm builds no {spec.timm_name!r} with {told}: {error}") from error


def _sized(spec: Arch, crop: int | None) -> dict[str, Any]:
    known = timm.get_pretrained_cfg(spec.timm_name)
    return {"img_size": crop} if crop and known and known.fixed_input_size else {}


def start(entry: Entry, trained: Path | None = None) -> weights.Weights | None:
    """The folder of weights that an entry starts from, sought in `trained` first; `None`: scratch, or timm's own."""
    if entry.start:
        return weights.find(registry.get_entry(entry.start), trained)
    source = entry.recipe.pretrained or ""
    return weights.locate(source) if source.startswith(EXTERNAL) else None


def initial(entry: Entry, num_classes: int, found: weights.Weights | None = None) -> nn.Module:
    """The network an entry's training starts from: from scratch, or weights where its recipe names some.

    `found` are those of `start`, which are sought where they are not given.
    """
    source, crop = entry.recipe.pretrained, entry.recipe.crop
    if source is None:
        return create(entry.arch, num_classes, crop)
    spec = registry.archs()[entry.arch]
    told = {"pretrained": True, "num_classes": num_classes, **_sized(spec, crop), **spec.train}
    found = found or start(entry)
    if found:
        check_architecture(entry.arch, found)
        return _built(found, **told)
    tagged = f"{spec.timm_name}.{source}"
    try:
        return timm.create_model(tagged, **told)
    except Exception as error:  # the Hub's client lets its HTTP library's errors through
        raise WeightsNotFound(f"{entry.name} starts from {tagged}, which cannot be fetched: {error}") from error


def parameters(model: nn.Module) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in model.parameters())


def create_model(name: str, pretrained: bool | str = False, num_classes: int | None = None) -> nn.Module:
    """The network of an entry, a plain timm model in eval mode.

    `pretrained=True` loads the entry's own weights (bundled, published, or trained on this
    machine), a string those of a folder or `hf-hub:org/name@rev`. Another `num_classes` than the
    entry's starts the head afresh, which is logged. Weights with another number of classes than the
    entry's are refused unless `num_classes` is given.
    """
    entry = registry.get_entry(name)
    due = registry.get_dataset(entry.dataset).num_classes
    if pretrained is False:
        return create(entry.arch, due if num_classes is None else num_classes, entry.recipe.crop).eval()
    model = load(entry.arch, weights.find(entry) if pretrained is True else weights.locate(pretrained))
    if num_classes is None and model.num_classes != due:
        raise WeightsNotFound(f"{name} has {due} classes, {pretrained} {model.num_classes}: give num_classes")
    if num_classes not in (None, model.num_classes):
        log.warning("%s: %s classes in place of %s, the head starts afresh", name, num_classes, model.num_classes)
        model.reset_classifier(num_classes)  # type: ignore[operator]
    return model


def load(arch: str, found: weights.Weights) -> nn.Module:
    """The network of a folder in timm's format, in eval mode; refuses another architecture than `arch`."""
    check_architecture(arch, found)
    return load_any(found)


def check_architecture(arch: str, found: weights.Weights) -> None:
    """Refuse weights of another architecture than `arch` ("r18")."""
    holds, due = weights.read_config(found.folder).get("architecture"), registry.archs()[arch].timm_name
    if holds != due:
        raise CorruptWeights(f"{found.folder}: holds a {holds}, not a {due}")


def load_any(found: weights.Weights) -> nn.Module:
    """The network of a folder in timm's format, in eval mode, whatever it is; `CorruptWeights` where it is none."""
    return _built(found, pretrained=True).eval()


def _built(found: weights.Weights, **told: Any) -> nn.Module:
    """The network that a folder's `config.json` tells, with the values of its `model.safetensors`."""
    path, due = found.folder / weights.WEIGHTS, weights.read_config(found.folder).get("num_classes")
    try:
        with safe_open(path, framework="pt") as file:
            rows = {tuple(file.get_slice(name).get_shape())[:1] for name in file.keys()}  # noqa: SIM118  not a mapping
        if due and (due,) not in rows:  # before a head of that size is made
            raise ValueError(f"{weights.CONFIG} says {due:,} classes, no tensor has as many rows")
        return timm.create_model(f"local-dir:{found.folder}", **told)
    except Exception as error:  # whatever damaged values and arguments lead timm to
        raise CorruptWeights(f"{path}: {error or type(error).__name__}") from error


def code(found: weights.Weights) -> str:
    """The sha256 of the file that defines the network a folder holds: timm's, this package's or a user's own.

    Empty where the folder names none that timm knows.
    """
    name = weights.read_config(found.folder).get("architecture") if found.config_sha256 else None
    file = inspect.getsourcefile(timm.model_entrypoint(name)) if name and timm.is_model(name) else None
    return digest.sha256(Path(file)) if file else ""


def create_transform(name: str) -> Callable[[Image.Image], Tensor]:
    """PIL image -> normalised tensor (3, S, S), as the entry is evaluated: resize, centre crop, normalise.

    `ValueError` for an image that evaluation counts as failed: too large, too long, or of values without a range.
    """
    entry = registry.get_entry(name)
    dataset = registry.get_dataset(entry.dataset)
    pipeline: Callable[[Image.Image], Tensor] = transforms.Compose(
        [
            transforms.Lambda(rgb),
            transforms.Resize(entry.recipe.resize),
            transforms.CenterCrop(entry.recipe.crop),
            transforms.ToTensor(),
            transforms.Normalize(dataset.mean, dataset.std),
        ]
    )
    return pipeline
