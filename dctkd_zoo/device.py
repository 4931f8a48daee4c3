"""Device and numeric precision that networks run with."""

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
    """Return the device called `name`, by default this rank's GPU or else the CPU; `DeviceNotFound` if unusable."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{distributed.local_rank()}"
    try:
        device = torch.empty(0, device=name).device
        if device.type == "cuda":
            torch.cuda.set_device(device)  # seeding and NCCL use the current device
        return device
    except (RuntimeError, AssertionError, ImportError) as error:
        raise DeviceNotFound(f"device {name!r} cannot be used: {reason_of(error).splitlines()[0]}") from error


def seed(device: torch.device, number: int) -> None:
    """Seed the generators of the CPU and the device; `torch.manual_seed` takes longer than some steps."""
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)


def amp_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the device has instructions for it, else float32 (emulated, it takes five times as long)."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Return an autocast context for `dtype`, which does nothing for float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move the model to the device, channels last in memory, the fastest layout for convolutions."""
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def keep_memory() -> None:
    """Make glibc keep freed memory instead of returning it: page faults cost half of a training step on a CPU."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # not in musl
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
            libc.mallopt(M_TOP_PAD, 2**26)


def describe(device: torch.device) -> str:
    """Return a description of the device for results and logs."""
    if device.type == "cuda":
        return kind(device)
    return f"cpu ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads)"


def kind(device: torch.device) -> str:
    """Return what rounding depends on: a GPU's model or a CPU's vector instructions; for other devices, the type."""
    match device.type:
        case "cuda":
            return torch.cuda.get_device_name(device)
        case "cpu":
            return f"cpu ({torch.backends.cpu.get_cpu_capability()})"
        case other:
            return other


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute in full float32 inside: no convolution or matrix product is rounded to TF32 or bfloat16.

    This overrides torch's settings, which by default round a GPU's convolutions to TF32.
    """
    backends = torch.backends
    cudnn: Any = backends.cudnn  # its type stubs lack these attributes
    mkldnn: Any = backends.mkldnn
    settings = (cudnn.conv, cudnn.rnn, backends.cuda.matmul, mkldnn.conv, mkldnn.rnn, mkldnn.matmul)
    before = [setting.fp32_precision for setting in settings]
    try:
        _set_float32(settings, ["ieee"] * len(settings))
        yield
    finally:
        _set_float32(settings, before)


def _set_float32(settings: Sequence[Any], values: Sequence[str]) -> None:
    # The older settings first: where they disagree with the newer ones, reading them raises, in torch's compiler too.
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # torch 2.9 deprecates them
        torch.backends.cudnn.allow_tf32 = values[0] == "tf32"
        torch.set_float32_matmul_precision(
            "medium" if values[-1] == "bf16" else "high" if values[2] == "tf32" else "highest"
        )
    for setting, value in zip(settings, values, strict=True):
        setting.fp32_precision = value


@contextmanager
def fp32_inference() -> Iterator[None]:
    """Run without gradients and in full float32 inside."""
    with torch.inference_mode(), full_float32():
        yield
