"""Images in memory or in files, of every kind that `dctkd_zoo.predict` takes, as 8-bit RGB.

Arrays and tensors become Pillow images, so that they are resized and normalised by the same code as files.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dctkd_zoo.data import decode
from dctkd_zoo.data.decode import Picture
from dctkd_zoo.errors import InvalidImage, Undecodable

OneImage: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any] | Tensor
ACCEPTED = (
    "a path, the bytes of an image file, a PIL image, an array (H, W, 3) or (N, H, W, 3), or a tensor (3, H, W) or "
    "(N, 3, H, W)"
)
ARRAY, TENSOR = "(H, W, 3) or (N, H, W, 3)", "(3, H, W) or (N, 3, H, W)"
# What to do about a number of channels other than three, of an array and of a tensor.
CHANNELS = {
    ARRAY: {
        1: "grey: repeat the channel, np.repeat(array, 3, axis=-1)",
        4: "drop the alpha channel, array[..., :3]",
    },
    TENSOR: {
        1: "grey: repeat the channel, tensor.repeat_interleave(3, dim=-3)",
        4: "drop the alpha channel, tensor[..., :3, :, :]",
    },
}
SWAPPED = {
    ARRAY: "channels come last in an array: np.moveaxis(array, -3, -1)",
    TENSOR: "channels come first in a tensor: tensor.movedim(-1, -3)",
}


class Item(NamedTuple):
    """One image of any kind, and what errors call it, like `images[3]`."""

    name: str
    value: OneImage

    @property
    def path(self) -> Path | None:
        """The file that the image is in, if any."""
        return Path(self.value) if isinstance(self.value, str | os.PathLike) else None


def items(images: OneImage | Iterable[OneImage], name: str = "images") -> Iterator[Item]:
    """Yield each single image of `images`: one, a batch of them, or an iterable of both; nothing is read yet.

    `InvalidImage` names the first that is of another type or shape.
    """
    single = list(_single(images, name))
    if single:
        yield from single
    elif isinstance(images, np.ndarray | Tensor):  # a batch of no images
        return
    elif isinstance(images, Mapping | io.IOBase) or not isinstance(images, Iterable):
        raise InvalidImage(f"{name} is of type {type(images).__name__}: give {ACCEPTED}, or an iterable of these")
    else:
        yield from _of_each(images, name)


def _of_each(images: Iterable[Any], name: str) -> Iterator[Item]:
    for index, image in enumerate(images):
        inner = f"{name}[{index}]"
        if not isinstance(image, str | os.PathLike | bytes | Image.Image | np.ndarray | Tensor):
            raise InvalidImage(f"{inner} is of type {type(image).__name__}: give {ACCEPTED}")
        yield from _single(image, inner)


def _single(image: object, name: str) -> Iterator[Item]:
    """Yield one image, or those of an array or tensor with four axes; nothing if it is neither."""
    match image:
        case str() | os.PathLike() | bytes() | Image.Image():
            yield Item(name, image)
        case np.ndarray() | Tensor():
            _check_shape(tuple(image.shape), ARRAY if isinstance(image, np.ndarray) else TENSOR, name)
            if image.ndim == 3:
                yield Item(name, image)
            else:
                yield from (Item(f"{name}[{index}]", row) for index, row in enumerate(image))


def _check_shape(shape: tuple[int, ...], expected: str, name: str) -> None:
    """Raise `InvalidImage` unless the shape is of one image or a batch, with the channels where `expected` has them."""
    channels, swapped = (-1, -3) if expected == ARRAY else (-3, -1)
    if len(shape) in (3, 4) and shape[channels] == 3:
        return
    if len(shape) == 2:
        hint = (
            f"if it is a grey image, {'np.stack([array] * 3, -1)' if expected == ARRAY else 'tensor.expand(3, -1, -1)'}"
        )
    elif len(shape) not in (3, 4):
        hint = f"number of axes: {len(shape)}"
    elif shape[swapped] == 3:
        hint = SWAPPED[expected]
    else:
        hint = CHANNELS[expected].get(shape[channels], f"{shape[channels]} channels instead of 3")
    what = "an array" if expected == ARRAY else "a tensor"
    raise InvalidImage(f"{name} is {what} of shape {shape}, but {expected} is needed: {hint}")


def picture(item: Item) -> Picture:
    """Return an image as RGB; `ValueError`, `Unreadable` or `Undecodable` say why that is impossible."""
    match item.value:
        case bytes():
            return decode.decode(item.value, f"{len(item.value):,} bytes")
        case Image.Image():
            return decode.picture(item.value)
        case np.ndarray():
            return decode.picture(Image.fromarray(_as_uint8(item.value, _described("array", item.value))))
        case Tensor():
            array = _to_numpy(item.value.detach().cpu().movedim(0, 2))
            return decode.picture(Image.fromarray(_as_uint8(array, _described("tensor", item.value))))
        case path:
            if str(path).startswith(("http://", "https://")):
                raise Undecodable(f"{path}: a URL, not a file: download it and give its bytes")
            return decode.read(Path(path))


def _to_numpy(tensor: Tensor) -> NDArray[Any]:
    """Convert to numpy, floating-point types to float32 (numpy has no bfloat16) except float64."""
    keeps = tensor.dtype == torch.float64 or not tensor.is_floating_point()
    return (tensor if keeps else tensor.float()).numpy()


def _described(kind: str, pixels: NDArray[Any] | Tensor) -> str:
    return f"{kind} of {str(pixels.dtype).removeprefix('torch.')}, shape {tuple(pixels.shape)}"


def _as_uint8(array: NDArray[Any], what: str) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) as uint8; floats from 0 to 1 are multiplied by 255 and rounded to nearest.

    So what torchvision's `ToTensor` made of 8 bits becomes the same 8 bits again. Errors begin with `what`.
    """
    if 0 in array.shape:
        raise ValueError(f"{what}: there are no pixels")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f":
        raise ValueError(f"{what}: give uint8 from 0 to 255, or floats from 0 to 1")
    low, high = float(array.min()), float(array.max())  # NaN if any value is
    if not 0 <= low <= high <= 1:
        raise ValueError(f"{what}, {_why_not(low, high)}")
    return np.ascontiguousarray((array.astype(np.float64) * 255).round().astype(np.uint8))


def _why_not(low: float, high: float) -> str:
    if np.isnan(low):
        return "with NaN: floats have to be from 0 to 1"
    way_on = "convert them to uint8" if low >= 0 and 1 < high <= 255 else "undo the normalisation, or clip them"
    return f"with values from {low:g} to {high:g}: floats have to be from 0 to 1; {way_on}"
