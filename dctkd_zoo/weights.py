"""Entries to the folders that hold their weights: found by name, fetched, checked by hash; no network is built."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dctkd_zoo import atomic, hub
from dctkd_zoo.digest import sha256
from dctkd_zoo.errors import CorruptWeights, WeightsNotFound
from dctkd_zoo.home import checkpoints
from dctkd_zoo.spec import Entry

log = logging.getLogger(__name__)

PACKAGE = Path(__file__).parent
BUNDLED = PACKAGE / "bundled"
PUBLISHED = PACKAGE / "catalog" / "published.csv"
WEIGHTS, CONFIG, HASHES = "model.safetensors", "config.json", "SHA256SUMS"


@dataclass(frozen=True)
class Weights:
    """A folder that timm loads (`config.json`, `model.safetensors`), where it came from, and the weights' sha256."""

    folder: Path
    origin: str
    sha256: str


@lru_cache(maxsize=1)
def published() -> Mapping[str, Mapping[str, str]]:
    """Rows of `published.csv` by entry: name, repo, revision, sha256, config_sha256."""
    with PUBLISHED.open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def status(name: str) -> str:
    """Where the weights of an entry would come from, `bundled`, `published` or `trained here`; else `recipe only`."""
    if is_whole(BUNDLED / name):
        return "bundled"
    if name in published():
        return "published"
    return "trained here" if is_whole(checkpoints() / name) else "recipe only"


def available(name: str) -> bool:
    """Whether the weights of an entry can be had now."""
    return status(name) != "recipe only"


def is_whole(folder: Path) -> bool:
    """Whether a folder holds an exported network; its hashes are written last."""
    return all((folder / file).is_file() for file in (WEIGHTS, CONFIG, HASHES))


def find(entry: Entry, trained: Path | None = None) -> Weights:
    """The entry's own weights: those in the folder `trained` if given, else bundled, published, or trained here.

    `WeightsNotFound` names the ways on, `CorruptWeights` says that bytes do not match their hash.
    """
    name = entry.run_name
    if trained is not None and is_whole(trained / name):
        return from_folder(trained / name, "trained here")
    if is_whole(BUNDLED / name):
        return from_folder(BUNDLED / name, "bundled")
    if name in published():
        row = published()[name]
        return from_hub(row["repo"], row["revision"], row["sha256"], row["config_sha256"])
    if is_whole(checkpoints() / name):
        log.info("%s is not published: using the checkpoint trained on this machine, %s", name, checkpoints())
        return from_folder(checkpoints() / name, "trained here")
    raise WeightsNotFound(
        f"no weights of {name}: not bundled, not published, not in {trained or checkpoints()}. Either train it "
        f"(`{entry.train_command}`), point DCTKD_ZOO_HOME to the folder whose `checkpoints` hold it, "
        f"or publish it and update this package."
    )


def locate(source: str) -> Weights:
    """Weights outside the catalog: a folder's path, `local-dir:` with it, or `hf-hub:org/name[@revision]`."""
    if source.startswith("hf-hub:"):
        repo, _, revision = source.removeprefix("hf-hub:").partition("@")
        return from_hub(repo, revision or "main")
    folder = Path(source.removeprefix("local-dir:")).expanduser()
    if not all((folder / file).is_file() for file in (WEIGHTS, CONFIG)):
        raise WeightsNotFound(f"{folder}: no {CONFIG} and {WEIGHTS} there; nothing but safetensors is loaded")
    return from_folder(folder, "given folder")


def from_folder(folder: Path, origin: str) -> Weights:
    """The network in a folder, its bytes compared with the folder's own `SHA256SUMS` where it has one."""
    recorded = read_hashes(folder) if (folder / HASHES).is_file() else None
    found = {name: sha256(folder / name) for name in (CONFIG, WEIGHTS)}
    for name, digest in found.items():
        wanted = digest if recorded is None else recorded.get(name)
        if digest != wanted:
            raise CorruptWeights(f"{folder / name}: sha256 is {digest}, {wanted} was recorded; train or copy it again")
    return Weights(folder, origin, found[WEIGHTS])


def from_hub(repo: str, revision: str, wanted: str | None = None, wanted_config: str | None = None) -> Weights:
    """Download a network at a revision; `wanted` and `wanted_config` are the sha256 of its weights and config."""
    folder = hub.fetch(repo, revision, {CONFIG: wanted_config, WEIGHTS: wanted})
    return Weights(folder, f"hf-hub:{repo}@{revision}", wanted or sha256(folder / WEIGHTS))


def read_hashes(folder: Path) -> dict[str, str]:
    """File name -> sha256, from a folder's `SHA256SUMS`."""
    lines = (folder / HASHES).read_text().splitlines()
    pairs = (line.split(maxsplit=1) for line in lines)
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}


def write_hashes(folder: Path) -> None:
    """Write `SHA256SUMS` over the folder's safetensors and config: the mark of a whole export."""
    names = sorted(p.name for p in folder.iterdir() if p.suffix == ".safetensors" or p.name == CONFIG)
    names = [name for name in names if not name.startswith((".", "checkpoint"))]
    atomic.write_text(folder / HASHES, "".join(f"{sha256(folder / name)}  {name}\n" for name in names))


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of an exported network."""
    try:
        loaded: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    except ValueError as error:
        raise CorruptWeights(f"{folder / CONFIG}: {error}") from error
    return loaded
