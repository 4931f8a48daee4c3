"""Teachers during training: a network that runs on each batch, or its cached outputs for fixed views."""

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

HALF = torch.float16  # dtype of cached maps, logits and embeddings: 11 significant bits


class TeacherSource(Protocol):
    """Source of teacher outputs: which crops an epoch uses (None: any), and the teacher's output for a batch."""

    def epoch(self, number: int) -> tuple[CropParams | None, TeacherFn]:
        """Return the crops of epoch `number`, counted from 0, and a function from batch to teacher output."""
        ...


@dataclass(frozen=True)
class OnlineTeacher:
    """A teacher that runs on every batch.

    If no term reads whole `features`, they are reduced to activation maps before the student runs, to free memory.
    """

    network: FeatureExtractor
    precision: torch.dtype
    features: bool = True

    def epoch(self, number: int) -> tuple[CropParams | None, TeacherFn]:
        """Return no crops, as any will do, and the function that runs the network."""
        return None, self.run

    @torch.no_grad()
    def run(self, batch: Batch) -> Output:
        """Run the network on the batch."""
        with autocast(batch.images.device, self.precision):
            output: Output = self.network(batch.images)
            return output if self.features else teacher_cache.compact(output)


@dataclass(frozen=True)
class CachedTeacher:
    """Fixed views, one per epoch in turn, and the teacher's cached outputs for them."""

    views: tuple[FixedView, ...]
    caches: tuple[TeacherCache, ...]

    def epoch(self, number: int) -> tuple[CropParams | None, TeacherFn]:
        """Return the crops of the epoch's view, and the function that reads its cached outputs."""
        index = number % len(self.views)
        return self.views[index].windows, self.caches[index].output


def cached(teacher: Teacher, views: ImageLoader, count: int, precision: torch.dtype, console: Console) -> CachedTeacher:
    """Return the teacher's outputs for `count` fixed views of each training image, computing those not yet cached."""
    fixed = tuple(FixedView(f"fixed {number}", views.fixed(number)) for number in range(count))
    cache_format = CacheFormat(precision, HALF)
    folders = [teacher_cache.folder(teacher, views, view, cache_format, cache_home()) for view in fixed]
    missing = sum(not path.exists() for path in folders)
    if missing:
        batch = next(views.iter_ordered(fixed[0].windows, 1))
        with torch.no_grad():
            bytes_per_view = teacher_cache.size(teacher.network(batch.images), len(views.labels), cache_format)
        console.print(
            f"teacher cache: computing {missing} of {count} views of {len(views.labels):,} images, "
            f"{missing * bytes_per_view / 2**20:,.1f} MiB in {folders[0].parent}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    caches = []
    for number, (view, path) in enumerate(zip(fixed, folders, strict=True), start=1):
        with console.status(f"view {number} of {count}") as status:

            def report(done: int, total: int, number: int = number) -> None:
                status.update(f"view {number} of {count}: {done:,} of {total:,} images")

            caches.append(teacher_cache.open_teacher_cache(teacher, views, view, cache_format, path, report))
    return CachedTeacher(fixed, tuple(caches))
