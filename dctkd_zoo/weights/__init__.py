"""Entries to the folders that hold their weights: found by name, fetched, checked by hash; no network is built."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from dctkd_zoo._io import atomic, csv_rows, json_file
from dctkd_zoo._io.hashing import sha256
from dctkd_zoo._io.paths import checkpoints
from dctkd_zoo._io.typecheck import fits
from dctkd_zoo.cli import shell
from dctkd_zoo.errors import CorruptFile, CorruptWeights, WeightsNotFound
from dctkd_zoo.spec import HUB, Entry
from dctkd_zoo.weights import hub

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
REVISION = re.compile(r"(?!.*\.\.)\w[\w./-]*", re.ASCII)  # which becomes the name of a file of the Hub's cache
MOST = 1_000_000  # classes
LOCAL = "local-dir:"
PATH = re.compile(rf"{LOCAL}.*[/\\]|[/~]|[A-Za-z]:[/\\]")  # how a path on a machine begins
FIELDS: Mapping[str, Any] = {  # of a config.json, where it has them; timm's own may name labels otherwise
    "architecture": str | None,
    "num_classes": int | None,
    "label_names": list[str] | dict[str, Any] | None,
    "model_args": dict[str, Any] | None,
    "pretrained_cfg": dict[str, Any] | None,
}
PREPROCESSING: Mapping[str, Any] = {  # of a config.json's `pretrained_cfg`
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
# What timm takes beside a network's own arguments, and which says what is loaded: that is this package's to say.
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
    """A folder that timm loads (`config.json`, `model.safetensors`), where it came from, and the weights' sha256."""

    folder: Path
    origin: str
    sha256: str

    @cached_property
    def config_sha256(self) -> str:
        """The sha256 of the `config.json`: of how the network is built and fed. Empty where the folder has none."""
        path = self.folder / CONFIG
        return sha256(path) if path.is_file() else ""


@lru_cache(maxsize=1)
def published() -> Mapping[str, Mapping[str, str]]:
    """Rows of `published.csv` by entry."""
    return read_published(PUBLISHED)


def read_published(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Rows of a file like `published.csv` by entry; `CorruptFile` names the line that is damaged."""
    way_on = "install the package again, or restore the file from version control"
    result: dict[str, Mapping[str, str]] = {}
    for line, row in csv_rows.read(path, tuple(FORMS), way_on):
        wrong = next((name for name, form in FORMS.items() if re.fullmatch(form, row[name], re.ASCII) is None), None)
        if wrong or row["name"] in result:
            what = f"{wrong} is {row[wrong]!r:.60}" if wrong else f"{row['name']} stands there before"
            raise CorruptFile(f"{path}, line {line}: {what}: {way_on}")
        result[row["name"]] = row
    return result


def status(name: str) -> str:
    """Where the weights of an entry would come from, `bundled`, `published` or `trained here`; else `recipe only`."""
    if is_complete(BUNDLED / name):
        return "bundled"
    if name in published():
        return "published"
    return "trained here" if is_complete(checkpoints() / name) else "recipe only"


def available(name: str) -> bool:
    """Whether the weights of an entry can be had now."""
    return status(name) != "recipe only"


def is_complete(folder: Path) -> bool:
    """Whether a folder holds an exported network; its hashes are written last."""
    return all((folder / file).is_file() for file in (WEIGHTS, CONFIG, HASHES))


def find(entry: Entry, trained: Path | None = None) -> Weights:
    """The entry's own weights: those in the folder `trained` if given, else bundled, published, or trained here.

    `WeightsNotFound` names the ways on, `CorruptWeights` says that bytes do not match their hash.
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
        f"no weights of {name}: not bundled, not published, not in {trained or checkpoints()}. Either train it "
        f"(`{shell.suggest(entry.train_command)}`), point DCTKD_ZOO_HOME to the folder whose `checkpoints` hold it, "
        f"or publish it and update this package."
    )


@cache
def _note_once(folder: Path) -> None:
    log.info("not published, so checkpoints trained on this machine are used: %s", folder)


def locate(source: str | Path) -> Weights:
    """Weights outside the catalog: a folder's path, `local-dir:` with it, or `hf-hub:org/name[@revision]`."""
    if isinstance(source, str) and source.startswith(HUB):
        repo, _, revision = source.partition(":")[2].partition("@")
        if revision and REVISION.fullmatch(revision) is None:
            raise WeightsNotFound(f"{source}: {revision!r} is no branch, tag or commit")
        return from_hub(repo, revision or "main")
    if source == "":
        raise WeightsNotFound("no source of weights: give a folder's path, or hf-hub:ORG/NAME")
    try:
        folder = Path(str(source).removeprefix(LOCAL)).expanduser()
        missing = [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
        a_file, a_folder = folder.is_file(), folder.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # too long, of a user who is not, or with a NUL in it
        said = f"{str(source)[:80]!r}: {error}"
        raise WeightsNotFound(f"{said}; nothing but safetensors in a folder is loaded") from error
    if a_file:
        raise WeightsNotFound(f"{folder} is a file: give the folder that holds {CONFIG} and {WEIGHTS}")
    if missing and not a_folder and re.fullmatch(FORMS["repo"], str(source), re.ASCII):
        raise WeightsNotFound(f"{folder}: no such folder; of the Hub's repository, write hf-hub:{source}")
    if missing:
        raise WeightsNotFound(f"{folder}: no {' and '.join(missing)} there; nothing but safetensors is loaded")
    return from_folder(folder, "given folder")


def from_folder(folder: Path, origin: str) -> Weights:
    """The network in a folder, its bytes compared with the folder's own `SHA256SUMS` where it has one."""
    recorded = read_hashes(folder) if (folder / HASHES).is_file() else None
    result = {name: sha256(folder / name) for name in (CONFIG, WEIGHTS)}
    for name, digest in result.items():
        wanted = digest if recorded is None else recorded.get(name)
        if digest != wanted:
            raise CorruptWeights(f"{folder / name}: sha256 is {digest}, {wanted} was recorded; train or copy it again")
    return Weights(folder, origin, result[WEIGHTS])


def from_hub(repo: str, revision: str, wanted: str | None = None, wanted_config: str | None = None) -> Weights:
    """Download a network at a revision; `wanted` and `wanted_config` are the sha256 of its weights and config."""
    folder = hub.fetch(repo, revision, {CONFIG: wanted_config, WEIGHTS: wanted})
    return Weights(folder, f"hf-hub:{repo}@{revision}", wanted or sha256(folder / WEIGHTS))


def read_hashes(folder: Path) -> dict[str, str]:
    """File name -> sha256, from a folder's `SHA256SUMS`."""
    try:
        lines = (folder / HASHES).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise CorruptWeights(f"{folder / HASHES}: {error}; train or copy it again") from error
    pairs = (line.split(maxsplit=1) for line in lines)
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}


def write_hashes(folder: Path) -> None:
    """Write `SHA256SUMS` over the folder's safetensors and config: the mark of a whole export."""
    names = sorted(p.name for p in folder.iterdir() if p.suffix == ".safetensors" or p.name == CONFIG)
    names = [name for name in names if not name.startswith((".", "checkpoint"))]
    atomic.write_text(folder / HASHES, "".join(f"{sha256(folder / name)}  {name}\n" for name in names))


def recipe_mismatch(folder: Path, expected: Mapping[str, Any]) -> list[str]:
    """The facts of `due` that a folder's `recipe.json` tells otherwise, or not at all, by name."""
    path = folder / "recipe.json"
    meta = json_file.read_object(path, CorruptFile, "copy it again, or train again") if path.is_file() else {}
    return sorted(name for name, fact in expected.items() if portable(meta.get(name)) != portable(fact))


def portable(fact: Any) -> Any:
    """A fact as it may leave this machine: of a path in it the last folder, and a hash that tells it from others."""
    match fact:
        case dict():
            return {name: portable(value) for name, value in fact.items()}
        case list() | tuple():
            return [portable(value) for value in fact]
        case str() if PATH.match(fact):
            prefix = LOCAL if fact.startswith(LOCAL) else ""
            last = fact.removeprefix(prefix).replace("\\", "/").rstrip("/").rpartition("/")[2]
            return f"{prefix}{last}@{hashlib.sha256(fact.encode(errors='surrogateescape')).hexdigest()[:8]}"
    return fact


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of an exported network; `CorruptWeights` where it is none, or its fields are of other types."""
    path = folder / CONFIG
    loaded = json_file.read_object(path, CorruptWeights)
    _check_types(path, loaded, FIELDS)
    if not 0 <= (loaded.get("num_classes") or 0) <= MOST:
        raise CorruptWeights(f"{path}: num_classes is {loaded['num_classes']}, at most {MOST:,} are taken")
    elsewhere = sorted(LOADING & (loaded.get("model_args") or {}).keys())
    if elsewhere:
        raise CorruptWeights(f"{path}: model_args has {', '.join(elsewhere)}, which are no arguments of a network")
    _check_preprocessing(path, loaded.get("pretrained_cfg") or loaded)
    return {name: value for name, value in loaded.items() if value is not None or name not in FIELDS}


def _check_types(path: Path, told: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    for name, expected in fields.items():
        if not fits(told.get(name), expected):
            raise CorruptWeights(f"{path}: {name} is {told[name]!r:.60} but should be {expected}")


def _check_preprocessing(path: Path, told: Mapping[str, Any]) -> None:
    """Refuse what no image can be prepared by, as timm keeps it: size (C, H, W), share of the crop, mean and std."""
    _check_types(path, told, PREPROCESSING)
    size, mean, std = (told.get(name) for name in ("input_size", "mean", "std"))
    if size is not None and not (len(size) == 3 and all(0 < side <= MOST_PX for side in size)):
        raise CorruptWeights(f"{path}: input_size is {size} but should be channels, height and width in px")
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != (size[0] if size else 3):
            raise CorruptWeights(f"{path}: {name} is {values} but should be a number for each channel")
    if std is not None and min(std) <= 0:
        raise CorruptWeights(f"{path}: std is {std} but should be above 0")
    if not 0 < (told.get("crop_pct") or 1) <= 2:
        raise CorruptWeights(f"{path}: crop_pct is {told['crop_pct']} but should be a share of the image")
    for name, known in (("interpolation", INTERPOLATIONS), ("crop_mode", CROP_MODES)):
        if told.get(name) is not None and told[name] not in known:
            raise CorruptWeights(f"{path}: {name} is {told[name]!r:.60} but should be one of {', '.join(known)}")
