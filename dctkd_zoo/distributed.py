"""torch.distributed helpers: process group, shards of a batch, gathering and reducing over ranks.

In a single process everything here is the identity and costs nothing. Nothing is pickled between ranks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from dctkd_zoo._io import lock
from dctkd_zoo.errors import RankLost

# How long a rank waits for another, which may be building a pixel cache; one that has died is noticed at once.
TIMEOUT = timedelta(hours=12)

LOST = ("Connection closed", "Connection reset", "Broken pipe", "NCCL", "Timed out", "timed out")

T = TypeVar("T")

_size, _rank = 1, 0
_alone = False
_host: dist.ProcessGroup | None = None  # the group for CPU tensors: NCCL only handles GPU memory


def world_size() -> int:
    """Return how many ranks share a batch."""
    return 1 if _alone else _size


def rank() -> int:
    """Return the rank of this process, from 0."""
    return 0 if _alone else _rank


def is_primary() -> bool:
    """Return whether this process writes and prints the results of all ranks."""
    return _rank == 0


def local_rank() -> int:
    """Return the rank of this process on its machine, the index of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def restarted() -> bool:
    """Return whether torchrun restarted this run after a rank had died."""
    return _attempt() != "0"


def _attempt() -> str:
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")


def is_lost(error: Exception) -> bool:
    """Return whether an error is what torch raises if another rank has died."""
    return _size > 1 and isinstance(error, RuntimeError) and any(sign in str(error) for sign in LOST)


@contextmanager
def lost_rank_errors() -> Iterator[None]:
    """Turn errors that torch raises if another rank has died into `RankLost` inside."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise RankLost(f"another rank has stopped; continue with --resume ({reason})") from error


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other ranks inside if torchrun started this process; with NCCL on GPUs, gloo on CPUs."""
    global _size, _rank, _host
    started_by_torchrun = "MASTER_ADDR" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1
    if not started_by_torchrun or dist.is_initialized():
        yield
        return
    store, number, count = next(rendezvous("env://", timeout=TIMEOUT))
    # A run restarted by torchrun would otherwise find the addresses of the ranks that have died.
    store = dist.distributed_c10d.PrefixStore(f"attempt {_attempt()}", store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT, store=store, rank=number, world_size=count)
    _size, _rank = count, number
    if backend == "nccl":
        _host = dist.new_group(backend="gloo", timeout=TIMEOUT)  # type: ignore[assignment]  # a member gets a group
    try:
        yield
    finally:
        _size, _rank, _host = 1, 0, None
        dist.destroy_process_group()


@contextmanager
def local_only(enabled: bool = True) -> Iterator[None]:
    """Make each rank work on its own inside: for a batch with fewer images than ranks, which all get whole."""
    global _alone
    before, _alone = _alone, enabled
    try:
        yield
    finally:
        _alone = before


def local_slice(ids: Tensor) -> Tensor:
    """Return this rank's part of a batch's images (B,), in order; all of them if there are fewer than ranks."""
    return ids if len(ids) < world_size() else ids.tensor_split(world_size())[rank()]


def shard(items: Sequence[T]) -> Iterator[tuple[T, bool]]:
    """Yield this rank's items and True, one per round: every `world_size()`-th.

    A rank that has none left in the last round gets the first item and False, so that all ranks take part in
    collective operations; its result is to be ignored.
    """
    for start in range(0, len(items), world_size()):
        index = start + rank()
        yield (items[index], True) if index < len(items) else (items[0], False)


def all_gather_with_grad(rows: Tensor, *, equal: bool = False) -> Tensor:
    """Gather the rows (b, ...) of all ranks in order, (B, ...); gradients flow back to the rank that a row came from.

    `equal` skips exchanging the numbers of rows, if all ranks are known to have the same.
    """
    if world_size() == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows, equal)
    return gathered


def local_rows(rows: Tensor, count: int) -> Tensor:
    """Return the `count` rows of all ranks' rows (B, ...) that are this rank's."""
    start = sum(_counts(count)[: rank()]) if world_size() > 1 else 0
    return rows[start : start + count]


def all_gather_uneven(rows: Tensor) -> list[Tensor]:
    """Gather the rows (b, ...) of each rank, without gradient; ranks may have different numbers of rows, even none."""
    if world_size() == 1:
        return [rows]
    counts = _counts(len(rows))
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    return [part[:count] for part, count in zip(all_gather(padded), counts, strict=True)]


def all_gather(tensor: Tensor) -> list[Tensor]:
    """Gather the tensor of each rank, all of one shape, without gradient."""
    if world_size() == 1:
        return [tensor.detach()]
    local = tensor.detach().contiguous()
    result = [torch.empty_like(local) for _ in range(world_size())]
    dist.all_gather(result, local, _group(local))
    return result


def all_reduce_mean(values: Tensor) -> Tensor:
    """Return the mean of a tensor over the ranks, without gradient."""
    return all_reduce_sum(values) / world_size()


def all_reduce_sum(values: Tensor) -> Tensor:
    """Return the sum of a tensor over the ranks, without gradient."""
    if world_size() > 1:
        values = values.detach().clone()
        dist.all_reduce(values, group=_group(values))
    return values


def any_rank(*flags: bool) -> tuple[bool, ...]:
    """Return, for each flag, whether any rank has it set."""
    if world_size() == 1:
        return flags
    return tuple(bool(count) for count in all_reduce_sum(torch.tensor(flags, dtype=torch.int32)).tolist())


@contextmanager
def primary_lock(path: Path, *, wait: bool = True, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Keep other runs from writing `path` inside, as `lock.held` does; the primary rank holds the lock for all."""
    with lock.held(path, wait=wait, waiting=waiting) if is_primary() else nullcontext():
        yield


def barrier() -> None:
    """Wait until every rank has come this far."""
    any_rank(False)


def _counts(count: int) -> list[int]:
    return [int(item) for item in all_gather(torch.tensor(count))]


def _group(tensor: Tensor) -> dist.ProcessGroup | None:
    return _host if tensor.device.type == "cpu" else None


class _Gather(torch.autograd.Function):
    """Gathering of the rows of all ranks; their gradients are summed over the ranks that used them."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, equal: bool) -> Tensor:
        result = all_gather(rows) if equal else all_gather_uneven(rows)
        ctx.start, ctx.count = sum(len(part) for part in result[: rank()]), len(rows)
        return torch.cat(result)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = all_reduce_sum(gradients[0].contiguous())
        return gradient[ctx.start : ctx.start + ctx.count], None
