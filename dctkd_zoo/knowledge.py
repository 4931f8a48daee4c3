"""A teacher's outputs for fixed views of a split, kept in mapped files: what it knows, without its network."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dctkd_zoo.attention import activation_map
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.views import Views, Windows
from dctkd_zoo.device import autocast
from dctkd_zoo.errors import CorruptCache
from dctkd_zoo.features import Output
from dctkd_zoo.teachers import Teacher

FORMAT = 1  # raise when the files' layout or the way to their content changes

Report = Callable[[int, int], None]  # images done, of how many


@dataclass(frozen=True)
class View:
    """One view of every image: where it is cropped and whether it is mirrored, and what tells it from others."""

    name: str
    windows: Windows


@dataclass(frozen=True)
class Knowledge:
    """Of one view of N images: roots of the activation maps (N, H, W) per level, logits (N, K), embedding (N, D).

    The maps stand for features of one channel: the mean of their squares is the activation map again,
    so every term that reads maps, logits or embeddings takes an `Output` from here for the teacher's own.
    """

    maps: tuple[Tensor, ...]
    logits: Tensor
    embedding: Tensor

    def output(self, batch: Batch) -> Output:
        """What the teacher makes of this view of the batch's images, in float32, on their device."""
        ids = batch.ids.cpu()
        maps, logits, embedding = (
            tuple(tensor[ids].to(batch.images.device, torch.float32) for tensor in tensors)
            for tensors in (self.maps, (self.logits,), (self.embedding,))
        )
        return Output(logits[0], tuple(m[:, None] for m in maps), embedding[0])


def parts(output: Output) -> dict[str, Tensor]:
    """An output as it is kept: `map.1` (B, H, W) from the shallowest level on, `logits`, `embedding`."""
    roots = {f"map.{level}": m[:, 0] for level, m in enumerate(reduced(output).maps, start=1)}
    return {**roots, "logits": output.logits, "embedding": output.embedding}


def reduced(output: Output) -> Output:
    """The output with features of one channel in place of many, of the same activation maps."""
    roots = tuple(activation_map(m).sqrt()[:, None] for m in output.maps)
    return Output(output.logits, roots, output.embedding)


def size(output: Output, images: int, dtype: torch.dtype) -> int:
    """Bytes that one view of so many images takes on disk; `output` shows the shapes."""
    return sum(math.prod(part.shape[1:]) for part in parts(output).values()) * images * dtype.itemsize


def folder(teacher: Teacher, views: Views, view: View, precision: torch.dtype, dtype: torch.dtype, cache: Path) -> Path:
    """Where the knowledge of a view lies: another teacher, other bytes, another crop or precision, another place."""
    recipe, dataset = views.recipe, views.dataset
    seen = [recipe.resize, recipe.pad, recipe.pad_mode, recipe.crop, recipe.flip, dataset.mean, dataset.std]
    facts = [FORMAT, teacher.weights.sha256, views.store.digest, seen, view.name, str(precision), str(dtype)]
    return cache / "knowledge" / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def open_knowledge(
    teacher: Teacher, views: Views, view: View, precision: torch.dtype, dtype: torch.dtype, place: Path, report: Report
) -> Knowledge:
    """The knowledge in the folder `place`, made by running the teacher over the view where there is none.

    `report` hears of a run after each batch.

    `dtype` is what is kept, float16 for training. `CorruptCache` where files are not of their size.
    """
    if not place.exists():
        _build(teacher, views, view, precision, dtype, place, report)
    return _open(place, dtype)


def _open(place: Path, dtype: torch.dtype) -> Knowledge:
    shapes: dict[str, list[int]] = json.loads((place / "shapes.json").read_text())
    tensors = {name: _mapped(place / f"{name}.bin", shape, dtype) for name, shape in shapes.items()}
    logits, embedding = tensors.pop("logits"), tensors.pop("embedding")
    return Knowledge(tuple(tensors.values()), logits, embedding)


def _mapped(path: Path, shape: list[int], dtype: torch.dtype) -> Tensor:
    due, found = math.prod(shape) * dtype.itemsize, path.stat().st_size
    if found != due:
        raise CorruptCache(f"{path}: {found:,} bytes where {due:,} are due; delete {path.parent} to have it made anew")
    return torch.from_file(str(path), shared=False, size=math.prod(shape), dtype=dtype).view(shape)


def _build(
    teacher: Teacher, views: Views, view: View, precision: torch.dtype, dtype: torch.dtype, place: Path, report: Report
) -> None:
    """Write beside its place, then rename: a build that is killed leaves nothing that looks whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        shapes = _write(_outputs(teacher, views, view, precision), beside, dtype, len(views.labels), report)
        (beside / "shapes.json").write_text(json.dumps(shapes))
        try:
            beside.rename(place)
        except OSError:
            if not place.exists():  # else another process made the same meanwhile
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@torch.inference_mode()
def _outputs(teacher: Teacher, views: Views, view: View, precision: torch.dtype) -> Iterator[Output]:
    for batch in views.walk(view.windows, views.recipe.batch_size):
        with autocast(batch.images.device, precision):
            yield teacher.network(batch.images)


def _write(
    outputs: Iterable[Output], beside: Path, dtype: torch.dtype, images: int, report: Report
) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}
    done = 0
    for output in outputs:
        for name, part in parts(output).items():
            kept = part.to("cpu", dtype).contiguous()
            shapes[name] = [images, *kept.shape[1:]]
            with (beside / f"{name}.bin").open("ab") as file:
                file.write(kept.numpy().tobytes())
        done += len(output.logits)
        report(done, images)
    return shapes
