"""Teacher cache: a teacher's outputs for fixed views of a split, in memory-mapped files."""

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
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.loader import CropParams, ImageLoader
from dctkd_zoo.device import autocast, kind
from dctkd_zoo.errors import CorruptCache
from dctkd_zoo.features import Output, finite, refuse_non_finite
from dctkd_zoo.teachers import Teacher

WAITING = "waiting for another process to build %s"
INDEX = "index.json"
# Source files of this package that determine an output.
CODE = ("*.py", "data/**/*.py", "models/*.py", "weights/*.py")
LIBRARIES = ("torch", "torchvision", "timm", "pillow")

log = logging.getLogger(__name__)

Report = Callable[[int, int], None]  # called with the images done, and how many there are


@dataclass(frozen=True)
class FixedView:
    """One fixed view of every image, its crop and horizontal flip, and a name that identifies it."""

    name: str
    windows: CropParams


@dataclass(frozen=True)
class CacheFormat:
    """Precision a teacher is run in, dtype of the files, and whether mean features are stored too."""

    precision: torch.dtype
    dtype: torch.dtype
    means: bool = False


@dataclass(frozen=True)
class TeacherCache:
    """Outputs for one view of N images: maps (N, H, W) per level, logits (N, K), embedding (N, D).

    The rows are those images that decoded, in order. `means` (N, C) of the features are stored on request, `class_maps`
    (N, K, H, W) if the teacher's outputs have them.

    The maps are square roots of the activation maps and stand in for features of one channel: the mean of their squares
    is the activation map again, so any term that reads maps, logits or embeddings works with an `Output` from here as
    with the teacher's own.
    """

    maps: tuple[Tensor, ...]
    logits: Tensor
    embedding: Tensor
    means: tuple[Tensor, ...] = ()
    class_maps: Tensor | None = None

    def output(self, batch: Batch) -> Output:
        """Return the teacher's output for this view of the batch's images, in float32, on their device."""
        return self.rows(batch.ids, batch.images.device)

    def rows(self, ids: Tensor, device: torch.device) -> Output:
        """Return the teacher's output for the images in the rows `ids` (B,) of the files, in float32."""
        ids = ids.cpu()

        def read(tensor: Tensor) -> Tensor:
            return tensor[ids].to(device, torch.float32)

        maps, means = tuple(read(m)[:, None] for m in self.maps), tuple(map(read, self.means))
        class_maps = None if self.class_maps is None else read(self.class_maps)
        return Output(read(self.logits), maps, read(self.embedding), means, class_maps)


def to_arrays(output: Output, *, means: bool) -> dict[str, Tensor]:
    """Return the arrays to store, (B, ...): `map.1`, `mean.1`, ... from the shallowest on, and those of all levels."""
    roots = {f"map.{level}": m[:, 0] for level, m in enumerate(compact(output).maps, start=1)}
    pooled = {f"mean.{level}": m for level, m in enumerate(output.pooled() if means else (), start=1)}
    class_maps = {} if output.class_maps is None else {"class_maps": output.class_maps}
    return {**roots, **pooled, **class_maps, "logits": output.logits, "embedding": output.embedding}


def compact(output: Output) -> Output:
    """Return the output with one-channel features that have the same activation maps."""
    roots = tuple(maps.sqrt()[:, None] for maps in output.activation_maps())
    return output._replace(maps=roots)


def size(output: Output, images: int, cache_format: CacheFormat) -> int:
    """Return the bytes that one view of `images` images takes on disk; `output` provides the shapes."""
    numbers = sum(math.prod(part.shape[1:]) for part in to_arrays(output, means=cache_format.means).values())
    return numbers * images * cache_format.dtype.itemsize


@cache
def made_by() -> list[str]:
    """Return what turns images into outputs, as JSON data: a hash of this package's code, and library versions."""
    return [hashing.of_files(Path(__file__).parent, CODE), *map(version, LIBRARIES)]


def folder(teacher: Teacher, views: ImageLoader, view: FixedView, cache_format: CacheFormat, cache: Path) -> Path:
    """Return the folder of a cached view: anything that changes the teacher's outputs changes the folder.

    That is the teacher and its config, the images and their preprocessing, precision, device and code.
    """
    teacher_facts = teachers.facts(teacher.name, teacher.weights)
    facts = [
        made_by(),
        teacher_facts,
        views.cache_key(),
        view.name,
        *map(str, astuple(cache_format)),
        teacher.network.with_class_maps,
        kind(views.device),
    ]
    return cache / "knowledge" / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def open_teacher_cache(
    teacher: Teacher,
    views: ImageLoader,
    view: FixedView,
    cache_format: CacheFormat,
    path: Path,
    report: Report,
    fresh: bool = False,
) -> TeacherCache:
    """Open the cached view in the folder `path`; build it by running the teacher over the view if there is none.

    `fresh` builds it in any case. `report` is called after each batch of a build. `CorruptCache` if files have changed
    since they were written, `NonFiniteAnswers` if the teacher's outputs are not finite.
    """
    exists = path.exists() and not fresh
    with nullcontext() if exists else distributed.primary_lock(path, waiting=lambda: log.info(WAITING, path)):
        if distributed.any_rank(distributed.is_primary() and (fresh or not path.exists()))[0]:
            _build(teacher, views, view, cache_format, path, report)
    distributed.barrier()
    return _open(path, cache_format.dtype)


def _open(path: Path, dtype: torch.dtype) -> TeacherCache:
    files: dict[str, dict[str, Any]] = json_file.read_sealed(path / INDEX)
    tensors = {name: _mapped(path / f"{name}.bin", dtype, **facts) for name, facts in files.items()}
    maps, means = (tuple(t for name, t in tensors.items() if name.startswith(kind)) for kind in ("map.", "mean."))
    return TeacherCache(maps, tensors["logits"], tensors["embedding"], means, tensors.get("class_maps"))


def _mapped(path: Path, dtype: torch.dtype, shape: list[int], sha256: str) -> Tensor:
    expected, actual = math.prod(shape) * dtype.itemsize, path.stat().st_size
    if actual != expected:
        raise CorruptCache(f"{path}: {actual:,} bytes instead of {expected:,}; delete {path.parent} to have it rebuilt")
    if hashing.sha256(path) != sha256:
        raise CorruptCache(f"{path}: damaged, its sha256 is not {sha256}; delete {path.parent} to have it rebuilt")
    return torch.from_file(str(path), shared=False, size=math.prod(shape), dtype=dtype).view(shape)


def _build(
    teacher: Teacher, views: ImageLoader, view: FixedView, cache_format: CacheFormat, path: Path, report: Report
) -> None:
    """Build into a temporary folder, then rename it: a killed build leaves nothing that looks complete."""
    rows = _outputs(teacher, views, view, cache_format)
    if not distributed.is_primary():
        for _ in rows:  # this rank computes its part of them
            pass
        return
    for leftover in path.parent.glob(f".{path.name}.*/"):  # of killed builds: this one holds the lock
        shutil.rmtree(leftover, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        new, old = staging / "new", staging / "old"
        new.mkdir()
        json_file.write_sealed(new / INDEX, _write(rows, new, len(views.labels), report))
        if path.exists():
            path.rename(old)
        new.rename(path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@torch.inference_mode()
def _outputs(
    teacher: Teacher, views: ImageLoader, view: FixedView, cache_format: CacheFormat
) -> Iterator[dict[str, Tensor]]:
    """Yield the arrays of each batch on the CPU; ranks share the batches, and all of them get all arrays.

    `NonFiniteAnswers` at the end if any value is not finite, be it only for exceeding the range of float16.
    """
    wrong = total = 0
    for batch, own in views.iter_sharded(view.windows, views.recipe.batch_size):
        with autocast(batch.images.device, cache_format.precision):
            output = teacher.network(batch.images)
        arrays = to_arrays(output, means=cache_format.means)
        gathered = {
            name: torch.cat(distributed.all_gather_uneven(rows if own else rows[:0])) for name, rows in arrays.items()
        }
        rows = {name: part.to("cpu", cache_format.dtype).contiguous() for name, part in gathered.items()}
        wrong += int((~finite(rows.values())).sum())
        total += len(rows["logits"])
        yield rows
    how = "" if cache_format.dtype == torch.float32 else f", stored as {str(cache_format.dtype).removeprefix('torch.')}"
    refuse_non_finite(wrong, total, f"teacher {teacher.name}{how}: ")


def _write(rows: Iterable[dict[str, Tensor]], target: Path, images: int, report: Report) -> dict[str, Any]:
    """Append the rows of each batch to one file per array; return the shape and sha256 of each file."""
    done, shapes = 0, {}
    hashes: dict[str, Any] = {}
    for batch in rows:
        done += len(batch["logits"])
        for name, values in batch.items():
            shapes[name] = [done, *values.shape[1:]]
            data = values.numpy().tobytes()
            hashes.setdefault(name, hashlib.sha256()).update(data)
            with (target / f"{name}.bin").open("ab") as file:
                file.write(data)
        report(done, images)
    return {name: {"shape": shape, "sha256": hashes[name].hexdigest()} for name, shape in shapes.items()}
