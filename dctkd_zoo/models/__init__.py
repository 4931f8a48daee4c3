"""Networks of entries: plain timm models, untrained or with weights, and their preprocessing."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn
from torchvision import transforms

from dctkd_zoo import registry, weights
from dctkd_zoo.data.decode import rgb
from dctkd_zoo.errors import CatalogError, CorruptWeights, WeightsNotFound, reason_of
from dctkd_zoo.models import pretrained as pretrained_weights
from dctkd_zoo.models import resnet_cifar  # noqa: F401  registers the CIFAR ResNets with timm
from dctkd_zoo.spec import EXTERNAL, Arch, Entry

log = logging.getLogger(__name__)


def create(arch: str, num_classes: int, crop: int | None = None, drop_path: float = 0) -> nn.Module:
    """Create an untrained network of architecture `arch` ("r18") in training mode, initialised as its recipes start.

    A network for images of a single size (a ViT) is built for `crop` px, if given. `drop_path` is its stochastic depth.
    """
    spec = registry.archs()[arch]
    arguments = {**_sized(spec, crop), **spec.scratch, **spec.train, **_dropping(drop_path)}
    try:
        return timm.create_model(spec.timm_name, num_classes=num_classes, **arguments)
    except Exception as error:  # a network's own code may raise anything for wrong arguments
        raise CatalogError(
            f"{arch}: timm cannot build {spec.timm_name!r} with {arguments}: {reason_of(error)}"
        ) from error


def _sized(spec: Arch, crop: int | None) -> dict[str, Any]:
    config = timm.get_pretrained_cfg(spec.timm_name)
    return {"img_size": crop} if crop and config and config.fixed_input_size else {}


def _dropping(drop_path: float) -> dict[str, float]:
    return {"drop_path_rate": drop_path} if drop_path else {}


def start(entry: Entry, trained: Path | None = None) -> weights.Weights | None:
    """Find the weights that an entry starts from, in the folder `trained` first; return None for from scratch."""
    if entry.start:
        return weights.find(registry.get_entry(entry.start), trained)
    source = entry.recipe.pretrained
    if source is None:
        return None
    return weights.locate(source) if source.startswith(EXTERNAL) else pretrained_weights.tagged(entry, source)


def initial(entry: Entry, num_classes: int, checkpoint: weights.Weights | None = None) -> nn.Module:
    """Return the network an entry's training starts from: untrained, or with the weights that its recipe names.

    `checkpoint` are the weights of `start`, looked up if not given.
    """
    crop, drop_path = entry.recipe.crop, entry.recipe.drop_path
    if entry.recipe.pretrained is None:
        return create(entry.arch, num_classes, crop, drop_path)
    spec = registry.archs()[entry.arch]
    checkpoint = checkpoint or start(entry)
    assert checkpoint is not None
    check_architecture(entry.arch, checkpoint)
    return _built(checkpoint, num_classes=num_classes, **_sized(spec, crop), **spec.train, **_dropping(drop_path))


def parameters(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in model.parameters())


def create_model(
    name: str, pretrained: bool | str | os.PathLike[str] | None = False, num_classes: int | None = None
) -> nn.Module:
    """Return the network of an entry, a plain timm model in eval mode.

    `pretrained=True` loads the entry's own weights (bundled, published, or trained on this machine), a path or
    string loads those of a folder or `hf-hub:org/name@rev`. If `num_classes` differs from that of the weights, the
    head is replaced by an untrained one, or removed for 0, and this is logged. Weights with another number of
    classes than the entry's are refused unless `num_classes` is given.
    """
    if not isinstance(pretrained, bool | str | os.PathLike | None):
        raise TypeError(f"pretrained is {pretrained!r:.60} but should be True, False, a folder or 'hf-hub:ORG/NAME'")
    if num_classes is not None and (isinstance(num_classes, bool) or not isinstance(num_classes, int)):
        raise TypeError(f"num_classes is {num_classes!r:.60} but should be a whole number")
    if num_classes is not None and not 0 <= num_classes <= weights.MOST:
        raise ValueError(f"num_classes is {num_classes:,} but should be from 0 (no head) to {weights.MOST:,}")
    entry = registry.get_entry(name)
    expected = registry.get_dataset(entry.dataset).num_classes
    if pretrained is None or pretrained is False:
        return create(entry.arch, expected if num_classes is None else num_classes, entry.recipe.crop).eval()
    source = pretrained if isinstance(pretrained, bool | str) else Path(pretrained)
    model = load(entry.arch, weights.find(entry) if isinstance(source, bool) else weights.locate(source))
    if num_classes is None and model.num_classes != expected:
        raise WeightsNotFound(f"{name} has {expected} classes, {source} {model.num_classes}: pass num_classes")
    if num_classes not in (None, model.num_classes):
        change = "the new head is untrained" if num_classes else "the head is removed, the model returns its input"
        log.warning("%s: %s classes instead of %s, %s", name, num_classes, model.num_classes, change)
        model.reset_classifier(num_classes)  # type: ignore[operator]
    return model


def load(arch: str, checkpoint: weights.Weights) -> nn.Module:
    """Load the network of a folder in timm's format, in eval mode; refuse another architecture than `arch`."""
    check_architecture(arch, checkpoint)
    return load_any(checkpoint)


def check_architecture(arch: str, checkpoint: weights.Weights) -> None:
    """Refuse weights of another architecture than `arch` ("r18")."""
    actual, expected = weights.read_config(checkpoint.folder).get("architecture"), registry.archs()[arch].timm_name
    if actual != expected:
        raise CorruptWeights(f"{checkpoint.folder}: holds a {actual}, not a {expected}")


def load_any(checkpoint: weights.Weights) -> nn.Module:
    """Load the network of a folder in timm's format, in eval mode, of any architecture; `CorruptWeights` if damaged."""
    return _built(checkpoint).eval()


def _built(checkpoint: weights.Weights, num_classes: int | None = None, **arguments: Any) -> nn.Module:
    """Build the network that a folder's `config.json` describes, with the weights of its `model.safetensors`.

    With another `num_classes` its head is new. All other weights must be in the file, whatever the config says.
    """
    path, config = checkpoint.folder / weights.WEIGHTS, weights.read_config(checkpoint.folder)
    own = config.get("num_classes")
    try:
        with safe_open(path, framework="pt") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  not a mapping
            rows = {tuple(part.get_shape())[:1] for part in parts.values()}
            dtypes = {name: part.get_dtype() for name, part in parts.items()}
        if own and (own,) not in rows:  # checked before a head of that size is built
            raise ValueError(f"{weights.CONFIG} says {own:,} classes, but no tensor has that many rows")
        if num_classes in (None, own):
            return _complete(
                timm.create_model(f"local-dir:{checkpoint.folder}", pretrained=True, **arguments), config, dtypes
            )
        with torch.random.fork_rng(devices=[]):  # timm does not check weights that it puts a new head on
            _complete(timm.create_model(f"local-dir:{checkpoint.folder}", pretrained=True, **arguments), config, dtypes)
        return timm.create_model(
            f"local-dir:{checkpoint.folder}", pretrained=True, num_classes=num_classes, **arguments
        )
    except Exception as error:  # timm may raise anything for damaged files
        raise CorruptWeights(f"{path}: {reason_of(error)}") from error


def _complete(model: nn.Module, config: Mapping[str, Any], dtypes: Mapping[str, str]) -> nn.Module:
    """Return the model if its file, whose tensors have these dtypes, has all its weights; else raise `ValueError`."""
    state = model.state_dict()
    strict = (config.get("model_args") or {}).get("pretrained_strict", True) is True  # then timm has compared names
    missing = [] if strict else sorted(state.keys() - dtypes.keys())
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(f"missing tensors: {', '.join(missing[:3])}{more}")
    for name in state.keys() & dtypes.keys():
        if state[name].is_floating_point() and not dtypes[name].startswith(("F", "BF")):
            raise ValueError(f"{name} has dtype {dtypes[name]} but should be floating point")
    return model


def create_transform(name: str) -> Callable[[Image.Image], Tensor]:
    """Return the entry's evaluation transform, PIL image -> tensor (3, S, S): resize, centre crop, normalise.

    It raises `ValueError` for an image that evaluation counts as failed: too large, too elongated, or of values
    without a known range.
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
