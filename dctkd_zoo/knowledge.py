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

from dctkd_zoo import digest, ranks, sealed, teachers
from dctkd_zoo.attention import activation_map
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.views import Views, Windows
from dctkd_zoo.device import autocast, kind
from dctkd_zoo.errors import CorruptCache
from dctkd_zoo.features import Output, finite, refuse_non_finite
from dctkd_zoo.teachers import Teacher

WAITING = "waiting for another process that makes %s"
INDEX = "index.json"
CODE = ("*.py", "data/**/*.py")  # of this package: all that an image passes on its way to an output
LIBRARIES = ("torch", "torchvision", "timm")

log = logging.getLogger(__name__)

Report = Callable[[int, int], None]  # images done, of how many


@dataclass(frozen=True)
class View:
    """One view of every image: where it is cropped and whether it is mirrored, and what tells it from others."""

    name: str
    windows: Windows


@dataclass(frozen=True)
class Kept:
    """How a teacher is run and what is kept of it: its precision, the files' dtype, and whether features' means too."""

    precision: torch.dtype
    dtype: torch.dtype
    means: bool = False


@dataclass(frozen=True)
class Knowledge:
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


def parts(output: Output, *, means: bool) -> dict[str, Tensor]:
    """An output as it is kept: `map.1` (B, H, W) and `mean.1` (B, C) on from the shallowest, `logits`, `embedding`."""
    roots = {f"map.{level}": m[:, 0] for level, m in enumerate(reduced(output).maps, start=1)}
    pooled = {f"mean.{level}": m for level, m in enumerate(output.pooled() if means else (), start=1)}
    return {**roots, **pooled, "logits": output.logits, "embedding": output.embedding}


def reduced(output: Output) -> Output:
    """The output with features of one channel in place of many, of the same activation maps."""
    roots = tuple(activation_map(m).sqrt()[:, None] for m in output.maps)
    return Output(output.logits, roots, output.embedding, output.means)


def size(output: Output, images: int, kept: Kept) -> int:
    """Bytes that one view of so many images takes on disk; `output` shows the shapes."""
    numbers = sum(math.prod(part.shape[1:]) for part in parts(output, means=kept.means).values())
    return numbers * images * kept.dtype.itemsize


@cache
def made_by() -> list[str]:
    """The code that turns images into outputs, as JSON can hold it: this package's, and the libraries' versions."""
    return [digest.of_files(Path(__file__).parent, CODE), *map(version, LIBRARIES)]


def folder(teacher: Teacher, views: Views, view: View, kept: Kept, cache: Path) -> Path:
    """Where the knowledge of a view lies: whatever changes what a teacher says of it changes the place.

    That is the teacher and its config, the images and how they are seen, precision, device and code.
    """
    told = teachers.facts(teacher.name, teacher.weights)
    facts = [made_by(), told, views.facts(), view.name, *map(str, astuple(kept)), kind(views.device)]
    return cache / "knowledge" / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def open_knowledge(
    teacher: Teacher, views: Views, view: View, kept: Kept, place: Path, report: Report, fresh: bool = False
) -> Knowledge:
    """The knowledge in the folder `place`, made by running the teacher over the view where there is none.

    If `fresh`, it is made in any case. `report` hears of a run after each batch. `CorruptCache` where files are not
    what was written, `NonFiniteAnswers` where the teacher's are no numbers to learn from.
    """
    there = place.exists() and not fresh
    with nullcontext() if there else ranks.alone(place, waiting=lambda: log.info(WAITING, place)):
        if ranks.any_of(ranks.leads() and (fresh or not place.exists()))[0]:
            _build(teacher, views, view, kept, place, report)
    ranks.wait()
    return _open(place, kept.dtype)


def _open(place: Path, dtype: torch.dtype) -> Knowledge:
    files: dict[str, dict[str, Any]] = sealed.read(place / INDEX)
    tensors = {name: _mapped(place / f"{name}.bin", dtype, **told) for name, told in files.items()}
    maps, means = (tuple(t for name, t in tensors.items() if name.startswith(kind)) for kind in ("map.", "mean."))
    return Knowledge(maps, tensors["logits"], tensors["embedding"], means)


def _mapped(path: Path, dtype: torch.dtype, shape: list[int], sha256: str) -> Tensor:
    due, found = math.prod(shape) * dtype.itemsize, path.stat().st_size
    if found != due:
        raise CorruptCache(f"{path}: {found:,} bytes where {due:,} are due; delete {path.parent} to have it made anew")
    if digest.sha256(path) != sha256:
        raise CorruptCache(f"{path}: damaged, its sha256 is not {sha256}; delete {path.parent} to have it made anew")
    return torch.from_file(str(path), shared=False, size=math.prod(shape), dtype=dtype).view(shape)


def _build(teacher: Teacher, views: Views, view: View, kept: Kept, place: Path, report: Report) -> None:
    """Write beside its place, then rename: a build that is killed leaves nothing that looks whole."""
    rows = _outputs(teacher, views, view, kept)
    if not ranks.leads():
        for _ in rows:  # a part of which this rank makes
            pass
        return
    for left in place.parent.glob(f".{place.name}.*/"):  # by one that was: the lock is ours
        shutil.rmtree(left, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        new, old = beside / "new", beside / "old"
        new.mkdir()
        sealed.write(new / INDEX, _write(rows, new, len(views.labels), report))
        if place.exists():
            place.rename(old)
        new.rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@torch.inference_mode()
def _outputs(teacher: Teacher, views: Views, view: View, kept: Kept) -> Iterator[dict[str, Tensor]]:
    """What is kept of each batch, on the CPU; of several ranks each runs some batches, and all have all of them.

    `NonFiniteAnswers` at the end, where any of it is no finite number: some that are lie above what float16 holds.
    """
    wrong = total = 0
    for batch, own in views.turns(view.windows, views.recipe.batch_size):
        with autocast(batch.images.device, kept.precision):
            output = teacher.network(batch.images)
        found = parts(output, means=kept.means)
        every = {name: torch.cat(ranks.parts(rows if own else rows[:0])) for name, rows in found.items()}
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
