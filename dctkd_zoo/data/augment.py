"""Augmentation beyond crop and flip: TrivialAugmentWide, random erasing, MixUp and CutMix.

Random numbers of an image come from a seed of its own and those of a batch from the step, so they are the same for a
resumed run, on any number of ranks, and for a teacher whose outputs are cached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dctkd_zoo.spec import Recipe


def recoloured(pixels: Tensor, seeds: Tensor) -> Tensor:
    """Return images uint8 (B, S, S, 3) after TrivialAugmentWide (Müller and Hutter, ICCV 2021), one `seeds` (B,) each.

    One of fourteen operations at a random strength: shifts, shears and rotations, and changes of colour.
    """
    from torchvision.transforms import v2  # here, since importing it takes seconds

    return _each(v2.TrivialAugmentWide(), pixels.permute(0, 3, 1, 2), seeds).permute(0, 2, 3, 1).contiguous()


def erased(images: Tensor, seeds: Tensor, probability: float) -> Tensor:
    """Return normalised images (B, 3, S, S) with a rectangle set to the mean colour in some of them.

    It takes 2 to 33 % of the area (Zhong et al., AAAI 2020).
    """
    from torchvision.transforms import v2

    return _each(v2.RandomErasing(probability), images, seeds + 1)


def _each(operation: Callable[[Tensor], Tensor], images: Tensor, seeds: Tensor) -> Tensor:
    """Apply an operation that draws from torch's global generator to each image under its own seed."""
    with torch.random.fork_rng(devices=[]):
        result = []
        for image, seed in zip(images, seeds.tolist(), strict=True):
            torch.default_generator.manual_seed(seed)
            result.append(operation(image))
    return torch.stack(result)


@dataclass(frozen=True)
class Mix:
    """Blend of each image of a batch with the image before it: `share` of its own pixels' weight.

    With a `box` (top, left, bottom, right) the pixels inside are the other image's (CutMix, Yun et al., ICCV 2019),
    else all pixels are a weighted mean (MixUp, Zhang et al., ICLR 2018).
    """

    share: float
    box: tuple[int, int, int, int] | None = None

    def __call__(self, images: Tensor, others: Tensor) -> Tensor:
        """Blend images (B, C, S, S) with others of the same shape."""
        if self.box is None:
            return torch.lerp(others, images, self.share)
        top, left, bottom, right = self.box
        result = images.clone()
        result[..., top:bottom, left:right] = others[..., top:bottom, left:right]
        return result


def draw_mix(recipe: Recipe, seed: int) -> Mix:
    """Draw how a batch is blended: MixUp or CutMix, at random if the recipe has both (timm's `switch_prob` of 0.5)."""
    generator = np.random.default_rng(seed)
    cuts = recipe.cutmix and (not recipe.mixup or generator.random() < 0.5)
    alpha = recipe.cutmix if cuts else recipe.mixup
    share = float(generator.beta(alpha, alpha))
    return _cut(share, recipe.crop, generator) if cuts else Mix(share)


def _cut(share: float, side: int, generator: np.random.Generator) -> Mix:
    """Return the CutMix whose box has `1 - share` of the area, around a random pixel and clipped at the edges."""
    half = int(0.5 * (1 - share) ** 0.5 * side)
    row, column = generator.integers(side, size=2).tolist()
    top, left = max(row - half, 0), max(column - half, 0)
    bottom, right = min(row + half, side), min(column + half, side)
    return Mix(1 - (bottom - top) * (right - left) / side**2, (top, left, bottom, right))
