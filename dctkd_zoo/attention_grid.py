"""Pictures of attention: maps in colour over images, and grids of them, for `predict`, cards and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
OPACITY = 0.7  # of the colours: the lowest that separates high from low on a bright image

Colour = tuple[int, int, int]
INK, PAPER = (31, 35, 40), (255, 255, 255)
LETTERS = 13  # px
SIDE, GAP, LINE, MARGIN = (
    200,
    4,
    22,
    8,
)  # px: minimum panel width, gap between panels, height of a text line, margin around all


def overlay(image: Image.Image, heat: Tensor, opacity: float = OPACITY) -> Image.Image:
    """Draw the map `heat` (H, W), scaled to [0, 1] and enlarged bilinearly, over an image of any size.

    A constant map is dark everywhere.
    """
    size = (image.height, image.width)
    scaled = minmax(to_fp32(heat.detach()).cpu()[None])[None]
    large = F.interpolate(scaled, size, mode="bilinear", align_corners=False)[0, 0]
    return Image.blend(image.convert("L").convert("RGB"), Image.fromarray(colours(large.numpy())), opacity)


def colours(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Map numbers in [0, 1] (H, W) to viridis, uint8 (H, W, 3)."""
    anchors = np.array(VIRIDIS)
    steps = np.linspace(0, 1, len(anchors))
    channels = [np.interp(values, steps, channel) for channel in anchors.T]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


@dataclass(frozen=True)
class Row:
    """Panels of one size from left to right, with a caption above them in coloured parts."""

    panels: Sequence[Image.Image]
    caption: Sequence[tuple[str, Colour]] = ()


def grid(rows: Sequence[Row], header: Sequence[str] = (), margin: int = MARGIN) -> Image.Image:
    """Draw rows of panels below each other, under a `header` with the title of each column."""
    width, height = rows[0].panels[0].size
    columns, lines = len(rows[0].panels), max((words.count("\n") + 1 for words in header), default=0)
    size = (2 * margin + columns * (width + GAP) - GAP, 2 * margin + lines * LINE - GAP)
    size = (size[0], size[1] + sum(height + GAP + LINE * bool(row.caption) for row in rows))
    picture = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(picture)
    for column, words in enumerate(header):
        middle = margin + column * (width + GAP) + width // 2
        pen.multiline_text((middle, margin), words, INK, font(), anchor="ma", align="center")
    top = margin + lines * LINE
    for row in rows:
        share = (size[0] - 2 * margin) // max(1, len(row.caption))
        for part, (words, colour) in enumerate(row.caption):
            position = (margin + part * share, top + LINE // 2)
            pen.text(position, shortened(words, share - LETTERS), colour, font(), anchor="lm")
        top += LINE * bool(row.caption)
        for column, panel in enumerate(row.panels):
            picture.paste(panel, (margin + column * (width + GAP), top))
        top += height + GAP
    return picture


def strip(image: Image.Image, maps: Sequence[Tensor], caption: str) -> Image.Image:
    """Draw an image and each level's map (H, W) over it, labelled with their sizes, with a caption.

    A small image is enlarged by a whole number.
    """
    factor = -(-SIDE // image.width)
    large = image.resize((factor * image.width, factor * image.height), Image.Resampling.BICUBIC)
    sizes = [f"level {level}: {heat.shape[1]} x {heat.shape[0]}" for level, heat in enumerate(maps, start=1)]
    panels = [large, *(overlay(large, heat) for heat in maps)]
    return grid([Row(panels, [(caption, INK)])], [f"image: {image.width} x {image.height}", *sizes])


def shortened(words: str, room: float) -> str:
    """Cut text to at most `room` px, with an ellipsis."""
    short, end = words, ""
    while short and font().getlength(short + end) > room:
        short, end = short[:-1], "…"
    return short + end


@cache
def font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font of all pictures."""
    return ImageFont.load_default(LETTERS)
