"""Batches on a device from a pixel cache: crop, flip and normalisation as tensor operations."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dctkd_zoo import distributed
from dctkd_zoo.data.augment import Mix, draw_mix, erased, recoloured
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.pixel_cache import PixelCache
from dctkd_zoo.spec import Dataset, Recipe

RATIO = (3 / 4, 4 / 3)  # range of the aspect ratio of RandomResizedCrop
TRIES = 10


@dataclass(frozen=True)
class CropParams:
    """Crop position and horizontal flip of each image of an epoch, all (N,).

    `heights` and `widths` are the crops' sizes where they differ from the recipe's, to which they are then resized.
    `seeds` are those of each image's further augmentation.
    """

    tops: Tensor
    lefts: Tensor
    flips: Tensor
    heights: Tensor | None = None
    widths: Tensor | None = None
    seeds: Tensor | None = None


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
        sizes += [recipe.augment, recipe.rrc_scale] if recipe.augment != "crop_flip" else []
        sizes += [recipe.erasing] if recipe.erasing else []
        left_out = torch.nonzero(self.store.heights.cpu() == 0).flatten().tolist()
        return [self.store.digest, *sizes, dataset.mean, dataset.std, *left_out]

    def train(self, seed: int, epoch: int, windows: CropParams | None = None, start: int = 0) -> Iterator[Batch]:
        """Yield all images once, in random order, each cropped and flipped at random, or by the given windows.

        It yields this rank's part of each batch, from step `start` on.
        """
        generator = torch.Generator().manual_seed(derive_seed(seed, "views", epoch))
        order = torch.randperm(len(self.labels), generator=generator)
        if windows is None:
            windows = draw_windows(self.store, self.recipe, generator)
        batches = order.split(self.recipe.batch_size)
        for step, ids in enumerate(batches[start:], start):
            if self.recipe.mixes:
                yield self._mixed(ids, windows, draw_mix(self.recipe, derive_seed(seed, "mix", epoch, step)))
            else:
                yield self.batch(distributed.local_slice(ids), windows)

    def _mixed(self, ids: Tensor, windows: CropParams, mix: Mix) -> Batch:
        """Return this rank's part of the images `ids` (B,), each blended with the one before it in the whole batch."""
        own, other = distributed.local_slice(ids), distributed.local_slice(ids.roll(1))
        needed, rows = torch.cat([own, other]).unique(return_inverse=True)
        plain = self.batch(needed, windows)
        own, other = rows.to(self.device).chunk(2)
        images = mix(plain.images[own], plain.images[other]).contiguous(memory_format=torch.channels_last)
        share = torch.full((len(own),), mix.share, device=self.device)
        return Batch(images, plain.labels[own], plain.ids[own], plain.labels[other], share)

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

    @property
    def decoded(self) -> Tensor:
        """The positions of the images that decoded."""
        return torch.nonzero(self.store.heights.cpu()).flatten()

    def _decoded(self, batch_size: int) -> tuple[Tensor, ...]:
        """Return positions of the images that decoded, by batch."""
        decoded = self.decoded
        return decoded.split(batch_size) if len(decoded) else ()

    def fixed(self, number: int) -> CropParams:
        """Return the windows of a view that is the same in every run."""
        generator = torch.Generator().manual_seed(derive_seed(number, "fixed view"))
        return draw_windows(self.store, self.recipe, generator)

    def batch(self, ids: Tensor, windows: CropParams) -> Batch:
        """Return the images `ids` (B,) of an epoch as one batch on the device."""
        pixels = crop(self.store, ids, windows, self.recipe.crop).to(self.device, non_blocking=True)
        flips = windows.flips[ids].to(self.device)
        pixels = torch.where(flips[:, None, None, None], pixels.flip(2), pixels)
        seeds = None if windows.seeds is None else windows.seeds[ids]
        if seeds is not None and self.recipe.augment == "rand":
            pixels = recoloured(pixels, seeds)
        images = normalise(pixels, self.dataset.mean, self.dataset.std)
        if seeds is not None and self.recipe.erasing:
            images = erased(images, seeds, self.recipe.erasing).contiguous(memory_format=torch.channels_last)
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
    return CropParams(tops, lefts, _random_flips(count, recipe, generator))


def _random_flips(count: int, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Draw whether each of `count` images is flipped: half of them, or none if the recipe flips none."""
    flips = torch.rand(count, generator=generator) < 0.5
    return flips if recipe.flip else torch.zeros_like(flips)


def random_resized_crops(pixel_cache: PixelCache, recipe: Recipe, generator: torch.Generator) -> CropParams:
    """Draw a crop as torchvision's RandomResizedCrop does for each image, and a horizontal flip for half of them.

    The first of ten draws of area and aspect ratio that fits into the image is used; if none does, the largest
    centred crop with an aspect ratio in the range.
    """
    heights, widths = (sides.cpu().double() for sides in (pixel_cache.heights, pixel_cache.widths))
    count, low, high = len(heights), *recipe.rrc_scale
    uniform = torch.rand((4, count, TRIES), generator=generator, dtype=torch.float64)
    area = (heights * widths)[:, None] * (low + (high - low) * uniform[0])
    ratio = torch.exp(math.log(RATIO[0]) + math.log(RATIO[1] / RATIO[0]) * uniform[1])
    tall, wide = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
    fits = (tall > 0) & (wide > 0) & (tall <= heights[:, None]) & (wide <= widths[:, None])
    first, any_fits = fits.double().argmax(dim=1, keepdim=True), fits.any(dim=1)
    largest_wide = torch.minimum(widths, (heights * RATIO[1]).round())
    largest_tall = torch.minimum(heights, (widths / RATIO[0]).round())
    tall = torch.where(any_fits, tall.gather(1, first)[:, 0], largest_tall)
    wide = torch.where(any_fits, wide.gather(1, first)[:, 0], largest_wide)
    tops, lefts = (
        torch.where(any_fits, (uniform[part].gather(1, first)[:, 0] * (sides - side + 1)).floor(), (sides - side) // 2)
        for part, sides, side in ((2, heights, tall), (3, widths, wide))
    )
    flips = _random_flips(count, recipe, generator)
    return CropParams(tops.long(), lefts.long(), flips, tall.long(), wide.long())


CROPS = {"crop_flip": random_crops, "rrc": random_resized_crops, "rand": random_resized_crops}  # by `augment`


def draw_windows(pixel_cache: PixelCache, recipe: Recipe, generator: torch.Generator) -> CropParams:
    """Draw the crop and flip of each image as the recipe's `augment` says, and seeds if it changes pixels too."""
    windows = CROPS[recipe.augment](pixel_cache, recipe, generator)
    if recipe.augment != "rand" and not recipe.erasing:
        return windows
    return replace(windows, seeds=torch.randint(2**62, (len(windows.flips),), generator=generator))


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
    if windows.heights is not None and windows.widths is not None:
        return _resized(pixel_cache.pixels, starts, widths, windows.heights[ids], windows.widths[ids], size)
    if pixel_cache.pixels[0].device.type == "cpu":
        return _copied(pixel_cache.pixels, starts, widths, size)
    return _gathered(pixel_cache.pixels[0], starts, widths, size)


def _copied(pieces: tuple[Tensor, ...], starts: Tensor, widths: Tensor, size: int) -> Tensor:
    """Crop by one strided copy per image: faster than a gather on a CPU, and it allows any number of pieces.

    NumPy copies, because torch would wake all its threads for each image.
    """
    out = np.empty((len(starts), size, 3 * size), np.uint8)
    for image, rest, width in zip(out, _from(pieces, starts), widths.tolist(), strict=True):
        image[:] = as_strided(rest, (size, 3 * size), (3 * width, 1))
    return torch.from_numpy(out).view(-1, size, size, 3)


def _from(pieces: tuple[Tensor, ...], starts: Tensor) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of the pieces from each of the positions `starts` (B,) to the end of its piece."""
    lengths = torch.tensor([len(piece) for piece in pieces])
    ends = lengths.cumsum(0)
    numbers = torch.bucketize(starts, ends, right=True)
    within = starts - ends[numbers] + lengths[numbers]
    for number, start in zip(numbers.tolist(), within.tolist(), strict=True):
        yield pieces[number].numpy()[start:]


def _resized(
    pieces: tuple[Tensor, ...], starts: Tensor, widths: Tensor, tall: Tensor, wide: Tensor, size: int
) -> Tensor:
    """Crop windows of `tall` x `wide` px and resize them to a square (Pillow, bilinear).

    They are the same on all machines, but by one level between versions: Pillow 13 rounds otherwise where one side is
    enlarged and the other reduced.
    """
    out = np.empty((len(starts), size, size, 3), np.uint8)
    sides = zip(widths.tolist(), tall.tolist(), wide.tolist(), strict=True)
    for image, rest, (width, high, across) in zip(out, _from(pieces, starts), sides, strict=True):
        window = Image.fromarray(np.ascontiguousarray(as_strided(rest, (high, across, 3), (3 * width, 3, 1))))
        image[:] = np.asarray(window.resize((size, size), Image.Resampling.BILINEAR))
    return torch.from_numpy(out)


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
