"""A network's weights to what it costs to run: parameters, arithmetic, time and memory, measured on this device."""

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
from torch.utils.flop_counter import FlopCounterMode

from dctkd_zoo import models
from dctkd_zoo.device import describe, full_float32, to_device
from dctkd_zoo.weights import Weights

WARM_UP, RUNS = 10, 50  # passes of one image: not timed, and timed
BATCH_SIZE, ROUNDS = 32, 5  # passes of a batch that are timed, after one that is not
STATUS = Path("/proc/self/status")  # of a process, on Linux alone
MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """What one pass to the logits costs in float32, images being on the device and of `crop` px.

    `macs` are multiply-accumulates of convolutions and matrix products, for one image; latencies are of
    one image, over `runs` passes; `peak_mib` is the network and what a pass of `batch_size` images needs,
    None where it could not be measured, which `peak_note` then explains.
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
    """Memory in MiB, or None and why."""

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
    """Everything that a network costs; on a CPU with the threads that torch has, and as busy as it is."""
    model = to_device(models.load_any(found), device)
    one, batch = (images(count, crop, device) for count in (1, batch_size))
    with full_float32():
        times = 1000 * np.array(seconds(model, one, runs, WARM_UP))
        rate = batch_size * rounds / sum(seconds(model, batch, rounds, 1))
    peak = PEAKS.get(device.type, unknown_peak)(model, found.folder, batch)
    return Cost(
        crop=crop,
        parameters=models.parameters(model),
        macs=macs(model, one),
        latency_ms=float(np.median(times)),
        latency_p95_ms=float(np.quantile(times, 0.95)),
        runs=runs,
        batch_size=batch_size,
        images_per_s=rate,
        peak_mib=peak.mib,
        peak_note=peak.note,
        device=describe(device),
    )


def images(count: int, crop: int, device: torch.device) -> Tensor:
    """Noise (B, 3, S, S), channels last."""
    noise = torch.randn(count, 3, crop, crop, generator=torch.Generator().manual_seed(0))
    return noise.to(device, memory_format=torch.channels_last)


def macs(model: nn.Module, images: Tensor) -> int:
    """Multiply-accumulates of the convolutions and matrix products of a pass (torch counts each as two).

    Counted on the meta device, which computes nothing: a CPU's or GPU's fused attention and recurrent layers are one
    operation each there, of which torch knows no count.
    """
    named = (*model.named_parameters(), *model.named_buffers())
    shapes = {name: tensor.detach().to("meta") for name, tensor in named}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        functional_call(model, shapes, images.to("meta"))
    return int(counter.get_total_flops()) // 2


def seconds(model: nn.Module, images: Tensor, runs: int, warm_up: int) -> list[float]:
    """How long each of `runs` passes takes to its end on the device, after some that are not timed."""
    taken = []
    with torch.inference_mode():
        for _ in range(warm_up + runs):
            finish(images.device)
            start = time.perf_counter()
            model(images)
            finish(images.device)
            taken.append(time.perf_counter() - start)
    return taken[warm_up:]


def finish(device: torch.device) -> None:
    """Wait for a device that works on its own."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def gpu_peak(model: nn.Module, folder: Path, batch: Tensor) -> Peak:
    """Most bytes that torch held on the GPU during a pass, less what else this process has there."""
    torch.cuda.reset_peak_memory_stats(batch.device)
    others = torch.cuda.memory_allocated(batch.device) - held(model, batch)
    seconds(model, batch, 1, 0)
    return Peak((torch.cuda.max_memory_allocated(batch.device) - others) / MIB)


def cpu_peak(model: nn.Module, folder: Path, batch: Tensor) -> Peak:
    """The same of a pass on the CPU, asked of a fresh process: in this one it would find memory that others left."""
    if not STATUS.exists():
        return Peak(None, "only Linux tells the peak memory of a process since its start")
    meta = [str(folder.resolve()), str(len(batch)), str(batch.shape[-1])]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", __name__, *meta], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return Peak(None, f"the process that was to measure it failed: {reason}")
    return Peak(float(done.stdout.split()[-1]))


def unknown_peak(model: nn.Module, folder: Path, batch: Tensor) -> Peak:
    """For devices that do not tell."""
    return Peak(None, f"not known how to ask a device of type {batch.device.type}")


PEAKS: dict[str, Callable[[nn.Module, Path, Tensor], Peak]] = {"cpu": cpu_peak, "cuda": gpu_peak}


def held(model: nn.Module, batch: Tensor) -> int:
    """Bytes of a network and of the images it is given."""
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers(), batch))


def resident(field: str) -> int:
    """Bytes of `VmRSS`, what this process holds, or `VmHWM`, the most that it held."""
    lines = (line.split() for line in STATUS.read_text().splitlines())
    return next(int(words[1]) * 1024 for words in lines if words[0] == f"{field}:")


def main(folder: str, batch_size: str, crop: str) -> None:
    """Print what `cpu_peak` asks for, in MiB: the network, its images, and how far a pass takes the process up.

    Before that a pass of one image has loaded the code that runs it, which is no memory of the network's.
    """
    device = torch.device("cpu")
    model, batch = (
        to_device(models.load_any(Weights(Path(folder), "", "")), device),
        images(int(batch_size), int(crop), device),
    )
    seconds(model, batch[:1], 1, 0)
    STATUS.with_name("clear_refs").write_text("5")  # VmHWM starts again from VmRSS (man 5 proc)
    before = resident("VmRSS")
    seconds(model, batch, 1, 0)
    print((held(model, batch) + resident("VmHWM") - before) / MIB)


if __name__ == "__main__":
    main(*sys.argv[1:])
