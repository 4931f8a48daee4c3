"""Entries to networks: plain timm models, untrained or with their weights, and their preprocessing."""

from __future__ import annotations

import inspect
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
from dctkd_zoo._io import hashing
from dctkd_zoo.data.decode import rgb
from dctkd_zoo.errors import CatalogError, CorruptWeights, WeightsNotFound, reason_of
from dctkd_zoo.models import resnet_cifar  # noqa: F401  registers the CIFAR ResNets with timm
from dctkd_zoo.spec import EXTERNAL, Arch, Entry

log = logging.getLogger(__name__)


def create(arch: str, num_classes: int, crop: int | None = None) -> nn.Module:
    """An untrained network of architecture `arch` ("r18") in training mode, initialised as its recipes start it.

    One that takes images of a single size (a ViT) is built for `crop` px where that is given.
    """
    spec = registry.archs()[arch]
    meta = {**_sized(spec, crop), **spec.scratch, **spec.train}
    try:
        return timm.create_model(spec.timm_name, num_classes=num_classes, **meta)
    except Exception as error:  # whatever arguments lead a network's own code to
        raise CatalogError(f"{arch}: timm builds no {spec.timm_name!r} with {meta}: {reason_of(error)}") from error


def _sized(spec: Arch, crop: int | None) -> dict[str, Any]:
    known = timm.get_pretrained_cfg(spec.timm_name)
    return {"img_size": crop} if crop and known and known.fixed_input_size else {}


def start(entry: Entry, trained: Path | None = None) -> weights.Weights | None:
    """The folder of weights that an entry starts from, sought in `trained` first; `None`: from scratch."""
    if entry.start:
        return weights.find(registry.get_entry(entry.start), trained)
    source = entry.recipe.pretrained
    if source is None:
        return None
    return weights.locate(source) if source.startswith(EXTERNAL) else _tagged(entry, source)


def _tagged(entry: Entry, tag: str) -> weights.Weights:
    """The weights that timm calls by a tag, `tv_in1k`, from the Hub repository that it names for them."""
    name = registry.archs()[entry.arch].timm_name
    known = timm.get_pretrained_cfg(f"{name}.{tag}") if f"{name}.{tag}" in timm.list_pretrained(f"{name}.*") else None
    if known is None:
        tags = ", ".join(item.partition(".")[2] for item in timm.list_pretrained(f"{name}.*"))
        raise WeightsNotFound(f"{entry.name} starts from {tag!r}: timm's weights of {name} are {tags or 'none'}")
    if not known.hf_hub_id:
        raise WeightsNotFound(
            f"{entry.name} starts from {name}.{tag}, which timm does not have on the Hub: load it with timm, save it "
            "by timm.models.save_for_hf(model, FOLDER, safe_serialization=True), and start from local-dir:FOLDER"
        )
    return weights.from_hub(str(known.hf_hub_id), "main")


def initial(entry: Entry, num_classes: int, found: weights.Weights | None = None) -> nn.Module:
    """The network an entry's training starts from: from scratch, or weights where its recipe names some.

    `found` are those of `start`, which are sought where they are not given.
    """
    crop = entry.recipe.crop
    if entry.recipe.pretrained is None:
        return create(entry.arch, num_classes, crop)
    spec = registry.archs()[entry.arch]
    found = found or start(entry)
    assert found is not None
    check_architecture(entry.arch, found)
    return _built(found, num_classes=num_classes, **_sized(spec, crop), **spec.train)


def parameters(model: nn.Module) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in model.parameters())


def create_model(
    name: str, pretrained: bool | str | os.PathLike[str] | None = False, num_classes: int | None = None
) -> nn.Module:
    """The network of an entry, a plain timm model in eval mode.

    `pretrained=True` loads the entry's own weights (bundled, published, or trained on this
    machine), a path or string those of a folder or `hf-hub:org/name@rev`. Another `num_classes` than the
    entry's starts the head afresh, 0 removes it, which is logged. Weights with another number of classes than the
    entry's are refused unless `num_classes` is given.
    """
    if not isinstance(pretrained, bool | str | os.PathLike | None):
        raise TypeError(f"pretrained is {pretrained!r:.60}: True, False, a folder, or 'hf-hub:ORG/NAME'")
    if num_classes is not None and (isinstance(num_classes, bool) or not isinstance(num_classes, int)):
        raise TypeError(f"num_classes is {num_classes!r:.60} but should be a whole number")
    if num_classes is not None and not 0 <= num_classes <= weights.MOST:
        raise ValueError(f"num_classes is {num_classes:,}: 0, for no head, to {weights.MOST:,}")
    entry = registry.get_entry(name)
    expected = registry.get_dataset(entry.dataset).num_classes
    if pretrained is None or pretrained is False:
        return create(entry.arch, expected if num_classes is None else num_classes, entry.recipe.crop).eval()
    source = pretrained if isinstance(pretrained, bool | str) else Path(pretrained)
    model = load(entry.arch, weights.find(entry) if isinstance(source, bool) else weights.locate(source))
    if num_classes is None and model.num_classes != expected:
        raise WeightsNotFound(f"{name} has {expected} classes, {source} {model.num_classes}: give num_classes")
    if num_classes not in (None, model.num_classes):
        becomes = "the head starts afresh" if num_classes else "the head is removed, what it would see is given"
        log.warning("%s: %s classes in place of %s, %s", name, num_classes, model.num_classes, becomes)
        model.reset_classifier(num_classes)  # type: ignore[operator]
    return model


def load(arch: str, found: weights.Weights) -> nn.Module:
    """The network of a folder in timm's format, in eval mode; refuses another architecture than `arch`."""
    check_architecture(arch, found)
    return load_any(found)


def check_architecture(arch: str, found: weights.Weights) -> None:
    """Refuse weights of another architecture than `arch` ("r18")."""
    holds, expected = weights.read_config(found.folder).get("architecture"), registry.archs()[arch].timm_name
    if holds != expected:
        raise CorruptWeights(f"{found.folder}: holds a {holds}, not a {expected}")


def load_any(found: weights.Weights) -> nn.Module:
    """The network of a folder in timm's format, in eval mode, whatever it is; `CorruptWeights` where it is none."""
    return _built(found).eval()


def _built(found: weights.Weights, num_classes: int | None = None, **told: Any) -> nn.Module:
    """The network that a folder's `config.json` tells, with the values of its `model.safetensors`.

    With another `num_classes` its head is new. All else of the network is in the file, whatever the folder says.
    """
    path, config = found.folder / weights.WEIGHTS, weights.read_config(found.folder)
    own = config.get("num_classes")
    try:
        with safe_open(path, framework="pt") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  not a mapping
            rows = {tuple(part.get_shape())[:1] for part in parts.values()}
            kinds = {name: part.get_dtype() for name, part in parts.items()}
        if own and (own,) not in rows:  # before a head of that size is made
            raise ValueError(f"{weights.CONFIG} says {own:,} classes, no tensor has as many rows")
        if num_classes in (None, own):
            return _complete(timm.create_model(f"local-dir:{found.folder}", pretrained=True, **told), config, kinds)
        with torch.random.fork_rng(devices=[]):  # what timm fits a new head to, it compares nothing of
            _complete(timm.create_model(f"local-dir:{found.folder}", pretrained=True, **told), config, kinds)
        return timm.create_model(f"local-dir:{found.folder}", pretrained=True, num_classes=num_classes, **told)
    except Exception as error:  # whatever damaged values and arguments lead timm to
        raise CorruptWeights(f"{path}: {reason_of(error)}") from error


def _complete(model: nn.Module, config: Mapping[str, Any], kinds: Mapping[str, str]) -> nn.Module:
    """The network, if its file, which has tensors of these kinds by name, has all of it; else `ValueError`."""
    own = model.state_dict()
    strict = (config.get("model_args") or {}).get("pretrained_strict", True) is True  # then timm has compared the names
    missing = [] if strict else sorted(own.keys() - kinds.keys())
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(f"tensors of the network are missing: {', '.join(missing[:3])}{more}")
    for name in own.keys() & kinds.keys():
        if own[name].is_floating_point() and not kinds[name].startswith(("F", "BF")):
            raise ValueError(f"{name} is of {kinds[name]} but should be of floating-point numbers")
    return model


def code(found: weights.Weights) -> str:
    """The sha256 of the file that defines the network a folder holds: timm's, this package's or a user's own.

    Empty where the folder names none that timm knows.
    """
    name = weights.read_config(found.folder).get("architecture") if found.config_sha256 else None
    file = inspect.getsourcefile(timm.model_entrypoint(name)) if name and timm.is_model(name) else None
    return hashing.sha256(Path(file)) if file else ""


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
