"""Frequency transforms of the DCT loss, from activation maps to normalised spectra, as matrix products.

The maps are small (7 to 56 px), so a transform is two products with a constant matrix, in float32 even under
autocast. The three transforms of the loss subtract the map's mean first and scale the coefficients to [0, 1] per
image, which makes the loss invariant to the scale of the features; two ablations leave that out, step by step.
Maps of different sizes are compared over the frequencies that both have: cropping a DCT spectrum resamples the map.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from dctkd_zoo.attention import amin_amax, minmax, safe_divide

Transform = Callable[[Tensor], Tensor]
F = TypeVar("F", bound=Callable[..., Any])


def _constant(function: F) -> F:
    """Cache a function of hashable arguments; a compiled graph, which holds no cache, computes it in place."""
    # Outside of inference mode: a cached inference tensor could never take part in training.
    cached = lru_cache(maxsize=64)(torch.inference_mode(False)(function))

    def constant(*arguments: Any) -> Any:
        return function(*arguments) if torch.compiler.is_compiling() else cached(*arguments)

    return cast(F, constant)


@_constant
def _dct_matrix(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the orthonormal DCT-II matrix (size, size), rows are frequencies."""
    n = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi * n[:, None] * (2 * n + 1) / (2 * size)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.to(device, dtype)


@_constant
def _dft_matrices(size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the cosine and sine matrices (size, size) of the DFT; the phase is reduced to stay exact."""
    n = torch.arange(size)
    phase = (n[:, None] * n % size).double() * (2 * math.pi / size)
    return phase.cos().to(device, dtype), phase.sin().to(device, dtype)


def dct2_coefficients(maps: Tensor) -> Tensor:
    """Return the orthonormal 2-D DCT-II of mean-free maps, (B, H, W) -> (B, H, W)."""
    height, width = maps.shape[1:]
    with torch.autocast(maps.device.type, enabled=False):
        rows = _dct_matrix(height, maps.dtype, maps.device)
        columns = _dct_matrix(width, maps.dtype, maps.device)
        return rows @ _mean_free(maps) @ columns.T


def dft_coefficients(maps: Tensor) -> Tensor:
    """Return the real part of the 2-D DFT of mean-free maps, (B, H, W) -> (B, H, W): `Re FFT2(A) = C A C - S A S`."""
    height, width = maps.shape[1:]
    with torch.autocast(maps.device.type, enabled=False):
        cos_rows, sin_rows = _dft_matrices(height, maps.dtype, maps.device)
        cos_columns, sin_columns = _dft_matrices(width, maps.dtype, maps.device)
        free = _mean_free(maps)
        return cos_rows @ free @ cos_columns - sin_rows @ free @ sin_columns


@_constant
def _resampling_matrix(size: int, fewer: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix (fewer, size) that resamples by the `fewer` lowest frequencies; each row sums to 1."""
    to, back = (_dct_matrix(n, torch.float64, torch.device("cpu")) for n in (size, fewer))
    return (math.sqrt(fewer / size) * back.T @ to[:fewer]).to(device, dtype)


def resample(maps: Tensor, height: int, width: int) -> Tensor:
    """Resample maps (B, H, W) to (B, height, width) by their lowest frequencies; the mean stays the same.

    The DCT-II of the result is the corner of the DCT-II of `maps`, up to a factor. Nothing is added: neither side may
    grow.
    """
    if maps.shape[1:] == (height, width):
        return maps
    with torch.autocast(maps.device.type, enabled=False):
        rows = _resampling_matrix(maps.shape[1], height, maps.dtype, maps.device)
        columns = _resampling_matrix(maps.shape[2], width, maps.dtype, maps.device)
        low = _lowest(maps)
        return low + rows @ (maps - low) @ columns.T


def common(a: Tensor, b: Tensor, keep: int | None = None) -> tuple[Tensor, Tensor]:
    """Resample two maps (B, H, W) of any sizes to the smaller height and the smaller width.

    With `keep`, at most that many frequencies remain along each axis.
    """
    sides = [*zip(a.shape[1:], b.shape[1:], strict=True)]
    height, width = (min(x, y) if keep is None else min(x, y, keep) for x, y in sides)
    return resample(a, height, width), resample(b, height, width)


def _mean_free(maps: Tensor) -> Tensor:
    rise = maps - _lowest(maps)
    return rise - rise.mean(dim=(1, 2), keepdim=True)


def _lowest(maps: Tensor) -> Tensor:
    # Means and sums of equal values can be off by rounding; less its minimum, a constant map is exactly zero.
    return maps.amin(dim=(1, 2), keepdim=True).detach()


def dct2(maps: Tensor) -> Tensor:
    """Return the true DCT-II, min-max normalised: what the loss is named after."""
    return minmax(dct2_coefficients(maps))


def dft_abs(maps: Tensor) -> Tensor:
    """Return the magnitude of the real DFT over its maximum, as in the reported tables (docs/method.md, D-1, D-2)."""
    magnitudes = dft_coefficients(maps).abs()
    low, high = amin_amax(magnitudes)
    return safe_divide(magnitudes - low, high)


def dft_signed(maps: Tensor) -> Tensor:
    """Return the real part of the DFT, min-max normalised: the released main branch (docs/method.md, D-2)."""
    return minmax(dft_coefficients(maps))


def dct2_raw(maps: Tensor) -> Tensor:
    """Return `dct2` of the map scaled to [0, 1], without normalising the coefficients: an ablation.

    The DCT-II is orthonormal, so the distance between two such spectra is the distance between the two mean-free maps
    (Parseval): frequencies play no part in it (docs/method.md, Fact 5).
    """
    return dct2_coefficients(minmax(maps))


def dct2_energy(maps: Tensor) -> Tensor:
    """Return the DCT-II divided by its L2 norm, so that all spectra have the same energy; that of a constant map is 0.

    The squared distance of two such spectra is 2 - 2 r, with the correlation r of the two maps over pixels: by itself a
    plain L2 of maps, too (docs/method.md, Fact 5). It is for weights of its bands, which min-max distorts.
    """
    coefficients = dct2_coefficients(maps)
    return safe_divide(coefficients, torch.linalg.vector_norm(coefficients, dim=(1, 2), keepdim=True))


@_constant
def octaves(height: int, width: int, device: torch.device) -> Tensor:
    """Return the band (height, width) of each DCT coefficient, from 0: those up to 1, 2 to 3, 4 to 7, 8 to 15, ...

    These are the larger of its two frequencies, in half-waves across the map.
    """
    highest = torch.maximum(torch.arange(height)[:, None], torch.arange(width)[None])
    starts = 2 ** torch.arange(1, max(height, width).bit_length())
    return (highest[..., None] >= starts).sum(dim=-1).to(device)


def l2_minmax(maps: Tensor) -> Tensor:
    """Return the map scaled to [0, 1] with its mean, without a transform: an ablation, the authors' early loss."""
    return minmax(maps)


TRANSFORMS: dict[str, Transform] = {
    f.__name__: f for f in (dct2, dft_abs, dft_signed, dct2_raw, dct2_energy, l2_minmax)
}
DCTS = ("dct2", "dct2_raw", "dct2_energy")
