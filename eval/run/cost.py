"""Cost of inference: parameters, multiply-accumulates, latency, throughput and memory, measured on this device."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from dctkd_zoo.device import describe, full_float32, to_device
from dctkd_zoo.weights import Weights

WARM_UP, RUNS = 10, 50  # passes of one image: untimed, then timed
BATCH_SIZE, ROUNDS = 32, 5  # timed passes of a batch, after one untimed pass
STATUS = Path("/proc/self/status")  # memory of a process, Linux only
MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """Cost of a forward pass in float32, for images of `crop` px that are already on the device.

    `macs` are the multiply-accumulates of convolutions and matrix products, for one image. Latencies are for one
    image, over `runs` passes. `peak_mib` is the memory of the network and of a pass of `batch_size` images; None if
    it could not be measured, in which case `peak_note` says why.
    """

    crop: int
    parameters: int
    macs: int
    latency_ms: float  # median
    latency_p95_ms: float
    runs: int
    batch_size: int
    images_per_s: float
    peak_mib: float | None
    peak_note: str
    device: str


@dataclass(frozen=True)
class Peak:
    """Peak memory in MiB, or None and the reason."""

    mib: float | None
    note: str = ""


def measure(
    found: Weights,
    crop: int,
    device: torch.device,
    batch_size: int = BATCH_SIZE,
    runs: int = RUNS,
    rounds: int = ROUNDS,
) -> Cost:
    """Measure the cost of a network; on a CPU, with the number of threads that torch is set to."""
    from dctkd_zoo import models  # here: it imports timm, which takes seconds

    model = to_device(models.load_any(found), device)
    one, batch = (images(count, crop, device) for count in (1, batch_size))
    with full_float32():
        times = 1000 * np.array(seconds(model, one, runs, WARM_UP))
        images_per_s = batch_size * rounds / sum(seconds(model, batch, rounds, 1))
    peak = PEAKS.get(device.type, unknown_peak)(model, found.folder, batch)
    return Cost(
        crop=crop,
        parameters=models.parameters(model),
        macs=macs(model, one),
        latency_ms=float(np.median(times)),
        latency_p95_ms=float(np.quantile(times, 0.95)),
        runs=runs,
        batch_size=batch_size,
        images_per_s=images_per_s,
        peak_mib=peak.mib,
        peak_note=peak.note,
        device=describe(device),
    )


def images(count: int, crop: int, device: torch.device) -> Tensor:
    """Return random images (B, 3, S, S), channels last."""
    noise = torch.randn(count, 3, crop, crop, generator=torch.Generator().manual_seed(0))
    return noise.to(device, memory_format=torch.channels_last)


def macs(model: nn.Module, images: Tensor) -> int:
    """Return the multiply-accumulates of the convolutions and matrix products of a pass (torch counts each as two).

    They are counted on the meta device, because on a CPU or GPU fused attention and recurrent layers are a single
    operation that torch cannot count.
    """
    from torch.utils.flop_counter import FlopCounterMode  # slow to import

    named = (*model.named_parameters(), *model.named_buffers())
    shapes = {name: tensor.detach().to("meta") for name, tensor in named}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        functional_call(model, shapes, images.to("meta"))
    return int(counter.get_total_flops()) // 2


def seconds(model: Callable[[Tensor], object], images: Tensor, runs: int, warm_up: int) -> list[float]:
    """Return the seconds that each of `runs` passes takes, synchronised, after `warm_up` untimed passes."""
    times = []
    with torch.inference_mode():
        for _ in range(warm_up + runs):
            finish(images.device)
            start = time.perf_counter()
            model(images)
            finish(images.device)
            times.append(time.perf_counter() - start)
    return times[warm_up:]


def finish(device: torch.device) -> None:
    """Wait until the device has finished; a CPU always has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def gpu_peak(model: nn.Module, folder: Path, batch: Tensor) -> Peak:
    """Return the peak memory that torch allocates on the GPU in a pass, minus what this process holds for others."""
    torch.cuda.reset_peak_memory_stats(batch.device)
    others = torch.cuda.memory_allocated(batch.device) - held(model, batch)
    seconds(model, batch, 1, 0)
    return Peak((torch.cuda.max_memory_allocated(batch.device) - others) / MIB)


def cpu_peak(model: nn.Module, folder: Path, batch: Tensor) -> Peak:
    """Return the peak memory of a pass on the CPU, measured in a new process, which has no memory left over."""
    if not STATUS.exists():
        return Peak(None, "the peak memory of a process can be measured only on Linux")
    arguments = [str(folder.resolve()), str(len(batch)), str(batch.shape[-1])]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", __name__, *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return Peak(None, f"the process that measures peak memory failed: {reason}")
    return Peak(float(done.stdout.split()[-1]))


def unknown_peak(model: nn.Module, folder: Path, batch: Tensor) -> Peak:
    """Return no value, for devices whose memory use cannot be read."""
    return Peak(None, f"peak memory cannot be measured on a device of type {batch.device.type}")


PEAKS: dict[str, Callable[[nn.Module, Path, Tensor], Peak]] = {"cpu": cpu_peak, "cuda": gpu_peak}


def held(model: nn.Module, batch: Tensor) -> int:
    """Return the bytes of a network and of a batch of images."""
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers(), batch))


def resident(field: str) -> int:
    """Return the memory of this process in bytes: `VmRSS` is the current, `VmHWM` the peak value."""
    lines = (line.split() for line in STATUS.read_text().splitlines())
    return next(int(words[1]) * 1024 for words in lines if words[0] == f"{field}:")


def main(folder: str, batch_size: str, crop: str) -> None:
    """Print the peak memory for `cpu_peak` in MiB: the network, its images, and the increase during a pass.

    A pass of one image comes first, so that the code it loads is not counted.
    """
    from dctkd_zoo import models

    device = torch.device("cpu")
    model, batch = (
        to_device(models.load_any(Weights(Path(folder), "", "")), device),
        images(int(batch_size), int(crop), device),
    )
    seconds(model, batch[:1], 1, 0)
    STATUS.with_name("clear_refs").write_text("5")  # resets VmHWM to VmRSS (man 5 proc)
    before = resident("VmRSS")
    seconds(model, batch, 1, 0)
    print((held(model, batch) + resident("VmHWM") - before) / MIB)


if __name__ == "__main__":
    main(*sys.argv[1:])
