"""Shards of the pixel cache: a file of pixels and a sealed file of facts for a range of images, each built once."""

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

SIZE = 2**28  # bytes of a shard of square images; 3:4 takes a third more


@dataclass(frozen=True)
class Shard:
    """The images `images` of a split in `<stem>.bin`, uint8 (H, W, 3) back to back, and `<stem>.json`."""

    stem: Path
    images: range

    @property
    def pixels(self) -> Path:
        """The file of pixels."""
        return self.stem.with_name(f"{self.stem.name}.bin")

    @property
    def facts(self) -> Path:
        """The file that is written last: a shard without it is incomplete."""
        return self.stem.with_name(f"{self.stem.name}.json")


@dataclass(frozen=True)
class Facts:
    """Sides in px of a shard's images, zero for failed ones, the failures, and the sha256 of all pixels."""

    heights: Sequence[int]
    widths: Sequence[int]
    failed: Sequence[str]
    sha256: str

    @property
    def bytes(self) -> int:
        """Size of the pixels."""
        return 3 * sum(height * width for height, width in zip(self.heights, self.widths, strict=True))


Write = Callable[[Shard, Path], Facts]  # writes a shard's pixels to a path


def layout(folder: Path, count: int, recipe: Recipe) -> list[Shard]:
    """Return the shards of `count` images: each has as many as fill `SIZE` if square, so small sets have one."""
    length = max(1, SIZE // (3 * (recipe.resize + 2 * recipe.pad) ** 2))
    return [
        Shard(folder / f"{number:05d}", range(start, min(start + length, count)))
        for number, start in enumerate(range(0, count, length))
    ]


def complete(folder: Path, shards: Sequence[Shard], write: Write) -> list[Facts]:
    """Verify all shards and build those that are missing or damaged; other processes may do so at the same time.

    Each builds the shards that no other process is building, then waits for the rest. With several ranks, each
    verifies its share. `ZooError` if the folder cannot be written to; finished shards stay.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # reading and hashing release the GIL
        result: dict[int, Facts] = dict(_whole(pool, shards))
    for wait in (False, True):
        for number, shard in enumerate(shards):
            if number not in result:
                with suppress(Busy), _writing(folder), lock.held(shard.stem, wait=wait):
                    result[number] = _read_or_build(shard, write)
    distributed.barrier()  # until all ranks have verified theirs
    return [result[number] for number in range(len(shards))]


def read(shard: Shard, *, verify: bool = True) -> Facts:
    """Read the facts of a shard; `FileNotFoundError` if there is none, `CorruptCache` if its pixels have changed.

    Without `verify`, only their size is checked.
    """
    facts = Facts(**json_file.read_sealed(shard.facts))
    size = shard.pixels.stat().st_size
    if size != facts.bytes:
        raise CorruptCache(f"{shard.pixels} is damaged: {size:,} bytes instead of {facts.bytes:,}")
    if verify and sha256(shard.pixels) != facts.sha256:
        raise CorruptCache(f"{shard.pixels} is damaged: its bytes do not match their sha256")
    return facts


def _whole(pool: ThreadPoolExecutor, shards: Sequence[Shard]) -> Iterator[tuple[int, Facts]]:
    def check(number: int, shard: Shard) -> Facts | None:
        try:
            return read(shard, verify=number % distributed.world_size() == distributed.rank())
        except (OSError, CorruptCache):  # checked again by the holder of its lock
            return None

    for number, facts in enumerate(pool.map(check, range(len(shards)), shards)):
        if facts is not None:
            yield number, facts


def _read_or_build(shard: Shard, write: Write) -> Facts:
    """Read or build a shard while holding its lock: another process may have built it since it was checked."""
    try:
        return read(shard)
    except FileNotFoundError:
        pass
    except CorruptCache as error:
        log.warning("%s: rebuilding it from the images", error)
    for leftover in shard.stem.parent.glob(f".*.{shard.stem.name}.*"):  # of a killed process
        leftover.unlink(missing_ok=True)
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
            f"{folder}: the pixel cache cannot be written: {error}. Finished shards are kept; free some space there, "
            "or set DCTKD_ZOO_HOME to a writable folder with enough space"
        ) from error
