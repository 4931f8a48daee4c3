"""A teacher's outputs for fixed views of a split, kept in mapped files: what it knows, without its network."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import astuple, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dctkd_zoo import distributed, teachers
from dctkd_zoo._io import hashing, json_file
from dctkd_zoo.attention import activation_map
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.loader import CropParams, ImageLoader
from dctkd_zoo.device import autocast, kind
from dctkd_zoo.errors import CorruptCache
from dctkd_zoo.features import Output, finite, refuse_non_finite
from dctkd_zoo.teachers import Teacher

WAITING = "waiting for another process that makes %s"
INDEX = "index.json"
# Files of this package that an image passes on its way to an output.
CODE = ("*.py", "data/**/*.py", "models/*.py", "weights/*.py")
LIBRARIES = ("torch", "torchvision", "timm")

log = logging.getLogger(__name__)

Report = Callable[[int, int], None]  # images done, of how many


@dataclass(frozen=True)
class FixedView:
    """One view of every image: where it is cropped and whether it is mirrored, and what tells it from others."""

    name: str
    windows: CropParams


@dataclass(frozen=True)
class CacheFormat:
    """How a teacher is run and what is kept of it: its precision, the files' dtype, and whether features' means too."""

    precision: torch.dtype
    dtype: torch.dtype
    means: bool = False


@dataclass(frozen=True)
class TeacherCache:
    """Of one view of N images: roots of the activation maps (N, H, W) per level, logits (N, K), embedding (N, D).

    The rows are those images that decoded, in order. `means` (N, C) of the features are kept where they were asked for.

    The maps stand for features of one channel: the mean of their squares is the activation map again,
    so every term that reads maps, logits or embeddings takes an `Output` from here for the teacher's own.
    """

    maps: tuple[Tensor, ...]
    logits: Tensor
    embedding: Tensor
    means: tuple[Tensor, ...] = ()

    def output(self, batch: Batch) -> Output:
        """What the teacher makes of this view of the batch's images, in float32, on their device."""
        return self.rows(batch.ids, batch.images.device)

    def rows(self, ids: Tensor, device: torch.device) -> Output:
        """The same of the images in the rows `ids` (B,) of the files."""
        ids = ids.cpu()
        maps, means, logits, embedding = (
            tuple(tensor[ids].to(device, torch.float32) for tensor in tensors)
            for tensors in (self.maps, self.means, (self.logits,), (self.embedding,))
        )
        return Output(logits[0], tuple(m[:, None] for m in maps), embedding[0], means)


def to_arrays(output: Output, *, means: bool) -> dict[str, Tensor]:
    """An output as it is kept: `map.1` (B, H, W) and `mean.1` (B, C) on from the shallowest, `logits`, `embedding`."""
    roots = {f"map.{level}": m[:, 0] for level, m in enumerate(compact(output).maps, start=1)}
    pooled = {f"mean.{level}": m for level, m in enumerate(output.pooled() if means else (), start=1)}
    return {**roots, **pooled, "logits": output.logits, "embedding": output.embedding}


def compact(output: Output) -> Output:
    """The output with features of one channel in place of many, of the same activation maps."""
    roots = tuple(activation_map(m).sqrt()[:, None] for m in output.maps)
    return Output(output.logits, roots, output.embedding, output.means)


def size(output: Output, images: int, kept: CacheFormat) -> int:
    """Bytes that one view of so many images takes on disk; `output` shows the shapes."""
    numbers = sum(math.prod(part.shape[1:]) for part in to_arrays(output, means=kept.means).values())
    return numbers * images * kept.dtype.itemsize


@cache
def made_by() -> list[str]:
    """The code that turns images into outputs, as JSON can hold it: this package's, and the libraries' versions."""
    return [hashing.of_files(Path(__file__).parent, CODE), *map(version, LIBRARIES)]


def folder(teacher: Teacher, views: ImageLoader, view: FixedView, kept: CacheFormat, cache: Path) -> Path:
    """Where the knowledge of a view lies: whatever changes what a teacher says of it changes the place.

    That is the teacher and its config, the images and how they are seen, precision, device and code.
    """
    meta = teachers.facts(teacher.name, teacher.weights)
    facts = [made_by(), meta, views.cache_key(), view.name, *map(str, astuple(kept)), kind(views.device)]
    return cache / "knowledge" / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def open_teacher_cache(
    teacher: Teacher,
    views: ImageLoader,
    view: FixedView,
    kept: CacheFormat,
    path: Path,
    report: Report,
    fresh: bool = False,
) -> TeacherCache:
    """The knowledge in the folder `place`, made by running the teacher over the view where there is none.

    If `fresh`, it is made in any case. `report` hears of a run after each batch. `CorruptCache` where files are not
    what was written, `NonFiniteAnswers` where the teacher's are no numbers to learn from.
    """
    there = path.exists() and not fresh
    with nullcontext() if there else distributed.primary_lock(path, waiting=lambda: log.info(WAITING, path)):
        if distributed.any_rank(distributed.is_primary() and (fresh or not path.exists()))[0]:
            _build(teacher, views, view, kept, path, report)
    distributed.barrier()
    return _open(path, kept.dtype)


def _open(path: Path, dtype: torch.dtype) -> TeacherCache:
    files: dict[str, dict[str, Any]] = json_file.read_sealed(path / INDEX)
    tensors = {name: _mapped(path / f"{name}.bin", dtype, **meta) for name, meta in files.items()}
    maps, means = (tuple(t for name, t in tensors.items() if name.startswith(kind)) for kind in ("map.", "mean."))
    return TeacherCache(maps, tensors["logits"], tensors["embedding"], means)


def _mapped(path: Path, dtype: torch.dtype, shape: list[int], sha256: str) -> Tensor:
    expected, result = math.prod(shape) * dtype.itemsize, path.stat().st_size
    if result != expected:
        raise CorruptCache(
            f"{path}: {result:,} bytes where {expected:,} are due; delete {path.parent} to have it made anew"
        )
    if hashing.sha256(path) != sha256:
        raise CorruptCache(f"{path}: damaged, its sha256 is not {sha256}; delete {path.parent} to have it made anew")
    return torch.from_file(str(path), shared=False, size=math.prod(shape), dtype=dtype).view(shape)


def _build(
    teacher: Teacher, views: ImageLoader, view: FixedView, kept: CacheFormat, path: Path, report: Report
) -> None:
    """Write beside its place, then rename: a build that is killed leaves nothing that looks whole."""
    rows = _outputs(teacher, views, view, kept)
    if not distributed.is_primary():
        for _ in rows:  # a part of which this rank makes
            pass
        return
    for left in path.parent.glob(f".{path.name}.*/"):  # by one that was: the lock is ours
        shutil.rmtree(left, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    others = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        new, old = others / "new", others / "old"
        new.mkdir()
        json_file.write_sealed(new / INDEX, _write(rows, new, len(views.labels), report))
        if path.exists():
            path.rename(old)
        new.rename(path)
    finally:
        shutil.rmtree(others, ignore_errors=True)


@torch.inference_mode()
def _outputs(teacher: Teacher, views: ImageLoader, view: FixedView, kept: CacheFormat) -> Iterator[dict[str, Tensor]]:
    """What is kept of each batch, on the CPU; of several ranks each runs some batches, and all have all of them.

    `NonFiniteAnswers` at the end, where any of it is no finite number: some that are lie above what float16 holds.
    """
    wrong = total = 0
    for batch, own in views.iter_sharded(view.windows, views.recipe.batch_size):
        with autocast(batch.images.device, kept.precision):
            output = teacher.network(batch.images)
        result = to_arrays(output, means=kept.means)
        every = {
            name: torch.cat(distributed.all_gather_uneven(rows if own else rows[:0])) for name, rows in result.items()
        }
        rows = {name: part.to("cpu", kept.dtype).contiguous() for name, part in every.items()}
        wrong += int((~finite(rows.values())).sum())
        total += len(rows["logits"])
        yield rows
    how = "" if kept.dtype == torch.float32 else f", kept in {str(kept.dtype).removeprefix('torch.')}"
    refuse_non_finite(wrong, total, f"teacher {teacher.name}{how}: ")


def _write(rows: Iterable[dict[str, Tensor]], beside: Path, images: int, report: Report) -> dict[str, Any]:
    """Append the rows of each batch to a file a part; the shape and sha256 of each file."""
    done, shapes = 0, {}
    hashes: dict[str, Any] = {}
    for batch in rows:
        done += len(batch["logits"])
        for name, values in batch.items():
            shapes[name] = [done, *values.shape[1:]]
            data = values.numpy().tobytes()
            hashes.setdefault(name, hashlib.sha256()).update(data)
            with (beside / f"{name}.bin").open("ab") as file:
                file.write(data)
        report(done, images)
    return {name: {"shape": shape, "sha256": hashes[name].hexdigest()} for name, shape in shapes.items()}
