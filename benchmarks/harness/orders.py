"""What is measured of a piece of work: its time, the memory that it takes, and what its time goes to."""

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

SHOWN = 15  # lines of a profile


def finish() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Work) -> float:
    """How long a piece of work takes, to its end on the device."""
    finish()
    start = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - start


def profiled(work: Work) -> str:
    """torch.profiler's table of the most expensive operators."""
    gpu = torch.cuda.is_available()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as profiler:
        seconds(work)
    by = "self_device_time_total" if gpu else "self_cpu_time_total"
    return str(profiler.key_averages().table(sort_by=by, row_limit=SHOWN, max_name_column_width=60))


def functions(work: Work) -> str:
    """CProfile's table of the functions that take longest, of this thread: for work that torch has no part in."""
    profiler, text = cProfile.Profile(), io.StringIO()
    profiler.runcall(work)
    pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(SHOWN)
    return text.getvalue()


def peak(work: Work) -> float:
    """The most memory that this process has held when the work is done, in MiB."""
    work()
    return _memory("VmHWM")


def growth(work: Work) -> float:
    """How far the work takes this process above what it holds before, at its peak, in MiB."""
    before = _memory("VmRSS")
    work()
    return _memory("VmHWM") - before


def _memory(field: str) -> float:
    # Not `getrusage` where there is another way: its peak starts from that of the process that started this one.
    status = Path("/proc/self/status")
    if status.exists():
        result = next(line for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
        return int(result.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
