"""What teaches: a network that sees each batch, or what it said of fixed views before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from rich.console import Console

from dctkd_zoo import teacher_cache
from dctkd_zoo._io.paths import cache_home
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.loader import CropParams, ImageLoader
from dctkd_zoo.device import autocast
from dctkd_zoo.features import FeatureExtractor, Output
from dctkd_zoo.teacher_cache import CacheFormat, FixedView, TeacherCache
from dctkd_zoo.teachers import Teacher

TeacherFn = Callable[[Batch], Output]

HALF = torch.float16  # of a cached teacher's maps, logits and embeddings: 11 bits


class TeacherSource(Protocol):
    """A teacher for an epoch: the views it can speak of (None: any), and what it says of a batch of them."""

    def epoch(self, number: int) -> tuple[CropParams | None, TeacherFn]:
        """Windows and outputs of epoch `number`, from 0."""
        ...


@dataclass(frozen=True)
class OnlineTeacher:
    """The network itself, run on every batch.

    Where no term needs whole `features` they are reduced to what the terms do read before the student runs, which
    frees their memory for it.
    """

    network: FeatureExtractor
    precision: torch.dtype
    features: bool = True

    def epoch(self, number: int) -> tuple[CropParams | None, TeacherFn]:
        """Any views; the network's outputs."""
        return None, self.teach

    @torch.no_grad()
    def teach(self, batch: Batch) -> Output:
        """Run the network on the batch."""
        with autocast(batch.images.device, self.precision):
            output: Output = self.network(batch.images)
            return output if self.features else teacher_cache.compact(output)


@dataclass(frozen=True)
class CachedTeacher:
    """Fixed views in turn, one an epoch, and what the network said of them."""

    views: tuple[FixedView, ...]
    known: tuple[TeacherCache, ...]

    def epoch(self, number: int) -> tuple[CropParams | None, TeacherFn]:
        """The windows of the epoch's view, and its kept outputs."""
        index = number % len(self.views)
        return self.views[index].windows, self.known[index].output


def cached(teacher: Teacher, views: ImageLoader, count: int, precision: torch.dtype, console: Console) -> CachedTeacher:
    """The teacher's knowledge of `count` views of each training image; what is not on disk yet is made now."""
    fixed = tuple(FixedView(f"fixed {number}", views.fixed(number)) for number in range(count))
    kept = CacheFormat(precision, HALF)
    places = [teacher_cache.folder(teacher, views, view, kept, cache_home()) for view in fixed]
    missing = sum(not path.exists() for path in places)
    if missing:
        batch = next(views.iter_ordered(fixed[0].windows, 1))
        with torch.no_grad():
            bytes_each = teacher_cache.size(teacher.network(batch.images), len(views.labels), kept)
        console.print(
            f"teacher cache: {missing} of {count} views of {len(views.labels):,} images to be made, "
            f"{missing * bytes_each / 2**20:,.1f} MiB in {places[0].parent}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    known = []
    for number, (view, path) in enumerate(zip(fixed, places, strict=True), start=1):
        with console.status(f"view {number} of {count}") as status:

            def report(done: int, total: int, number: int = number) -> None:
                status.update(f"view {number} of {count}: {done:,} of {total:,} images")

            known.append(teacher_cache.open_teacher_cache(teacher, views, view, kept, path, report))
    return CachedTeacher(fixed, tuple(known))
