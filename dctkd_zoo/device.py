"""Where and in which precision networks run."""

from __future__ import annotations

import ctypes
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from dctkd_zoo import distributed
from dctkd_zoo.errors import DeviceNotFound, reason_of

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h


def choose(name: str | None = None) -> torch.device:
    """The device called `name`, or this rank's GPU, else the CPU; `DeviceNotFound` where torch has none."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{distributed.local_rank()}"
    try:
        device = torch.empty(0, device=name).device
        if device.type == "cuda":
            torch.cuda.set_device(device)  # whose generator is seeded, and which NCCL takes for the rank's own
        return device
    except (RuntimeError, AssertionError, ImportError) as error:
        raise DeviceNotFound(f"device {name!r} cannot be used: {reason_of(error).splitlines()[0]}") from error


def seed(device: torch.device, number: int) -> None:
    """Seed what is drawn on the CPU and on the device; `torch.manual_seed` takes longer than some steps."""
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)


def amp_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where this device has instructions for it, else float32 (emulated, it takes five times as long)."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Autocast to `dtype`; a context that does nothing for float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """The model on the device, channels last in memory, which convolutions are fastest in."""
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def keep_memory() -> None:
    """Let glibc keep freed memory instead of returning it: page faults cost half of a training step on a CPU."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # not in musl
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
            libc.mallopt(M_TOP_PAD, 2**26)


def describe(device: torch.device) -> str:
    """The device in words, for results and logs."""
    if device.type == "cuda":
        return kind(device)
    return f"cpu ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads)"


def kind(device: torch.device) -> str:
    """What rounds as the device does: a GPU's model, a CPU's vector instructions; of others the type."""
    match device.type:
        case "cuda":
            return torch.cuda.get_device_name(device)
        case "cpu":
            return f"cpu ({torch.backends.cpu.get_cpu_capability()})"
        case other:
            return other


@contextmanager
def full_float32() -> Iterator[None]:
    """Inside, float32 is float32: no convolution or product is rounded to TF32 or bfloat16, whatever torch was told.

    Unless told otherwise, torch rounds a GPU's convolutions to TF32.
    """
    backends = torch.backends
    cudnn: Any = backends.cudnn  # whose parts its types do not name
    mkldnn: Any = backends.mkldnn
    places = (cudnn.conv, cudnn.rnn, backends.cuda.matmul, mkldnn.conv, mkldnn.rnn, mkldnn.matmul)
    before = [path.fp32_precision for path in places]
    try:
        _set_float32(places, ["ieee"] * len(places))
        yield
    finally:
        _set_float32(places, before)


def _set_float32(places: Sequence[Any], values: Sequence[str]) -> None:
    # The older settings first: where they disagree with the newer, they raise when read, by torch's compiler too.
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # torch 2.9 would rather not have them set
        torch.backends.cudnn.allow_tf32 = values[0] == "tf32"
        torch.set_float32_matmul_precision(
            "medium" if values[-1] == "bf16" else "high" if values[2] == "tf32" else "highest"
        )
    for path, value in zip(places, values, strict=True):
        path.fp32_precision = value


@contextmanager
def fp32_inference() -> Iterator[None]:
    """No gradients, and no rounding of float32."""
    with torch.inference_mode(), full_float32():
        yield
