"""A file or an image of any kind -> RGB of 8 bits: the one way to the pixels, of training, evaluation and `predict`.

The first frame, its pixels as they lie: no EXIF orientation, no colour profile; transparency is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from dctkd_zoo.errors import reason_of

MOST = 89_478_485  # px, Pillow's own bound: 256 MiB as RGB
LONGEST = 100  # times the short side: resized to 256 px such an image has 6.5 million px
DEEP = ("I", "F")  # how Pillow's modes of more than eight bits begin
Image.init()
# What it may be, whatever the file is called: not EPS, which would be run as a program.
FORMATS: list[str] = [
    each for each in ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP") if each in Image.OPEN
]


def read(file: Path | IO[bytes], name: str = "") -> Image.Image:
    """The image in a file as RGB; raises `OSError` with its path, or the `name` given, where that fails."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            return rgb(image)
    except Exception as error:  # Pillow's decoders raise whatever damaged bytes lead them to
        raise OSError(f"{name or file}: {reason_of(error)}") from error


def rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB; `ValueError` for one that is too large, too long, or of values without a range.

    Of 16 bits, the upper 8 are taken: as Pillow itself does for RGB, while it clips grey ones to white.
    """
    width, height = image.size
    if width * height > MOST or not 0 < max(width, height) <= LONGEST * min(width, height):
        bounds = f"at most {MOST:,} px are read, the long side at most {LONGEST} times the short one"
        raise ValueError(f"{width:,} x {height:,} px: {bounds}: resize or crop it")
    if not image.mode.startswith(DEEP):
        return image.convert("RGB")
    if is_deep(image):
        return Image.fromarray((np.asarray(image.convert("I")) >> 8).astype(np.uint8)).convert("RGB")
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())  # not a number where any is none
    if not 0 <= low <= high <= 255:
        raise ValueError(f"mode {image.mode} with values from {low:g} to {high:g}: convert it to 8 bits")
    return image.convert("RGB")


def is_deep(image: Image.Image) -> bool:
    """Whether its values are of 16 bits."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")  # scaled by its reader
