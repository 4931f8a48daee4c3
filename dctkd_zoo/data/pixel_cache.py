"""Pixel cache of a split: every image decoded and resized once, as uint8 in memory-mapped files."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from torch import Tensor

from dctkd_zoo.data import shards
from dctkd_zoo.data.filelist import brief
from dctkd_zoo.data.files import unreadable
from dctkd_zoo.data.fingerprint import fingerprints, verified
from dctkd_zoo.data.progress import progress_options
from dctkd_zoo.data.shards import Facts, Shard
from dctkd_zoo.data.split import Split, digest
from dctkd_zoo.errors import Undecodable
from dctkd_zoo.spec import Recipe

FORMAT = 4  # increase when the layout of the files or the computation of the pixels changes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PixelCache:
    """Resized images of a split, back to back in `pixels` (uint8, H W 3 each), memory-mapped.

    `pixels` is one sequence of bytes in pieces, and no image spans two of them. Image i starts at `offsets[i]` of the
    whole sequence and is `heights[i]` x `widths[i]` px. `failed` names the images that did not decode, with the reason;
    their height is zero. `digest` is the split's.
    """

    pixels: tuple[Tensor, ...]
    offsets: Tensor
    heights: Tensor
    widths: Tensor
    failed: tuple[str, ...]
    digest: str


def resized(image: Image.Image, recipe: Recipe) -> NDArray[np.uint8]:
    """Resize the short side of an image (Pillow, bilinear) and pad it, as a recipe stores it: uint8 (H, W, 3)."""
    from torchvision.transforms import InterpolationMode  # here, since importing it takes seconds
    from torchvision.transforms import functional as F

    image = F.resize(image, [recipe.resize], InterpolationMode.BILINEAR)
    if recipe.pad:
        image = F.pad(image, [recipe.pad], padding_mode=recipe.pad_mode)
    return np.asarray(image)


def open_pixel_cache(split: Split, recipe: Recipe, cache: Path) -> PixelCache:
    """Open the pixel cache of a split for a recipe's resize and padding; built below `cache` on first use, then reused.

    Its bytes are compared with their sha256 each time, those of an image when it is decoded: an image that cannot be
    read, or has changed since it was hashed, ends the build with a `DatasetError`. Several processes may build one
    pixel cache at once, each its part; `ZooError` if it cannot be written.
    """
    known = fingerprints(split)
    content = digest(split, known)
    folder = cache / "stores" / _key(content, recipe)
    parts = shards.layout(folder, len(split), recipe)
    facts = shards.complete(folder, parts, lambda shard, path: _write(split, known, recipe, shard, path))
    heights = torch.tensor([height for f in facts for height in f.heights], dtype=torch.int64)
    widths = torch.tensor([width for f in facts for width in f.widths], dtype=torch.int64)
    failed = tuple(name for f in facts for name in f.failed)
    lengths = 3 * heights * widths
    pixels = tuple(_mapped(shard.pixels, f.bytes) for shard, f in zip(parts, facts, strict=True))
    return PixelCache(pixels, lengths.cumsum(0) - lengths, heights, widths, failed, content)


def resident(pixel_cache: PixelCache, device: torch.device) -> PixelCache:
    """Move the pixels into GPU memory if they fit into a third of what is free there."""
    if device.type != "cuda" or sum(map(len, pixel_cache.pixels)) > torch.cuda.mem_get_info(device)[0] // 3:
        return pixel_cache
    return replace(pixel_cache, pixels=(joined(pixel_cache.pixels, device),))


def joined(pixels: Sequence[Tensor], device: torch.device) -> Tensor:
    """Return all pieces as one tensor on a device, each copied once."""
    whole = torch.empty(sum(map(len, pixels)), dtype=torch.uint8, device=device)
    for part, piece in zip(whole.split([len(piece) for piece in pixels]), pixels, strict=True):
        part.copy_(piece)
    return whole


def _key(content: str, recipe: Recipe) -> str:
    facts = json.dumps([FORMAT, content, recipe.resize, recipe.pad, recipe.pad_mode])
    return hashlib.sha256(facts.encode()).hexdigest()[:32]


def _mapped(path: Path, size: int) -> Tensor:
    return torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)


@dataclass(frozen=True)
class _Decoded:
    """A resized image and notes on it, or, without pixels, why it did not decode."""

    pixels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()
    failed: str = ""


def _write(split: Split, known: Sequence[str], recipe: Recipe, shard: Shard, path: Path) -> Facts:
    """Write the resized images of a shard, whose hashes are `known`, to the file `path`."""
    heights: list[int] = []
    widths: list[int] = []
    failed: list[str] = []
    noted: defaultdict[str, list[str]] = defaultdict(list)
    hasher = hashlib.sha256()
    with path.open("wb") as file:
        task = f"resizing, images from {shard.images.start:,} of {len(split):,}"
        images = _decoded(split, known, recipe, shard.images)
        for index, image in zip(
            shard.images, track(images, task, total=len(shard.images), **progress_options()), strict=True
        ):
            if image.failed:
                failed.append(f"{split.ids[index]}: {image.failed}")
            for note in image.notes:
                noted[note].append(split.ids[index])
            heights.append(image.pixels.shape[0])
            widths.append(image.pixels.shape[1])
            pixels = image.pixels.tobytes()
            hasher.update(pixels)
            file.write(pixels)
    for note, names in noted.items():
        log.info("%s %s: %s", f"{len(names):,} image{'s' * (len(names) > 1)}", note, brief(names))
    return Facts(heights, widths, failed, hasher.hexdigest())


def _decoded(split: Split, known: Sequence[str], recipe: Recipe, indices: Iterable[int]) -> Iterator[_Decoded]:
    """Yield resized images in order, decoded by a thread per core (Pillow releases the GIL), a bounded number ahead."""

    def one(index: int) -> _Decoded:
        try:
            picture = split.images.picture(index, verified(split, index, known[index]))
            return _Decoded(resized(picture.image, recipe), picture.notes)
        except Undecodable as error:
            return _Decoded(np.zeros((0, 0, 3), np.uint8), failed=str(error))
        except (OSError, MemoryError) as error:  # the image may be fine, so the build ends
            raise unreadable(split.ids[index], error) from error

    workers = os.cpu_count() or 1
    ahead: deque[Future[_Decoded]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for index in indices:
                ahead.append(pool.submit(one, index))
                if len(ahead) > 16 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:  # if the build ends early
            pool.shutdown(wait=False, cancel_futures=True)
