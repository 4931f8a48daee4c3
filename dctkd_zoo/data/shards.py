"""Some images at a time to a pair of files: their pixels, and what is known of them, sealed. Each is made once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dctkd_zoo import distributed
from dctkd_zoo._io import atomic, json_file, lock
from dctkd_zoo._io.hashing import sha256
from dctkd_zoo.errors import Busy, CorruptCache, ZooError
from dctkd_zoo.spec import Recipe

log = logging.getLogger(__name__)

SIZE = 2**28  # bytes of a shard whose images are all square; 3:4 takes a third more


@dataclass(frozen=True)
class Shard:
    """The images `images` of a split in `<place>.bin`, uint8 (H, W, 3) back to back, and `<place>.json`."""

    place: Path
    images: range

    @property
    def pixels(self) -> Path:
        """The file of pixels."""
        return self.place.with_name(f"{self.place.name}.bin")

    @property
    def facts(self) -> Path:
        """The file that is written last: a shard without it is none."""
        return self.place.with_name(f"{self.place.name}.json")


@dataclass(frozen=True)
class Facts:
    """Sides in px of a shard's images, zero where one failed; which did, and why; and the sha256 of all pixels."""

    heights: Sequence[int]
    widths: Sequence[int]
    failed: Sequence[str]
    sha256: str

    @property
    def bytes(self) -> int:
        """Size of the pixels."""
        return 3 * sum(height * width for height, width in zip(self.heights, self.widths, strict=True))


Write = Callable[[Shard, Path], Facts]  # a shard's pixels to a path


def layout(folder: Path, count: int, recipe: Recipe) -> list[Shard]:
    """The shards of `count` images: as many in each as fill `SIZE` if they are square, so small sets have one."""
    item = max(1, SIZE // (3 * (recipe.resize + 2 * recipe.pad) ** 2))
    return [
        Shard(folder / f"{number:05d}", range(start, min(start + item, count)))
        for number, start in enumerate(range(0, count, item))
    ]


def complete(folder: Path, shards: Sequence[Shard], write: Write) -> list[Facts]:
    """Verify all shards, and make those that are missing or damaged; other processes may do the same beside.

    Each takes the shards that nobody else is making, then waits for the rest. Of several ranks each verifies its
    share. `ZooError` where the folder cannot be written to; finished shards stay.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # reading and hashing release the interpreter's lock
        result: dict[int, Facts] = dict(_whole(pool, shards))
    for wait in (False, True):
        for number, shard in enumerate(shards):
            if number not in result:
                with suppress(Busy), _writing(folder), lock.held(shard.place, wait=wait):
                    result[number] = _read_or_make(shard, write)
    distributed.barrier()  # until all have been verified
    return [result[number] for number in range(len(shards))]


def read(shard: Shard, *, verify: bool = True) -> Facts:
    """What is known of a shard; `FileNotFoundError` where there is none, `CorruptCache` where its bytes are not its.

    Without `verify` their number alone is looked at.
    """
    facts = Facts(**json_file.read_sealed(shard.facts))
    result = shard.pixels.stat().st_size
    if result != facts.bytes:
        raise CorruptCache(f"{shard.pixels} is damaged: {result:,} bytes where {facts.bytes:,} are due")
    if verify and sha256(shard.pixels) != facts.sha256:
        raise CorruptCache(f"{shard.pixels} is damaged: its bytes do not match their sha256")
    return facts


def _whole(pool: ThreadPoolExecutor, shards: Sequence[Shard]) -> Iterator[tuple[int, Facts]]:
    def look(number: int, shard: Shard) -> Facts | None:
        try:
            return read(shard, verify=number % distributed.world_size() == distributed.rank())
        except (OSError, CorruptCache):  # looked at again by the holder of its lock
            return None

    for number, facts in enumerate(pool.map(look, range(len(shards)), shards)):
        if facts is not None:
            yield number, facts


def _read_or_make(shard: Shard, write: Write) -> Facts:
    """For the holder of the shard's lock: another process may have made it since it was looked at."""
    try:
        return read(shard)
    except FileNotFoundError:
        pass
    except CorruptCache as error:
        log.warning("%s: making it anew from the images", error)
    for left in shard.place.parent.glob(f".*.{shard.place.name}.*"):  # by a process that was killed
        left.unlink(missing_ok=True)
    with atomic.replacing(shard.pixels) as path:
        facts = write(shard, path)
    json_file.write_sealed(shard.facts, asdict(facts))
    return facts


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ZooError(
            f"{folder}: the pixel store cannot be written: {error}. Finished shards are kept; make room there, "
            "or set DCTKD_ZOO_HOME to a folder that has it and can be written to"
        ) from error
