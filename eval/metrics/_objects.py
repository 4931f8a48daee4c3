"""Scores of how much activation maps lie on the objects that decide an image's class.

Maps are (B, h, w), objects (B, H, W) uint8: 1 to 3 for the pixels of at most three objects, else 0. Maps keep their
size: the objects are averaged down to the share of each cell that they cover. So nothing is interpolated, no energy is
lost, and a uniform map scores the same at every level: the share of the image that is objects (`area`), or 0.5 for
`auc`. Images that show no object are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dctkd_zoo.attention import minmax, safe_divide
from dctkd_zoo.data.split import Split
from dctkd_zoo.features import to_fp32
from dctkd_zoo.spec import Recipe

OBJECTS = 3


def masks(split: Split, ids: Tensor) -> Tensor:
    """Return the object masks (B, H, W) of the images at the positions `ids` (B,) of a split that has masks.

    The split holds them in memory, 4 KB for each image of synthscenes.
    """
    assert split.masks is not None
    return torch.from_numpy(split.masks[np.asarray(ids.cpu())])


def seen(objects: Tensor, recipe: Recipe) -> Tensor:
    """Return the masks (B, crop, crop) of objects (B, H, W) after the resizing and centre crop of a recipe.

    It follows `data.pixel_cache` and `data.loader`, but with nearest neighbour. In a reflected border the objects are
    reflected too.
    """
    from torchvision.transforms import InterpolationMode  # here, since importing it takes seconds
    from torchvision.transforms import functional as F

    objects = F.resize(objects, [recipe.resize], InterpolationMode.NEAREST_EXACT)
    if recipe.pad:
        objects = F.pad(objects, [recipe.pad], padding_mode=recipe.pad_mode)
    view: Tensor = F.center_crop(objects, [recipe.crop])
    return view


def area(objects: Tensor) -> Tensor:
    """Return the share (B,) of the image that is objects, which is the `energy` and `pointing` of a uniform map."""
    return _of_seen((objects > 0).float().mean(dim=(1, 2)), objects)


def in_view(objects: Tensor) -> Tensor:
    """Return the number (B,) of objects in (B, H, W) that have a pixel; NaN for none."""
    numbers = torch.arange(1, OBJECTS + 1, device=objects.device)
    seen = (objects.flatten(1)[:, :, None] == numbers).any(dim=1)
    return _of_seen(seen.sum(dim=1).to(torch.float32), objects)


def energy(maps: Tensor, objects: Tensor) -> Tensor:
    """Return the share (B,) of a map's sum on objects: the energy-based pointing game (Wang et al., CVPRW 2020)."""
    return _of_seen((shares(maps) * covered(maps, objects).sum(dim=1)).sum(dim=(1, 2)), objects)


def pointing(maps: Tensor, objects: Tensor) -> Tensor:
    """Return whether a map's maximum is on an object, (B,): the pointing game (Zhang et al., IJCV 2018), no margin.

    It is the share of the largest cell that objects cover, because a cell of a small map can be partly on an object;
    the mean of these shares if several cells are largest.
    """
    maps = to_fp32(maps)
    largest = maps == maps.amax(dim=(1, 2), keepdim=True)
    hits = (largest * covered(maps, objects).sum(dim=1)).sum(dim=(1, 2)) / largest.sum(dim=(1, 2))
    return _of_seen(hits, objects)


def attended(maps: Tensor, objects: Tensor) -> Tensor:
    """Return how many of the objects are attended, (B,), at most `in_view`.

    An object is attended if the map's mean over it is above its mean over the image; one that is out of view is not.
    A uniform map attends to none, a map that is independent of the objects to about half of them.
    """
    heights, cells = minmax(to_fp32(maps)), covered(maps, objects)
    on_object = safe_divide((heights[:, None] * cells).sum(dim=(2, 3)), cells.sum(dim=(2, 3)))
    count = (on_object > heights.mean(dim=(1, 2))[:, None]).sum(dim=1)
    return _of_seen(count.to(heights.dtype), objects)


def rank_accuracy(maps: Tensor, objects: Tensor) -> Tensor:
    """Return the relevance rank accuracy (B,): the share of the K largest cells of a map that is on objects.

    K is the area of the objects in cells (Arras et al., Information Fusion 2022); where it is not whole, or cells are
    equal, the last ones count in part. A uniform map scores the objects' share of the image.
    """
    cells = covered(maps, objects).sum(dim=1).flatten(1)
    heights = to_fp32(maps).flatten(1)
    area = cells.sum(dim=1, keepdim=True)
    last = (area.ceil().long() - 1).clamp(0, heights.shape[1] - 1)
    threshold = heights.sort(dim=1, descending=True).values.gather(1, last)
    above, equal = (heights > threshold).to(cells), (heights == threshold).to(cells)
    part = (area - above.sum(dim=1, keepdim=True)) / equal.sum(dim=1, keepdim=True)
    return _of_seen(safe_divide(((above + part * equal) * cells).sum(dim=1), area[:, 0]), objects)


def auc(maps: Tensor, objects: Tensor) -> Tensor:
    """Return the area under the ROC curve (B,) of a map as a score of how likely each cell is on objects.

    It is the probability that a point on objects has a larger value than a point off them, where equal values count
    half. A cell has its covered share as points on objects and the rest as points off them. A uniform map scores 0.5;
    NaN where everything is objects.
    """
    on = covered(maps, objects).sum(dim=1).flatten(1)
    heights, order = to_fp32(maps).flatten(1).sort(dim=1)
    on = on.gather(1, order)
    off = (1 - on).clamp(min=0)
    up_to = off.cumsum(dim=1)  # points off objects in a cell and all before it
    last = heights.shape[1] - 1
    first_equal = torch.searchsorted(heights, heights).clamp(max=last)  # beyond it only where a value is NaN
    last_equal = torch.searchsorted(heights, heights, right=True).clamp(max=last + 1) - 1
    below = ((up_to - off).gather(1, first_equal) + up_to.gather(1, last_equal)) / 2
    value = safe_divide((on * below).sum(dim=1), on.sum(dim=1) * up_to[:, -1])
    whole = (objects > 0).flatten(1).all(dim=1).to(value.device)
    return _of_seen(torch.where(whole, torch.nan, value), objects)


def shares(maps: Tensor) -> Tensor:
    """Return each map (B, H, W) divided by its sum, at least float32; a map of zeros becomes uniform.

    Negative values count as zero: an activation map has none, but resizing one can produce some.
    """
    maps = to_fp32(maps)
    energy = safe_divide(maps, maps.abs().amax(dim=(1, 2), keepdim=True)).clamp(min=0)  # so that no sum overflows
    total = energy.sum(dim=(1, 2), keepdim=True)
    return torch.where(total > 0, safe_divide(energy, total), 1 / math.prod(maps.shape[1:]))


def covered(maps: Tensor, objects: Tensor) -> Tensor:
    """Return the share (B, 3, h, w) of each cell of maps (B, h, w) that each of the objects (B, H, W) covers."""
    numbers = torch.arange(1, OBJECTS + 1, device=maps.device)
    one_hot = (objects.to(maps.device)[:, None] == numbers[:, None, None]).to(to_fp32(maps).dtype)
    rows, columns = (
        averages(fine, coarse).to(one_hot) for fine, coarse in zip(objects.shape[1:], maps.shape[1:], strict=True)
    )
    return rows @ one_hot @ columns.T


def averages(fine: int, coarse: int) -> Tensor:
    """Return the matrix (coarse, fine) that averages a line of `fine` px over `coarse` equal parts; float64.

    Each row has the sum 1. A pixel that overlaps several parts is divided among them.
    """
    edges = torch.arange(coarse + 1, dtype=torch.float64)[:, None] * (fine / coarse)
    px = torch.arange(fine)
    inside = torch.minimum(edges[1:], px + 1) - torch.maximum(edges[:-1], px)
    return inside.clamp(min=0) * (coarse / fine)


def _of_seen(values: Tensor, objects: Tensor) -> Tensor:
    return torch.where((objects > 0).any(dim=2).any(dim=1).to(values.device), values, torch.nan)


@dataclass(frozen=True)
class Score:
    """A function of maps and objects, and its best value, which a map that is entirely on the objects has.

    None: the number of objects in view.
    """

    of: Callable[[Tensor, Tensor], Tensor]
    best: float | None


SCORES: Mapping[str, Score] = {
    "energy": Score(energy, 1.0),
    "pointing": Score(pointing, 1.0),
    "attended": Score(attended, None),
    "rank_accuracy": Score(rank_accuracy, 1.0),
    "auc": Score(auc, 1.0),
}
