"""Batches on a device from a pixel cache: crop, flip and normalisation as tensor operations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from torch import Tensor

from dctkd_zoo import distributed
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.pixel_cache import PixelCache
from dctkd_zoo.spec import Dataset, Recipe


@dataclass(frozen=True)
class CropParams:
    """Crop position and horizontal flip of each image of an epoch, all (N,)."""

    tops: Tensor
    lefts: Tensor
    flips: Tensor


@dataclass(frozen=True)
class ImageLoader:
    """Batches of a pixel cache (`store`) under a recipe; the same seed gives the same batches on any device."""

    store: PixelCache
    labels: Tensor
    recipe: Recipe
    dataset: Dataset
    device: torch.device

    def cache_key(self) -> list[Any]:
        """Return what determines the images, as JSON data: bytes, sizes, padding, normalisation, images left out."""
        recipe, dataset = self.recipe, self.dataset
        sizes = [recipe.resize, recipe.pad, recipe.pad_mode, recipe.crop, recipe.flip]
        left_out = torch.nonzero(self.store.heights.cpu() == 0).flatten().tolist()
        return [self.store.digest, *sizes, dataset.mean, dataset.std, *left_out]

    def train(self, seed: int, epoch: int, windows: CropParams | None = None, start: int = 0) -> Iterator[Batch]:
        """Yield all images once, in random order, each cropped and flipped at random, or by the given windows.

        It yields this rank's part of each batch, from step `start` on.
        """
        generator = torch.Generator().manual_seed(derive_seed(seed, "views", epoch))
        order = torch.randperm(len(self.labels), generator=generator)
        if windows is None:
            windows = random_crops(self.store, self.recipe, generator)
        for ids in order.split(self.recipe.batch_size)[start:]:
            yield self.batch(distributed.local_slice(ids), windows)

    def test(self, batch_size: int) -> Iterator[Batch]:
        """Yield all images that decoded, in order, centre-cropped."""
        return self.iter_ordered(centre_crops(self.store, self.recipe), batch_size)

    def iter_ordered(self, windows: CropParams, batch_size: int) -> Iterator[Batch]:
        """Yield all images that decoded, in order, by the given windows."""
        for ids in self._decoded(batch_size):
            yield self.batch(ids, windows)

    def iter_sharded(self, windows: CropParams, batch_size: int) -> Iterator[tuple[Batch, bool]]:
        """Yield this rank's batches of `iter_ordered`, and whether they are its own (see `distributed.shard`)."""
        for ids, own in distributed.shard(self._decoded(batch_size)):
            yield self.batch(ids, windows), own

    def _decoded(self, batch_size: int) -> tuple[Tensor, ...]:
        """Return positions of the images that decoded, by batch."""
        decoded = torch.nonzero(self.store.heights.cpu()).flatten()
        return decoded.split(batch_size) if len(decoded) else ()

    def fixed(self, number: int) -> CropParams:
        """Return the windows of a view that is the same in every run."""
        generator = torch.Generator().manual_seed(derive_seed(number, "fixed view"))
        return random_crops(self.store, self.recipe, generator)

    def batch(self, ids: Tensor, windows: CropParams) -> Batch:
        """Return the images `ids` (B,) of an epoch as one batch on the device."""
        pixels = crop(self.store, ids, windows, self.recipe.crop).to(self.device, non_blocking=True)
        flips = windows.flips[ids].to(self.device)
        pixels = torch.where(flips[:, None, None, None], pixels.flip(2), pixels)
        images = normalise(pixels, self.dataset.mean, self.dataset.std)
        return Batch(images, self.labels[ids].to(self.device), ids.to(self.device))


def derive_seed(seed: int, *purpose: object) -> int:
    """Derive a seed for one purpose, so that no two uses of a run's seed share random numbers."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])


def random_crops(pixel_cache: PixelCache, recipe: Recipe, generator: torch.Generator) -> CropParams:
    """Draw a random crop position for each image, and a horizontal flip for half of them."""
    count = len(pixel_cache.heights)
    tops, lefts = (
        (torch.rand(count, generator=generator, dtype=torch.float64) * (sides.cpu() - recipe.crop + 1)).long()
        for sides in (pixel_cache.heights, pixel_cache.widths)
    )
    flips = torch.rand(count, generator=generator) < 0.5
    return CropParams(tops, lefts, flips if recipe.flip else torch.zeros_like(flips))


def centre_crops(pixel_cache: PixelCache, recipe: Recipe) -> CropParams:
    """Return centre crops of each image, rounded like torchvision's `CenterCrop`, without flips."""
    tops, lefts = (
        ((sides.cpu() - recipe.crop).double() / 2).round().long() for sides in (pixel_cache.heights, pixel_cache.widths)
    )
    return CropParams(tops, lefts, torch.zeros_like(tops, dtype=torch.bool))


def crop(pixel_cache: PixelCache, ids: Tensor, windows: CropParams, size: int) -> Tensor:
    """Crop square windows of the images `ids` (B,) as uint8 (B, size, size, 3), on the device of the pixels."""
    tops, lefts, widths, offsets = (
        t.cpu()[ids] for t in (windows.tops, windows.lefts, pixel_cache.widths, pixel_cache.offsets)
    )
    starts = offsets + (tops * widths + lefts) * 3
    if pixel_cache.pixels[0].device.type == "cpu":
        return _copied(pixel_cache.pixels, starts, widths, size)
    return _gathered(pixel_cache.pixels[0], starts, widths, size)


def _copied(pieces: tuple[Tensor, ...], starts: Tensor, widths: Tensor, size: int) -> Tensor:
    """Crop by one strided copy per image: faster than a gather on a CPU, and it allows any number of pieces.

    NumPy copies, because torch would wake all its threads for each image.
    """
    lengths = torch.tensor([len(piece) for piece in pieces])
    ends = lengths.cumsum(0)
    numbers = torch.bucketize(starts, ends, right=True)
    within = starts - ends[numbers] + lengths[numbers]
    out = np.empty((len(starts), size, 3 * size), np.uint8)
    for image, number, start, width in zip(out, numbers.tolist(), within.tolist(), widths.tolist(), strict=True):
        image[:] = as_strided(pieces[number].numpy()[start:], (size, 3 * size), (3 * width, 1))
    return torch.from_numpy(out).view(-1, size, size, 3)


def _gathered(pixels: Tensor, starts: Tensor, widths: Tensor, size: int) -> Tensor:
    """Crop by one gather of rows for the whole batch: a row of a window is `3 size` consecutive bytes."""
    rows = starts[:, None] + torch.arange(size) * 3 * widths[:, None]
    every_row = pixels.as_strided((len(pixels) - 3 * size + 1, 3 * size), (1, 1))
    return every_row[rows.to(pixels.device)].view(-1, size, size, 3)


def normalise(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normalise uint8 (B, H, W, 3) to float32 (B, 3, H, W), channels last in memory, with torchvision's arithmetic."""
    images = pixels.permute(0, 3, 1, 2).float().div(255)
    offset, scale = (images.new_tensor(v).view(1, 3, 1, 1) for v in (mean, std))
    return images.sub(offset).div(scale)
