"""Images that no store holds to windows of them, decoded some batches before they are asked for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dctkd_zoo.errors import DatasetError, Undecodable

AHEAD = 3  # batches that are decoded while one is trained on

Pixels = NDArray[np.uint8]
Window = tuple[int, int, int]  # image, top, left


def crops(load: Callable[[int], Pixels], batches: Iterable[Iterable[Window]], size: int) -> Iterator[Tensor]:
    """Square windows of the images that `load` decodes and resizes, uint8 (B, size, size, 3), a batch at a time.

    `DatasetError` for an image that does not decode any more.
    """

    def one(index: int, top: int, left: int) -> Pixels:
        return load(index)[top : top + size, left : left + size]

    pool = ThreadPoolExecutor(os.cpu_count())  # Pillow releases the interpreter's lock
    waiting: deque[list[Future[Pixels]]] = deque()
    try:
        for batch in batches:
            waiting.append([pool.submit(one, *window) for window in batch])
            if len(waiting) > AHEAD:
                yield _stacked(waiting.popleft())
        while waiting:
            yield _stacked(waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _stacked(futures: list[Future[Pixels]]) -> Tensor:
    try:
        return torch.from_numpy(np.stack([future.result() for future in futures]))
    except Undecodable as error:
        raise DatasetError(f"{error}: it decoded when the data set was first read") from error
