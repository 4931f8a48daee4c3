"""Measurements of a piece of work: time, memory and profiles."""

from __future__ import annotations

import cProfile
import io
import pstats
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

Work = Callable[[], object]

SHOWN = 15  # rows of a profile


def finish() -> None:
    """Synchronise the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Work) -> float:
    """Return how many seconds a piece of work takes, including work on the device."""
    finish()
    start = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - start


def profiled(work: Work) -> str:
    """Return torch.profiler's table of the most expensive operators."""
    gpu = torch.cuda.is_available()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as profiler:
        seconds(work)
    by = "self_device_time_total" if gpu else "self_cpu_time_total"
    return str(profiler.key_averages().table(sort_by=by, row_limit=SHOWN, max_name_column_width=60))


def functions(work: Work) -> str:
    """Return cProfile's table of the slowest functions in this thread, for work that does not use torch."""
    profiler, text = cProfile.Profile(), io.StringIO()
    profiler.runcall(work)
    pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(SHOWN)
    return text.getvalue()


def peak(work: Work) -> float:
    """Return the peak memory of this process after the work, in MiB."""
    work()
    return _memory("VmHWM")


def growth(work: Work) -> float:
    """Return how far the work raises the peak memory of this process above its memory before, in MiB."""
    before = _memory("VmRSS")
    work()
    return _memory("VmHWM") - before


def _memory(field: str) -> float:
    # `getrusage` is the fallback, because its peak is inherited from the parent process.
    status = Path("/proc/self/status")
    if status.exists():
        result = next(line for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
        return int(result.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
