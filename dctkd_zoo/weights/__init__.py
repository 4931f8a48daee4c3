"""Weights of entries: found by name, fetched and checked by hash, without building a network."""

from __future__ import annotations

import inspect
import logging
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from dctkd_zoo._io import atomic, csv_rows, json_file
from dctkd_zoo._io.hashing import sha256
from dctkd_zoo._io.paths import cache_home, checkpoints
from dctkd_zoo._io.typecheck import fits
from dctkd_zoo.cli import shell
from dctkd_zoo.errors import CorruptFile, CorruptWeights, WeightsNotFound
from dctkd_zoo.spec import HUB, Entry
from dctkd_zoo.weights import hub
from dctkd_zoo.weights.run_folder import LOCAL, RECIPE
from dctkd_zoo.weights.run_folder import portable as portable

log = logging.getLogger(__name__)

PACKAGE = Path(__file__).parents[1]
BUNDLED = PACKAGE / "bundled"
PUBLISHED = PACKAGE / "catalog" / "published.csv"
FORMS = {  # the columns of published.csv
    "name": r"\w[\w.-]*",
    "repo": r"\w[\w.-]*/\w[\w.-]*",
    "revision": "[0-9a-f]{40}",
    "sha256": "[0-9a-f]{64}",
    "config_sha256": "[0-9a-f]{64}",
}
REVISION = re.compile(r"(?!.*\.\.)\w[\w./-]*", re.ASCII)  # it becomes a file name in the Hub's cache
MOST = 1_000_000  # classes
# Options in the command of a run that do not count, or that its recipe holds.
NOT_COMPARED = re.compile(r" --(precision|epochs|lr|batch-size|limit) \S+")
FIELDS: Mapping[str, Any] = {  # types in a config.json, all optional; timm's own may have labels as an object
    "architecture": str | None,
    "num_classes": int | None,
    "label_names": list[str] | dict[str, Any] | None,
    "model_args": dict[str, Any] | None,
    "pretrained_cfg": dict[str, Any] | None,
}
PREPROCESSING: Mapping[str, Any] = {  # types in a config.json's `pretrained_cfg`
    "input_size": list[int] | None,
    "mean": list[float] | None,
    "std": list[float] | None,
    "crop_pct": float | None,
    "interpolation": str | None,
    "crop_mode": str | None,
    "fixed_input_size": bool | None,
}
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos", "lanczos3", "random")  # of timm
CROP_MODES = ("center", "squash", "border")
MOST_PX = 16_384
# Arguments of timm that decide what is loaded: no `model_args` may set them.
LOADING = {
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_model_args",
    "pretrained_filter_fn",
    "checkpoint_path",
    "cache_dir",
    "features_only",
    "scriptable",
    "exportable",
    "no_jit",
}
WEIGHTS, CONFIG, HASHES = "model.safetensors", "config.json", "SHA256SUMS"


@dataclass(frozen=True)
class Weights:
    """A folder that timm can load (`config.json`, `model.safetensors`), its origin and the sha256 of its weights."""

    folder: Path
    origin: str
    sha256: str

    @cached_property
    def config_sha256(self) -> str:
        """The sha256 of `config.json`, which says how the network is built and fed; empty if there is none."""
        path = self.folder / CONFIG
        return sha256(path) if path.is_file() else ""


@lru_cache(maxsize=1)
def published() -> Mapping[str, Mapping[str, str]]:
    """Return the rows of `published.csv` by entry."""
    return read_published(PUBLISHED)


def read_published(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Read a file like `published.csv` as rows by entry; `CorruptFile` names the damaged line."""
    way_on = "install the package again, or restore the file from version control"
    result: dict[str, Mapping[str, str]] = {}
    for line, row in csv_rows.read(path, tuple(FORMS), way_on):
        wrong = next((name for name, form in FORMS.items() if re.fullmatch(form, row[name], re.ASCII) is None), None)
        if wrong or row["name"] in result:
            what = f"{wrong} is {row[wrong]!r:.60}" if wrong else f"{row['name']} is listed twice"
            raise CorruptFile(f"{path}, line {line}: {what}: {way_on}")
        result[row["name"]] = row
    return result


def status(name: str) -> str:
    """Return where an entry's weights would come from: `bundled`, `published`, `trained here`, else `recipe only`."""
    if is_complete(BUNDLED / name):
        return "bundled"
    if name in published():
        return "published"
    return "trained here" if is_complete(checkpoints() / name) else "recipe only"


def available(name: str) -> bool:
    """Return whether an entry has weights that can be loaded now."""
    return status(name) != "recipe only"


def is_complete(folder: Path) -> bool:
    """Return whether a folder holds a complete export; its hashes are written last."""
    return all((folder / file).is_file() for file in (WEIGHTS, CONFIG, HASHES))


def find(entry: Entry, trained: Path | None = None) -> Weights:
    """Find the entry's own weights: in the folder `trained` if given, else bundled, published, or trained here.

    `WeightsNotFound` says how to get them, `CorruptWeights` that a file does not match its hash.
    """
    name = entry.run_name
    if trained is not None and is_complete(trained / name):
        return from_folder(trained / name, "trained here")
    if is_complete(BUNDLED / name):
        return from_folder(BUNDLED / name, "bundled")
    if name in published():
        row = published()[name]
        return from_hub(row["repo"], row["revision"], row["sha256"], row["config_sha256"])
    if is_complete(checkpoints() / name):
        _note_once(checkpoints())
        return from_folder(checkpoints() / name, "trained here")
    raise WeightsNotFound(
        f"no weights for {name}: not bundled, not published, not in {trained or checkpoints()}. Train it "
        f"(`{shell.suggest(entry.train_command)}`), set DCTKD_ZOO_HOME to a folder that has it in `checkpoints`, "
        f"or publish it and update this package."
    )


@cache
def _note_once(folder: Path) -> None:
    log.info("not published, so checkpoints trained on this machine are used: %s", folder)


def locate(source: str | Path, origin: str = "given folder") -> Weights:
    """Find weights outside the catalog: a folder, with or without `local-dir:`, or `hf-hub:org/name[@revision]`.

    `origin` is what a folder is called in results.
    """
    if isinstance(source, str) and source.startswith(HUB):
        repo, _, revision = source.partition(":")[2].partition("@")
        if revision and REVISION.fullmatch(revision) is None:
            raise WeightsNotFound(f"{source}: {revision!r} is not a branch, tag or commit")
        return from_hub(repo, revision or "main")
    if source == "":
        raise WeightsNotFound("the source of weights is empty: give a folder, or hf-hub:ORG/NAME")
    try:
        folder = Path(str(source).removeprefix(LOCAL)).expanduser()
        missing = [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
        is_file, is_folder = folder.is_file(), folder.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # a path that is too long, of an unknown user, or with a NUL
        message = f"{str(source)[:80]!r}: {error}"
        raise WeightsNotFound(f"{message}; only a folder of safetensors can be loaded") from error
    if is_file:
        raise WeightsNotFound(f"{folder} is a file: give the folder that holds {CONFIG} and {WEIGHTS}")
    if missing and not is_folder and re.fullmatch(FORMS["repo"], str(source), re.ASCII):
        raise WeightsNotFound(f"{folder}: no such folder; for a repository on the Hub, write hf-hub:{source}")
    if missing:
        raise WeightsNotFound(f"{folder}: no {' and '.join(missing)} there; only safetensors can be loaded")
    return from_folder(folder, origin)


def pretrained_folder(name: str) -> Path:
    """Return the folder of the weights that timm calls `name`, `resnet50.tv_in1k`, for machines without the Hub."""
    return cache_home() / "pretrained" / name


def from_folder(folder: Path, origin: str) -> Weights:
    """Return the weights in a folder, after comparing its files with its `SHA256SUMS`, if it has one."""
    recorded = read_hashes(folder) if (folder / HASHES).is_file() else None
    result = {name: sha256(folder / name) for name in (CONFIG, WEIGHTS)}
    for name, digest in result.items():
        expected = digest if recorded is None else recorded.get(name)
        if digest != expected:
            raise CorruptWeights(
                f"{folder / name}: sha256 is {digest}, {HASHES} has {expected}; train or copy it again"
            )
    return Weights(folder, origin, result[WEIGHTS])


def from_hub(repo: str, revision: str, wanted: str | None = None, wanted_config: str | None = None) -> Weights:
    """Download a network at a revision; `wanted` and `wanted_config` are the known sha256 of weights and config."""
    folder = hub.fetch(repo, revision, {CONFIG: wanted_config, WEIGHTS: wanted})
    return Weights(folder, f"hf-hub:{repo}@{revision}", wanted or sha256(folder / WEIGHTS))


def read_hashes(folder: Path) -> dict[str, str]:
    """Read a folder's `SHA256SUMS` as file name -> sha256."""
    try:
        lines = (folder / HASHES).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise CorruptWeights(f"{folder / HASHES}: {error}; train or copy it again") from error
    pairs = (line.split(maxsplit=1) for line in lines)
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}


def write_hashes(folder: Path) -> None:
    """Write `SHA256SUMS` of the folder's safetensors and config, the mark of a complete export."""
    names = sorted(p.name for p in folder.iterdir() if p.suffix == ".safetensors" or p.name == CONFIG)
    names = [name for name in names if not name.startswith((".", "checkpoint"))]
    atomic.write_text(folder / HASHES, "".join(f"{sha256(folder / name)}  {name}\n" for name in names))


def recipe_mismatch(folder: Path, expected: Mapping[str, Any]) -> list[str]:
    """Return the names of `expected` values that a folder's `recipe.json` lacks or has otherwise.

    The precision in its command does not count: without the option it depends on the device. Nor do options for values
    that are also in the recipe.
    """
    path = folder / RECIPE
    recipe = json_file.read_object(path, CorruptFile, "copy it again, or train again") if path.is_file() else {}
    return sorted(name for name, value in expected.items() if _compared(recipe.get(name)) != _compared(value))


def _compared(value: Any) -> Any:
    return portable(NOT_COMPARED.sub("", value) if isinstance(value, str) else value)


def read_config(folder: Path) -> dict[str, Any]:
    """Read the `config.json` of an exported network; `CorruptWeights` if it is damaged or a field has a wrong type."""
    path = folder / CONFIG
    loaded = json_file.read_object(path, CorruptWeights)
    _check_types(path, loaded, FIELDS)
    if not 0 <= (loaded.get("num_classes") or 0) <= MOST:
        raise CorruptWeights(f"{path}: num_classes is {loaded['num_classes']} but should be from 0 to {MOST:,}")
    forbidden = sorted(LOADING & (loaded.get("model_args") or {}).keys())
    if forbidden:
        raise CorruptWeights(f"{path}: model_args has {', '.join(forbidden)}, which are not arguments of a network")
    _check_preprocessing(path, loaded.get("pretrained_cfg") or loaded)
    return {name: value for name, value in loaded.items() if value is not None or name not in FIELDS}


def registered_code(checkpoint: Weights) -> str:
    """Return the sha256 of the source file of a folder's network that a user has registered with timm.

    Empty for timm's own and this package's networks, which count by their version and code, and for unknown names.
    """
    timm: Any = sys.modules.get("timm")  # without it nobody has registered any, and importing it takes seconds
    name = read_config(checkpoint.folder).get("architecture") if timm and checkpoint.config_sha256 else None
    if not name or not timm.is_model(name):
        return ""
    source = inspect.getsourcefile(timm.model_entrypoint(name))
    known = any(Path(source or place).is_relative_to(place) for place in (PACKAGE, Path(timm.__file__).parent))
    return "" if known or not source else sha256(Path(source))


def _check_types(path: Path, config: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    for name, expected in fields.items():
        if not fits(config.get(name), expected):
            raise CorruptWeights(f"{path}: {name} is {config[name]!r:.60} but should be {expected}")


def _check_preprocessing(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse preprocessing that cannot be applied, in timm's format: size (C, H, W), crop fraction, mean and std."""
    _check_types(path, config, PREPROCESSING)
    size, mean, std = (config.get(name) for name in ("input_size", "mean", "std"))
    if size is not None and not (len(size) == 3 and all(0 < side <= MOST_PX for side in size)):
        raise CorruptWeights(f"{path}: input_size is {size} but should be channels, height and width in px")
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != (size[0] if size else 3):
            raise CorruptWeights(f"{path}: {name} is {values} but should be a number for each channel")
    if std is not None and min(std) <= 0:
        raise CorruptWeights(f"{path}: std is {std} but should be above 0")
    if not 0 < (config.get("crop_pct") or 1) <= 2:
        raise CorruptWeights(f"{path}: crop_pct is {config['crop_pct']} but should be a fraction of the image")
    for name, allowed in (("interpolation", INTERPOLATIONS), ("crop_mode", CROP_MODES)):
        if config.get(name) is not None and config[name] not in allowed:
            raise CorruptWeights(f"{path}: {name} is {config[name]!r:.60} but should be one of {', '.join(allowed)}")
