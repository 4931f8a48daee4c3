"""An image and a map of numbers to a picture: the map in colour over the image in grey."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from dctkd_zoo.attention import minmax
from dctkd_zoo.features import wide

# Viridis (van der Walt and Smith, 2015) at nine equal steps, dark to bright: equal steps look equally far.
VIRIDIS = (
    (68, 1, 84),
    (71, 45, 123),
    (59, 82, 139),
    (44, 114, 142),
    (33, 145, 140),
    (40, 174, 128),
    (94, 201, 98),
    (173, 220, 48),
    (253, 231, 37),
)
OPACITY = 0.7  # of the colours: the least that tells high from low on a bright image


def overlay(image: Image.Image, heat: Tensor, opacity: float = OPACITY) -> Image.Image:
    """The map `heat` (H, W) over an image of any size: scaled from its least to its greatest value, smoothly enlarged.

    A constant map is dark all over.
    """
    size = (image.height, image.width)
    scaled = minmax(wide(heat.detach()).cpu()[None])[None]
    large = F.interpolate(scaled, size, mode="bilinear", align_corners=False)[0, 0]
    return Image.blend(image.convert("L").convert("RGB"), Image.fromarray(colours(large.numpy())), opacity)


def colours(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Numbers in [0, 1] (H, W) to viridis, uint8 (H, W, 3)."""
    anchors = np.array(VIRIDIS)
    steps = np.linspace(0, 1, len(anchors))
    channels = [np.interp(values, steps, channel) for channel in anchors.T]
    return np.stack(channels, axis=-1).round().astype(np.uint8)
