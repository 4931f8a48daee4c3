"""A split to a pixel store: every image decoded and resized once, kept as uint8 in one mapped file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from dctkd_zoo import atomic
from dctkd_zoo.data.console import progress_options
from dctkd_zoo.data.content import prints
from dctkd_zoo.data.split import Split, digest
from dctkd_zoo.spec import Recipe

FORMAT = 1  # raise when the file's layout or the way to its pixels changes


@dataclass(frozen=True)
class Store:
    """Resized images of a split, back to back in `pixels` (uint8, H W 3 each), which is mapped, not read.

    Image i starts at `offsets[i]` and is `heights[i]` x `widths[i]` px. `failed` names the
    images that did not decode, with the reason; their height is zero. `digest` is the split's.
    """

    pixels: Tensor
    offsets: Tensor
    heights: Tensor
    widths: Tensor
    failed: tuple[str, ...]
    digest: str


def resized(split: Split, index: int, recipe: Recipe) -> NDArray[np.uint8]:
    """One image as a recipe stores it, uint8 (H, W, 3): Pillow's bilinear resize of the short side, then padding."""
    image = F.resize(split.images.load(index), [recipe.resize], InterpolationMode.BILINEAR)
    if recipe.pad:
        image = F.pad(image, [recipe.pad], padding_mode=recipe.pad_mode)
    return np.asarray(image)


def open_store(split: Split, recipe: Recipe, cache: Path) -> Store:
    """The store of a split under a recipe's resize and padding; built in `cache` on first use, then reused."""
    content = digest(split, prints(split))
    folder = cache / "stores" / _key(content, recipe)
    if not folder.exists():
        _build(split, recipe, folder)
    return _open(folder, content)


def resident(store: Store, device: torch.device) -> Store:
    """The store with its pixels in the GPU's own memory, where a third of what is free there holds them."""
    if device.type != "cuda" or len(store.pixels) > torch.cuda.mem_get_info(device)[0] // 3:
        return store
    return replace(store, pixels=store.pixels.to(device))


def _key(content: str, recipe: Recipe) -> str:
    facts = json.dumps([FORMAT, content, recipe.resize, recipe.pad, recipe.pad_mode])
    return hashlib.sha256(facts.encode()).hexdigest()[:32]


def _open(folder: Path, content: str) -> Store:
    index = torch.from_numpy(np.load(folder / "index.npy", allow_pickle=False))
    failed = tuple(json.loads((folder / "failed.json").read_text()))
    path = folder / "pixels.bin"
    pixels = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
    offsets, heights, widths = index.unbind(dim=1)
    return Store(pixels, offsets, heights, widths, failed, content)


def _build(split: Split, recipe: Recipe, folder: Path) -> None:
    """Write the store beside its place, then rename: a build that is killed leaves nothing that looks whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        index, failed = _write_pixels(split, recipe, beside / "pixels.bin")
        with atomic.replacing(beside / "index.npy") as temporary:
            np.save(temporary, index)
        atomic.write_text(beside / "failed.json", json.dumps(failed))
        try:
            beside.rename(folder)
        except OSError:
            if not folder.exists():  # else another process built the same store meanwhile
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_pixels(split: Split, recipe: Recipe, path: Path) -> tuple[NDArray[np.int64], list[str]]:
    index = np.zeros((len(split), 3), dtype=np.int64)
    failed: list[str] = []
    offset = 0
    with path.open("wb") as file:
        arrays = track(_decoded(split, recipe), "resizing", total=len(split), **progress_options())
        for i, array in enumerate(arrays):
            if isinstance(array, OSError):
                failed.append(f"{split.ids[i]}: {array}")
                array = np.zeros((0, 0, 3), dtype=np.uint8)
            index[i] = (offset, *array.shape[:2])
            file.write(array.tobytes())
            offset += array.size
        file.flush()
        os.fsync(file.fileno())
    return index, failed


def _decoded(split: Split, recipe: Recipe) -> Iterator[NDArray[np.uint8] | OSError]:
    """Resized images in order, decoded by one thread per core (Pillow releases the GIL), a bounded number ahead."""

    def one(index: int) -> NDArray[np.uint8] | OSError:
        try:
            return resized(split, index, recipe)
        except OSError as error:
            return error

    workers = os.cpu_count() or 1
    ahead: deque[Future[NDArray[np.uint8] | OSError]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for index in range(len(split)):
            ahead.append(pool.submit(one, index))
            if len(ahead) > 16 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
