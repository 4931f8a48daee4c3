"""What reads bytes in this package: a function each, files that it takes, and the errors it promises for others."""

from __future__ import annotations

import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save_file

from dctkd_zoo import models, weights
from dctkd_zoo._io import json_file
from dctkd_zoo.data import decode
from dctkd_zoo.data.archive import unpack
from dctkd_zoo.errors import CorruptCache, CorruptFile, CorruptWeights, DatasetError, Undecodable
from dctkd_zoo.weights import run_folder
from eval.run import cache, results_csv
from train import checkpoint

Errors = tuple[type[Exception], ...]


@dataclass(frozen=True)
class Target:
    """What reads the file `name` of a folder that is otherwise whole, its valid contents, and what it may raise."""

    name: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], object]
    refuses: Errors


def saved(picture: Image.Image, kind: str, **how: object) -> bytes:
    """An image as a file of a kind."""
    file = io.BytesIO()
    picture.save(file, kind, **how)
    return file.getvalue()


def images() -> tuple[bytes, ...]:
    """One of each mode and kind that is read."""
    grey = Image.linear_gradient("L").resize((12, 10))
    colour = Image.merge("RGB", (grey, grey.rotate(90, expand=False), grey.rotate(180)))
    deep = Image.fromarray(np.arange(120, dtype=np.uint16).reshape(10, 12) * 500)
    turned = Image.Exif()
    turned[0x0112] = 6
    frames = [colour, colour.rotate(90)]
    return (
        saved(colour, "JPEG", exif=turned),
        saved(colour.convert("CMYK"), "JPEG"),
        saved(colour, "PNG"),
        saved(deep, "PNG"),
        saved(colour.convert("RGBA"), "PNG"),
        saved(colour.quantize(8), "GIF", save_all=True, append_images=frames),
        saved(colour, "WEBP"),
        saved(colour, "BMP"),
        saved(colour, "PPM"),
        saved(grey.convert("F"), "TIFF"),
        saved(deep, "TIFF", compression="tiff_lzw"),
        b"P5 2 1 65535\n\x80\x00\x01\x00",
    )


def archives() -> tuple[bytes, ...]:
    """A zip and tars of every compression, with a folder, a file and a link."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.txt", "words " * 40)
        archive.writestr("c.jpg", b"\xff\xd8")
    made = [packed.getvalue()]
    for mode in ("w:", "w:gz", "w:bz2", "w:xz"):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode, format=tarfile.PAX_FORMAT) as tar:
            for name, kind, link in (
                ("a", tarfile.DIRTYPE, ""),
                ("ä" * 60, tarfile.REGTYPE, ""),
                ("l", tarfile.LNKTYPE, "x"),
            ):
                info = tarfile.TarInfo(name)
                info.type, info.linkname, info.size = kind, link, 5 * (kind == tarfile.REGTYPE)
                tar.addfile(info, io.BytesIO(b"words"))
        made.append(file.getvalue())
    return tuple(made)


def written(write: Callable[[Path], object], name: str = "file") -> bytes:
    """What a function writes into a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()


def measured() -> cache.CachedTable:
    """A small table."""
    table = pd.DataFrame({"id": ["a", "b"], "top1": [1.0, 0.0]})
    return cache.CachedTable(table, {"mca": 1.0}, {"parameters": 3, "date": "today"})


def state() -> tuple[torch.nn.Module, torch.nn.Module, torch.optim.Optimizer]:
    """A network, an objective and an optimizer of a run."""
    student, objective = torch.nn.Linear(2, 2), torch.nn.Linear(1, 1)
    return student, objective, torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9)


def row() -> dict[str, object]:
    """A row of a results file."""
    known = {"name": "r8_cifar100", "dataset": "cifar100", "protocol": "exact", "seed": 0}
    return known | {"n": 9, "top1": 5.5, "note": 'a, "b"'}


BUNDLED = weights.BUNDLED / "r20_synthscenes"
PUBLISHED = ",".join(weights.FORMS) + "\nr8_cifar100,org/r8," + "0" * 40 + "," + "1" * 64 + "," + "2" * 64 + "\n"


def network(path: Path) -> object:
    """The network of a folder that has both files, and no hashes."""
    return models.load_any(weights.from_folder(path.parent, "given folder"))


def published(path: Path) -> object:
    """The rows of another published.csv."""
    whole, weights.PUBLISHED = weights.PUBLISHED, path
    weights.published.cache_clear()
    try:
        return weights.published()
    finally:
        weights.PUBLISHED = whole
        weights.published.cache_clear()


def unpacked(path: Path) -> object:
    """The names that an archive leaves in a folder; none of it lies elsewhere, and nothing of it is a link."""
    into = path.parent / "into"
    into.mkdir()
    names = unpack(path, into, lambda done, total: None)
    assert not any(item.is_symlink() for item in into.rglob("*"))
    return names


def table(path: Path) -> object:
    """A kept table, whose damage means that it is measured anew."""
    result = cache.read(path)
    if result is None:
        raise CorruptCache("measured anew")
    return result


TARGETS: Mapping[str, Callable[[], Target]] = {
    "config": lambda: Target("config.json", ((BUNDLED / "config.json").read_bytes(),), network, (CorruptWeights,)),
    "weights": lambda: Target(
        "model.safetensors",
        (written(lambda p: save_file({"fc.weight": torch.ones(12, 2), "b": torch.ones(3)}, p)),),
        network,
        (CorruptWeights,),
    ),
    "published": lambda: Target("published.csv", (PUBLISHED.encode(),), published, (CorruptFile,)),
    "archive": lambda: Target("archive", archives(), unpacked, (DatasetError,)),
    "image": lambda: Target("image.jpg", images(), decode.read, (Undecodable,)),
    "sealed": lambda: Target(
        "note.json",
        (written(lambda p: json_file.write_sealed(p, {"a": [1, None, "ä"]})),),
        json_file.read_sealed,
        (CorruptCache,),
    ),
    "table": lambda: Target(
        "table.npz", (written(lambda p: cache.write(measured(), p), "t.npz"),), table, (CorruptCache,)
    ),
    "checkpoint": lambda: Target(
        "checkpoint.safetensors",
        (written(lambda p: checkpoint.save(p.parent, checkpoint.Progress({"name": "x"}), *state()), checkpoint.STATE),),
        lambda path: checkpoint.restore(checkpoint.read(path), *state()),
        (CorruptWeights,),
    ),
    "results": lambda: Target(
        "results.csv", (written(lambda p: results_csv.write([row()], p)),), results_csv.read, (CorruptFile,)
    ),
    "log": lambda: Target(
        "train_log.csv", (b"epoch,test_top1,images_per_s,ce\n1,,10.5,0.5\n2,50.0,11,0.25\n",),
        lambda path: run_folder.read_log(path.parent), (CorruptFile,),
    ),
    "facts": lambda: Target("recipe.json", (b'{"recipe": {"seed": 3}}',), run_folder.read_facts, (CorruptFile,)),
}  # fmt: skip
