"""Activation maps and the objects that decide an image's class to how far the maps lie on the objects.

Maps are (B, h, w), objects (B, H, W) uint8: 1 to 3 where one of the three is seen, else 0. A map of any level
is compared at its own size: the objects are averaged down to the share of each cell of the map that they
cover. So no value is made up between two cells, no energy is lost, and an even map scores the same at every
level: the share of the image that is objects (`area`), its chance level. Images that show no object are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from dctkd_zoo.attention import minmax, safe_divide
from dctkd_zoo.data.split import Split
from dctkd_zoo.features import to_fp32
from dctkd_zoo.spec import Recipe

OBJECTS = 3


def masks(split: Split, ids: Tensor) -> Tensor:
    """The objects (B, H, W) of the images at the positions `ids` (B,) of a split that knows them.

    Copied from the split, which was made with its masks and keeps them, 4 KB for each image of synthscenes.
    """
    assert split.masks is not None
    return torch.from_numpy(split.masks[np.asarray(ids.cpu())])


def seen(objects: Tensor, recipe: Recipe) -> Tensor:
    """Objects (B, H, W) of whole images as the centre view of a recipe shows them, (B, crop, crop).

    The way of the pixels in `data.store` and `data.views`, but that each takes the object that lies at its
    centre. Where the view reaches into a reflected border, it shows reflected objects.
    """
    objects = F.resize(objects, [recipe.resize], InterpolationMode.NEAREST_EXACT)
    if recipe.pad:
        objects = F.pad(objects, [recipe.pad], padding_mode=recipe.pad_mode)
    view: Tensor = F.center_crop(objects, [recipe.crop])
    return view


def area(objects: Tensor) -> Tensor:
    """The share of the image that is objects, (B,): what an even map scores in `energy` and `pointing`."""
    return _of_seen((objects > 0).float().mean(dim=(1, 2)), objects)


def energy(maps: Tensor, objects: Tensor) -> Tensor:
    """The share of a map's sum that lies on objects, (B,): the energy-based pointing game (Wang et al., CVPRW 2020)."""
    return _of_seen((shares(maps) * covered(maps, objects).sum(dim=1)).sum(dim=(1, 2)), objects)


def pointing(maps: Tensor, objects: Tensor) -> Tensor:
    """Whether the map is largest on an object, (B,): the pointing game (Zhang et al., IJCV 2018), without a margin.

    The share of the largest cell that objects cover, for a cell of a small map can lie on them in part; the
    mean of those shares where several cells are largest.
    """
    maps = to_fp32(maps)
    largest = maps == maps.amax(dim=(1, 2), keepdim=True)
    hits = (largest * covered(maps, objects).sum(dim=1)).sum(dim=(1, 2)) / largest.sum(dim=(1, 2))
    return _of_seen(hits, objects)


def attended(maps: Tensor, objects: Tensor) -> Tensor:
    """How many of an image's three objects are attended: the map's mean over the object is above that over the image.

    (B,), 0 to 3. An object that is not in view is not attended. An even map attends to none; a map that knows
    nothing of the objects, to about half of them.
    """
    heights, cells = minmax(to_fp32(maps)), covered(maps, objects)
    on_object = safe_divide((heights[:, None] * cells).sum(dim=(2, 3)), cells.sum(dim=(2, 3)))
    count = (on_object > heights.mean(dim=(1, 2))[:, None]).sum(dim=1)
    return _of_seen(count.to(heights.dtype), objects)


def shares(maps: Tensor) -> Tensor:
    """Return each map (B, H, W) as shares of its sum, at least float32; a map of zeros is spread evenly.

    Values below zero count as zero: an activation map has none, but resampling one can leave some.
    """
    maps = to_fp32(maps)
    energy = safe_divide(maps, maps.abs().amax(dim=(1, 2), keepdim=True)).clamp(min=0)  # no sum leaves float32
    total = energy.sum(dim=(1, 2), keepdim=True)
    return torch.where(total > 0, safe_divide(energy, total), 1 / math.prod(maps.shape[1:]))


def covered(maps: Tensor, objects: Tensor) -> Tensor:
    """Maps (B, h, w), objects (B, H, W) -> the share of each cell that each object covers, (B, 3, h, w)."""
    numbers = torch.arange(1, OBJECTS + 1, device=maps.device)
    item = (objects.to(maps.device)[:, None] == numbers[:, None, None]).to(to_fp32(maps).dtype)
    rows, columns = (
        averages(fine, coarse).to(item) for fine, coarse in zip(objects.shape[1:], maps.shape[1:], strict=True)
    )
    return rows @ item @ columns.T


def averages(fine: int, coarse: int) -> Tensor:
    """Means over `coarse` equal parts of a line of `fine` px as a matrix (coarse, fine), float64, each row of sum 1.

    A px that reaches into several parts belongs to each with the portion that lies in it.
    """
    edges = torch.arange(coarse + 1, dtype=torch.float64)[:, None] * (fine / coarse)
    px = torch.arange(fine)
    inside = torch.minimum(edges[1:], px + 1) - torch.maximum(edges[:-1], px)
    return inside.clamp(min=0) * (coarse / fine)


def _of_seen(values: Tensor, objects: Tensor) -> Tensor:
    return torch.where((objects > 0).any(dim=2).any(dim=1).to(values.device), values, torch.nan)


@dataclass(frozen=True)
class Score:
    """A function of maps and objects, and what it gives at best: all of a map on the objects."""

    of: Callable[[Tensor, Tensor], Tensor]
    best: float


SCORES: Mapping[str, Score] = {
    "energy": Score(energy, 1.0),
    "pointing": Score(pointing, 1.0),
    "attended": Score(attended, float(OBJECTS)),
}
