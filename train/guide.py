"""What teaches: a network that sees each batch, or what it said of fixed views before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from rich.console import Console

from dctkd_zoo import knowledge
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.views import Views, Windows
from dctkd_zoo.device import autocast
from dctkd_zoo.features import Output, Tapped
from dctkd_zoo.home import cache_home
from dctkd_zoo.knowledge import Kept, Knowledge, View
from dctkd_zoo.teachers import Teacher

Teach = Callable[[Batch], Output]

HALF = torch.float16  # of a cached teacher's maps, logits and embeddings: 11 bits


class Guide(Protocol):
    """A teacher for an epoch: the views it can speak of (None: any), and what it says of a batch of them."""

    def epoch(self, number: int) -> tuple[Windows | None, Teach]:
        """Windows and outputs of epoch `number`, from 0."""
        ...


@dataclass(frozen=True)
class Live:
    """The network itself, run on every batch.

    Where no term needs whole `features` they are reduced to what the terms do read before the student runs, which
    frees their memory for it.
    """

    network: Tapped
    precision: torch.dtype
    features: bool = True

    def epoch(self, number: int) -> tuple[Windows | None, Teach]:
        """Any views; the network's outputs."""
        return None, self.teach

    @torch.no_grad()
    def teach(self, batch: Batch) -> Output:
        """Run the network on the batch."""
        with autocast(batch.images.device, self.precision):
            output: Output = self.network(batch.images)
            return output if self.features else knowledge.reduced(output)


@dataclass(frozen=True)
class Cached:
    """Fixed views in turn, one an epoch, and what the network said of them."""

    views: tuple[View, ...]
    known: tuple[Knowledge, ...]

    def epoch(self, number: int) -> tuple[Windows | None, Teach]:
        """The windows of the epoch's view, and its kept outputs."""
        index = number % len(self.views)
        return self.views[index].windows, self.known[index].output


def cached(teacher: Teacher, views: Views, count: int, precision: torch.dtype, console: Console) -> Cached:
    """The teacher's knowledge of `count` views of each training image; what is not on disk yet is made now."""
    fixed = tuple(View(f"fixed {number}", views.fixed(number)) for number in range(count))
    kept = Kept(precision, HALF)
    places = [knowledge.folder(teacher, views, view, kept, cache_home()) for view in fixed]
    missing = sum(not place.exists() for place in places)
    if missing:
        batch = next(views.walk(fixed[0].windows, 1))
        with torch.no_grad():
            bytes_each = knowledge.size(teacher.network(batch.images), len(views.labels), kept)
        console.print(
            f"teacher cache: {missing} of {count} views of {len(views.labels):,} images to be made, "
            f"{missing * bytes_each / 2**20:,.1f} MiB in {places[0].parent}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    known = []
    for number, (view, place) in enumerate(zip(fixed, places, strict=True), start=1):
        with console.status(f"view {number} of {count}") as status:

            def report(done: int, total: int, number: int = number) -> None:
                status.update(f"view {number} of {count}: {done:,} of {total:,} images")

            known.append(knowledge.open_knowledge(teacher, views, view, kept, place, report))
    return Cached(fixed, tuple(known))
