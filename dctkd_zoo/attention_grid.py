"""An image and maps of numbers to a picture: each map in colour over the image in grey."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from dctkd_zoo.attention import minmax
from dctkd_zoo.features import to_fp32

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

INK, PAPER = (31, 35, 40), (255, 255, 255)
LETTERS = 13  # px
SIDE, GAP, LINE, MARGIN = 200, 4, 22, 8  # px: least width of a panel, between panels, of a line of words, around all


def overlay(image: Image.Image, heat: Tensor, opacity: float = OPACITY) -> Image.Image:
    """The map `heat` (H, W) over an image of any size: scaled from its least to its greatest value, smoothly enlarged.

    A constant map is dark all over.
    """
    size = (image.height, image.width)
    scaled = minmax(to_fp32(heat.detach()).cpu()[None])[None]
    large = F.interpolate(scaled, size, mode="bilinear", align_corners=False)[0, 0]
    return Image.blend(image.convert("L").convert("RGB"), Image.fromarray(colours(large.numpy())), opacity)


def colours(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Numbers in [0, 1] (H, W) to viridis, uint8 (H, W, 3)."""
    anchors = np.array(VIRIDIS)
    steps = np.linspace(0, 1, len(anchors))
    channels = [np.interp(values, steps, channel) for channel in anchors.T]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def strip(image: Image.Image, maps: Sequence[Tensor], caption: str) -> Image.Image:
    """An image, and beside it each level's map (H, W) over it, labelled, under a line of words.

    A small image is shown enlarged, by a whole number.
    """
    factor = -(-SIDE // image.width)
    large = image.resize((factor * image.width, factor * image.height), Image.Resampling.BICUBIC)
    sizes = [f"level {level}: {heat.shape[1]} x {heat.shape[0]}" for level, heat in enumerate(maps, start=1)]
    words = [f"image: {image.width} x {image.height}", *sizes]
    pitch, top = large.width + GAP, MARGIN + 2 * LINE
    width = 2 * MARGIN + len(words) * pitch - GAP
    picture = Image.new("RGB", (width, top + large.height + MARGIN), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((MARGIN, MARGIN + LINE // 2), shortened(caption, width - 2 * MARGIN), INK, font(), anchor="lm")
    for column, panel in enumerate([large, *(overlay(large, heat) for heat in maps)]):
        left = MARGIN + column * pitch
        pen.text((left, top - LINE // 2), words[column], INK, font(), anchor="lm")
        picture.paste(panel, (left, top))
    return picture


def shortened(words: str, room: float) -> str:
    """Words that take at most `room` px, cut off with an ellipsis where they are longer."""
    shown, end = words, ""
    while shown and font().getlength(shown + end) > room:
        shown, end = shown[:-1], "…"
    return shown + end


@cache
def font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The letters of all pictures."""
    return ImageFont.load_default(LETTERS)
