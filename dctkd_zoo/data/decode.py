"""Decoding of images to 8-bit RGB, the same for training, evaluation and `predict`.

The first frame is used, without applying the EXIF orientation (except for a TIFF, which Pillow rotates itself) or a
colour profile; transparency is dropped. Notes tell a user what may be unexpected about that.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from dctkd_zoo.data.files import contents, unreadable
from dctkd_zoo.errors import Undecodable, reason_of

MOST = 89_478_485  # maximum px, Pillow's own bound: 256 MiB as RGB
LARGE = 2**24  # px above which images are decoded one at a time, to bound the memory of many threads
LONGEST = 100  # maximum aspect ratio: resized to 256 px such an image has 6.5 million px
DARKEST = 16  # of 255: if the maximum of an image of other than 8 bits is below, its range is unknown, not black
DEEP = ("I", "F")  # prefixes of Pillow's modes of more than eight bits
Image.init()
# Accepted formats, whatever the file is called: not EPS, which would be run as a program.
FORMATS: list[str] = [
    name for name in ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP") if name in Image.OPEN
]

UPPER = "read as 8 bits, as in evaluation: the upper 8 of 16"
UNIT = "read as 8 bits, as in evaluation: values from 0 to 1 become black to white"
WITHIN = "read as 8 bits, as in evaluation: 32-bit values from 0 to 255 are used as they are"
TURNED = "read without applying the EXIF orientation, as in evaluation"
MOVING = "read as its first frame, as in evaluation"
TRANSPARENT = "read without transparency, as in evaluation: the colours below it are used"
DAMAGED = "read without metadata, which are damaged"

_ALONE = Lock()
_LOADING = Lock()
_WARNINGS = Lock()  # the warning filters are shared by all threads


class Picture(NamedTuple):
    """An image as RGB, and notes on what may be unexpected about it."""

    image: Image.Image
    notes: tuple[str, ...]


def read(path: Path) -> Picture:
    """Read the image in a file; `Unreadable` if its bytes cannot be read, `Undecodable` if they are not an image."""
    return decode(contents(path), str(path))


def decode(data: bytes, name: str) -> Picture:
    """Decode an image; errors begin with `name`: `Undecodable`, or `Unreadable` if memory ran out."""
    try:
        with _pillow() as damage:
            image = Image.open(BytesIO(data), formats=FORMATS)
            _check_size(image)
        with image, _alone(image):
            if image.format == "TIFF":  # its metadata are read again with its pixels
                with _pillow() as more:
                    image.load()
                damage += more
            converted, notes = _converted(image)
            with _pillow() as more:
                notes += _notes(image)
        return Picture(converted, notes + (DAMAGED,) * bool(damage + more))
    except Image.DecompressionBombError as error:
        raise Undecodable(f"{name}: more than {2 * MOST:,} px: {_bounds()}") from error
    except UnidentifiedImageError as error:
        raise Undecodable(f"{name}: not an image that can be read: none of {', '.join(FORMATS)}") from error
    except MemoryError as error:
        raise unreadable(name, error) from error
    except Exception as error:  # Pillow's decoders may raise anything for damaged bytes
        if isinstance(error, OSError) and (error.errno or str(error).startswith(ImageFile.ERRORS[-9])):
            raise unreadable(name, error) from error
        raise Undecodable(f"{name}: {reason_of(error)}") from error


def rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB; `ValueError` if it is too large, too elongated, or of unknown range.

    Of 16 bits, the upper 8 are used: as Pillow itself does for RGB, while it clips grey images to white.
    """
    _check_size(image)
    return _converted(image)[0]


def picture(image: Image.Image) -> Picture:
    """Convert an image that Pillow has opened as `rgb` does, with the notes that `read` gives for its file."""
    _check_size(image)
    with _LOADING:  # the same image may be in two threads, each of which would read its file
        image.load()
    converted, notes = _converted(image)
    with _pillow():
        return Picture(converted, notes + _notes(image))


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MOST or not 0 < max(width, height) <= LONGEST * min(width, height):
        raise ValueError(f"{width:,} x {height:,} px: {_bounds()}")


def _bounds() -> str:
    return f"at most {MOST:,} px are read, the long side at most {LONGEST} times the short one: resize or crop it"


def _alone(image: Image.Image) -> AbstractContextManager[object]:
    return _ALONE if image.width * image.height > LARGE else nullcontext()


@contextmanager
def _pillow() -> Iterator[list[warnings.WarningMessage]]:
    """Collect Pillow's warnings inside, of damaged metadata or a size that is refused anyway."""
    with _WARNINGS, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def _converted(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    if image.mode.startswith(DEEP):
        return _grey(image)
    deep = any(";16" in str(tile) for tile in getattr(image, "tile", ()))  # Pillow uses the upper 8 bits of each colour
    if isinstance(image.info.get("transparency"), bytes):  # Pillow would warn of it, and ignore it
        image = image.copy()
        del image.info["transparency"]
    converted = image.convert("RGB")
    if not deep:
        return converted, ()
    highest = max(int(high) for _, high in converted.getextrema())  # type: ignore[misc]
    if highest < DARKEST:
        raise ValueError(f"values up to {256 * highest + 255:,} of 65,535, which would be black: convert it to 8 bits")
    return converted, (UPPER,)


def _grey(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Convert an image of one channel of more than 8 bits to RGB; return it and a note on how."""
    if is_deep(image):
        values = np.asarray(image.convert("I"))
        if 0 < values.max() < 256 * DARKEST:
            raise ValueError(f"values up to {values.max():,} of 65,535, which would be black: convert it to 8 bits")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB"), (UPPER,)
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())  # NaN if any value is
    if image.mode == "F" and 0 <= low <= high <= 1:
        return Image.fromarray((values * 255).round().astype(np.uint8)).convert("RGB"), (UNIT,)
    if not 0 <= low <= high <= 255 or 0 < high < DARKEST:
        raise ValueError(f"mode {image.mode} with values from {low:g} to {high:g}: convert it to 8 bits")
    return image.convert("RGB"), (WITHIN,)


def is_deep(image: Image.Image) -> bool:
    """Return whether an image has 16-bit values."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")  # scaled by its reader


def _notes(image: Image.Image) -> tuple[str, ...]:
    """Return notes on what viewers show otherwise, once the pixels have been read."""
    turned = moving = False
    with suppress(Exception):  # damaged metadata or later frames of an intact image
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        moving = getattr(image, "is_animated", False)
    notes = {TURNED: turned, MOVING: moving, TRANSPARENT: _is_transparent(image)}
    return tuple(note for note, holds in notes.items() if holds)


def _is_transparent(image: Image.Image) -> bool:
    if "transparency" in image.info:
        return True
    if "A" not in image.getbands():
        return False
    lowest: int = image.getchannel("A").getextrema()[0]  # type: ignore[assignment]  # of one channel
    return lowest < 255
