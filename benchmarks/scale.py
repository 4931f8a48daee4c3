"""Pixel stores of a large set, from made images: `python -m benchmarks.scale --images 20000`, to `scale.json`.

JPEG files of 256 x 256 px, as Places365's small ones, are made in a temporary folder: built into stores by one process
and by two, verified, cropped with the shards in the page cache and out of it, walked through with less memory than
they take, and seen as a stream from tar shards without a store.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from benchmarks import report
from benchmarks.harness.setting import Setting, full, home
from dctkd_zoo import registry
from dctkd_zoo._io import atomic
from dctkd_zoo._io.paths import cache_home
from dctkd_zoo.data import shards
from dctkd_zoo.data.fingerprint import fingerprints
from dctkd_zoo.data.loader import ImageLoader, crop, random_crops
from dctkd_zoo.data.pixel_cache import PixelCache, open_pixel_cache
from dctkd_zoo.data.sources import wds
from dctkd_zoo.data.split import Files, Split
from eval.run import results_csv

FOUND = Path(__file__).with_name("scale.json")
SIDE, UNIQUE, QUALITY, NOISE = 256, 500, 75, 9.0  # noise so that a file has the 13 KB of Places365's
BATCH, BATCHES = 256, 40
TAR = 2_000  # images of a tar
LIMIT = 2**30  # bytes of memory that an epoch is given, page cache included
CGROUP = Path("/sys/fs/cgroup/memory/dctkd-scale")

RECIPE = replace(registry.get_entry("r18_places365").recipe, batch_size=BATCH)


def picture(seed: int) -> bytes:
    """A JPEG of colours that change smoothly, with noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    smooth = coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth) + rng.normal(0, NOISE, (SIDE, SIDE, 1))
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(data := io.BytesIO(), "JPEG", quality=QUALITY)
    return data.getvalue()


def make(folder: Path, count: int) -> int:
    """Write so many images into files and into tars, a few over and over; their bytes."""
    unique = [picture(seed) for seed in range(min(UNIQUE, count))]
    (folder / "files").mkdir()
    (folder / "tars").mkdir()
    for start in range(0, count, TAR):
        with tarfile.open(folder / "tars" / f"train-{start // TAR:05d}.tar", "w") as tar:
            for index in range(start, min(start + TAR, count)):
                data = unique[index % len(unique)]
                (folder / "files" / f"{index:08d}.jpg").write_bytes(data)
                for kind, content in (("jpg", data), ("cls", str(index % 365).encode())):
                    info = tarfile.TarInfo(f"{index:08d}.{kind}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return sum(len(unique[index % len(unique)]) for index in range(count))


def files(folder: Path) -> Split:
    """The images in files."""
    names = tuple(sorted(path.name for path in (folder / "files").iterdir()))
    return Split(tuple(map(str, range(365))), names, np.arange(len(names)) % 365, Files(folder / "files", names))


def views(store: PixelCache, split: Split) -> ImageLoader:
    """The images as training sees them."""
    return ImageLoader(
        store, torch.tensor(split.labels), RECIPE, registry.get_dataset("places365"), torch.device("cpu")
    )


def taking(work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def working(work: Callable[[], object]) -> float:
    """Seconds of processors that some work takes in this process: they do not depend on who else is here."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def built(folder: Path, cache: Path, processes: int) -> tuple[float, float]:
    """Seconds in which so many processes, all begun, build one store, and those of processors that they take."""
    context = multiprocessing.get_context("spawn")
    ready, took = context.Barrier(processes + 1), context.Queue()
    others = [context.Process(target=_build, args=(folder, cache, ready, took)) for _ in range(processes)]
    for other in others:
        other.start()
    ready.wait()
    seconds: list[float] = []
    whole = taking(lambda: seconds.extend(took.get() for _ in others))
    for other in others:
        other.join()
    return whole, sum(seconds)


def _build(folder: Path, cache: Path, ready: Any, took: Any) -> None:
    split = files(folder)
    fingerprints(split)
    ready.wait()
    took.put(working(lambda: open_pixel_cache(split, RECIPE, cache)))


def forget(cache: Path) -> None:
    """Have the operating system drop the pages of a store."""
    for path in cache.rglob("*.bin"):
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def verified(parts: list[shards.Shard], cache: Path) -> float:
    """Seconds in which all shards are read and compared with their sha256."""

    def never(shard: shards.Shard, path: Path) -> shards.Facts:
        raise AssertionError(shard)

    return taking(lambda: shards.complete(cache, parts, never))


def crops(store: PixelCache) -> float:
    """Images a second of random windows of random images."""
    windows = random_crops(store, RECIPE, torch.Generator().manual_seed(0))
    order = torch.randperm(len(store.heights), generator=torch.Generator().manual_seed(1))
    parts = order[: BATCH * BATCHES].split(BATCH)

    def work() -> None:
        for ids in parts:
            crop(store, ids, windows, RECIPE.crop)

    return sum(map(len, parts)) / taking(work)


def joined(cache: Path) -> torch.Tensor:
    """All shards as one mapped file."""
    whole = cache / "whole.bin"
    with whole.open("wb") as file:
        for path in sorted(cache.rglob("0*.bin")):
            file.write(path.read_bytes())
    return torch.from_file(str(whole), shared=False, size=whole.stat().st_size, dtype=torch.uint8)


def limited_epoch(folder: Path, cache: Path) -> dict[str, Any]:
    """An epoch of views in a process of its own, which has `LIMIT` of memory, page cache and all, where that can be."""
    context = multiprocessing.get_context("spawn")
    student, teacher = context.Pipe()
    try:
        CGROUP.mkdir()
        (CGROUP / "memory.limit_in_bytes").write_text(str(LIMIT))
        limit: int | None = LIMIT
    except OSError:
        limit = None
    try:
        other = context.Process(target=_epoch, args=(folder, cache, teacher, limit))
        other.start()
        teacher.close()  # so that its end is heard of
        result: dict[str, Any] = student.recv()
        other.join()
    finally:
        if limit:
            CGROUP.rmdir()
    return result | {"limit": limit}


def _epoch(folder: Path, cache: Path, told: Any, limit: int | None) -> None:
    split = files(folder)
    if limit:
        (CGROUP / "tasks").write_text(str(os.getpid()))
    batches = views(open_pixel_cache(split, RECIPE, cache), split).train(0, 0)
    begun, memory = time.perf_counter(), [_anonymous() for _ in batches]
    rate = len(split) / (time.perf_counter() - begun)
    told.send({"images_per_s": rate, "anonymous_fifth_step": memory[4], "anonymous_most": max(memory[4:])})


def _anonymous() -> int:
    """Bytes of this process that are no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def walk(live: ImageLoader) -> None:
    """An epoch of views."""
    for _ in live.train(0, 0):
        pass


def measure(folder: Path, count: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, in the order of the module's words."""
    say(f"making {count:,} images")
    encoded = make(folder, count)
    split = files(folder)
    result: dict[str, Any] = {"images": count, "encoded_bytes": encoded, "batch": BATCH, "limit": LIMIT}
    result["fingerprints_per_s"] = count / taking(lambda: fingerprints(split))
    for processes in (1, 2):
        say(f"building with {processes}")
        seconds, worked = built(folder, folder / f"cache{processes}", processes)
        result |= {f"built_per_s_{processes}": count / seconds, f"built_per_core_s_{processes}": count / worked}
    cache = folder / "cache1"
    parts = shards.layout(next((cache / "stores").iterdir()), count, RECIPE, kept=True)
    result |= {"shards": len(parts), "store_bytes": sum(part.pixels.stat().st_size for part in parts)}
    say("verifying and cropping")
    result["verified_warm_s"] = verified(parts, cache)
    result["verified_core_s"] = working(lambda: verified(parts, cache))
    forget(cache)
    result["verified_cold_s"] = verified(parts, cache)
    store = open_pixel_cache(split, RECIPE, cache)
    result["crops_per_s"] = crops(store)
    whole = joined(cache)
    result["crops_per_s_one_file"] = crops(replace(store, pixels=(whole,)))
    del whole, store
    (cache / "whole.bin").unlink()
    unread = open_pixel_cache(split, RECIPE, cache)
    forget(cache)
    result["crops_per_s_cold"] = crops(unread)
    say("an epoch in little memory")
    result["epoch"] = limited_epoch(folder, cache)
    say("streaming")
    stream = replace(wds.read(folder / "tars", "train"), streamed=True)
    result["indexed_per_s"] = count / taking(lambda: open_pixel_cache(stream, RECIPE, cache_home()))
    live = views(open_pixel_cache(stream, RECIPE, cache_home()), stream)
    begun = time.perf_counter()
    result["streamed_per_core_s"] = count / working(lambda: walk(live))
    result["streamed_per_s"] = count / (time.perf_counter() - begun)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--images", type=int, default=20_000, metavar="N", help="how many to make (20000)")
    parser.add_argument("--json", type=Path, default=FOUND, metavar="FILE", help=f"where to write ({FOUND.name})")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="scale.") as name, home(Path(name) / "home"):
        setting: Setting = full(Path(name), None)
        result = {"machine": report.machine(setting), **measure(Path(name), options.images, console.print)}
        result["load"] = os.getloadavg()[2]  # how many others there were, in the last quarter of an hour
    atomic.write_text(options.json, results_csv.as_json(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
