"""A file or an image of any kind -> RGB of 8 bits: the one way to the pixels, of training, evaluation and `predict`.

The first frame, its pixels as they lie: no EXIF orientation (but of a TIFF, which Pillow turns itself), no colour
profile; transparency is left out. What a user might not expect of that is said in notes.
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

MOST = 89_478_485  # px, Pillow's own bound: 256 MiB as RGB
LARGE = 2**24  # px of an image that is decoded while no other large one is, to bound the memory of many threads
LONGEST = 100  # times the short side: resized to 256 px such an image has 6.5 million px
DARKEST = 16  # of 255: an image of other than 8 bits whose brightest value is below is of another range, not black
DEEP = ("I", "F")  # how Pillow's modes of more than eight bits begin
Image.init()
# What it may be, whatever the file is called: not EPS, which would be run as a program.
FORMATS: list[str] = [
    each for each in ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP") if each in Image.OPEN
]

UPPER = "seen in 8 bits, as in evaluation: the upper 8 of 16"
UNIT = "seen in 8 bits, as in evaluation: values from 0 to 1 go from black to white"
WITHIN = "seen in 8 bits, as in evaluation: 32-bit values within 0 to 255 are taken as they are"
TURNED = "seen as the pixels lie: the EXIF orientation is not applied, nor is it in evaluation"
MOVING = "seen as the first frame, as in evaluation"
TRANSPARENT = "seen without transparency, as in evaluation: the colours below it are taken"
DAMAGED = "seen without metadata, which are damaged"

_ALONE = Lock()
_WARNINGS = Lock()  # what is done with warnings is one state for all threads


class Picture(NamedTuple):
    """An image as RGB, and what a user might not expect of how it is seen."""

    image: Image.Image
    notes: tuple[str, ...]


def read(path: Path) -> Picture:
    """The image in a file; `Unreadable` where its bytes cannot be had, `Undecodable` where they are no image."""
    return decode(contents(path), str(path))


def decode(data: bytes, name: str) -> Picture:
    """The image that bytes are, with `name` in errors: `Undecodable`, or `Unreadable` where memory was short."""
    try:
        with _pillow() as damage:
            image = Image.open(BytesIO(data), formats=FORMATS)
            _check_size(image)
        with image, _alone(image):
            if image.format == "TIFF":  # whose metadata are read again with its pixels
                with _pillow() as more:
                    image.load()
                damage += more
            seen, notes = _converted(image)
            with _pillow() as more:
                notes += _notes(image)
        return Picture(seen, notes + (DAMAGED,) * bool(damage + more))
    except Image.DecompressionBombError as error:
        raise Undecodable(f"{name}: more than {2 * MOST:,} px: {_bounds()}") from error
    except UnidentifiedImageError as error:
        raise Undecodable(f"{name}: not an image that can be read: none of {', '.join(FORMATS)}") from error
    except MemoryError as error:
        raise unreadable(name, error) from error
    except Exception as error:  # Pillow's decoders raise whatever damaged bytes lead them to
        if isinstance(error, OSError) and (error.errno or str(error).startswith(ImageFile.ERRORS[-9])):
            raise unreadable(name, error) from error
        raise Undecodable(f"{name}: {reason_of(error)}") from error


def rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB; `ValueError` for one that is too large, too long, or of values without a range.

    Of 16 bits, the upper 8 are taken: as Pillow itself does for RGB, while it clips grey ones to white.
    """
    _check_size(image)
    return _converted(image)[0]


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
    """What Pillow warns of inside, which is damaged metadata or a size that is refused anyway."""
    with _WARNINGS, warnings.catch_warnings(record=True) as meta:
        warnings.simplefilter("always")
        yield meta


def _converted(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    if image.mode.startswith(DEEP):
        return _grey(image)
    deep = any(
        ";16" in str(tile) for tile in getattr(image, "tile", ())
    )  # of each colour Pillow takes the upper 8 bits
    if isinstance(image.info.get("transparency"), bytes):  # which Pillow would warn of, and leave out
        image = image.copy()
        del image.info["transparency"]
    seen = image.convert("RGB")
    if not deep:
        return seen, ()
    highest = max(int(high) for _, high in seen.getextrema())  # type: ignore[misc]
    if highest < DARKEST:
        raise ValueError(f"values up to {256 * highest + 255:,} of 65,535, which would be black: convert it to 8 bits")
    return seen, (UPPER,)


def _grey(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """An image of one channel of more than 8 bits as RGB, and how."""
    if is_deep(image):
        values = np.asarray(image.convert("I"))
        if 0 < values.max() < 256 * DARKEST:
            raise ValueError(f"values up to {values.max():,} of 65,535, which would be black: convert it to 8 bits")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB"), (UPPER,)
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())  # not a number where any is none
    if image.mode == "F" and 0 <= low <= high <= 1:
        return Image.fromarray((values * 255).round().astype(np.uint8)).convert("RGB"), (UNIT,)
    if not 0 <= low <= high <= 255 or 0 < high < DARKEST:
        raise ValueError(f"mode {image.mode} with values from {low:g} to {high:g}: convert it to 8 bits")
    return image.convert("RGB"), (WITHIN,)


def is_deep(image: Image.Image) -> bool:
    """Whether its values are of 16 bits."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")  # scaled by its reader


def _notes(image: Image.Image) -> tuple[str, ...]:
    """What evaluation makes of some images that viewers show otherwise, after their pixels have been read."""
    turned = moving = False
    with suppress(Exception):  # damaged facts, or later frames, of a picture that is whole
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
