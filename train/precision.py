"""Choice of the number format of training, by measurement where the processor decides which is faster."""

from __future__ import annotations

import hashlib
import json
import platform
import time

import torch
from rich.console import Console
from torch import nn

from dctkd_zoo import distributed, models
from dctkd_zoo._io import json_file
from dctkd_zoo._io.paths import cache_home
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.device import amp_dtype, autocast, describe, to_device
from dctkd_zoo.features import run
from dctkd_zoo.spec import Entry
from train.checkpoint import Progress
from train.config import DTYPES, TrainConfig

MARGIN = 1.1  # float32 has to be this much faster, so that noise does not decide
IMAGES = 16  # batch size of the measurement
ROUNDS, SECONDS = 5, 10.0  # maximum repetitions and time
WORTH = 20_000  # images of a whole run below which measuring takes longer than it saves


def chosen(
    entry: Entry, batch: Batch, images: int, config: TrainConfig, console: Console, resumed: Progress | None = None
) -> str | None:
    """Return the precision to train in: given or of the recipe, that of the `resumed` run, or float32 if faster.

    None stands for bfloat16 where the device has instructions for it. On a CPU these make dense convolutions twice as
    fast and depthwise ones half as fast, so the student itself is measured, on the images of `batch`. `images` are
    those of the training set.
    """
    if config.precision or entry.recipe.precision:
        return config.precision or entry.recipe.precision
    if resumed:
        name = str(resumed.facts["precision"]).removeprefix("torch.")
        return None if DTYPES[name] == amp_dtype(config.device) else name
    measurable = config.device.type == "cpu" and amp_dtype(config.device) == torch.bfloat16
    if not measurable or entry.recipe.epochs * images < WORTH:
        return None
    ratio = kept(entry, batch, config) if distributed.is_primary() else 0.0
    if not distributed.any_rank(ratio > MARGIN)[0]:
        return None
    console.print(f"precision: float32, {ratio:.1f} times as fast for this network here as bfloat16", highlight=False)
    return "float32"


def kept(entry: Entry, batch: Batch, config: TrainConfig) -> float:
    """Return `speed_of_float32` as it was first measured on this machine, so that a noisy moment changes no later run.

    It counts for the same network, size of images, device, number of threads and version of torch.
    """
    facts = [entry.arch, *batch.images.shape, describe(config.device), platform.processor(), str(torch.__version__)]
    path = cache_home() / "precision" / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]}.json"
    return float(json_file.kept(path, lambda: speed_of_float32(entry, batch, config), "the speed of float32"))


def speed_of_float32(entry: Entry, batch: Batch, config: TrainConfig) -> float:
    """Return how many times as fast as in bfloat16 an entry's network trains in float32, by the fastest of a few steps.

    Torch's random state is as before.
    """
    with torch.random.fork_rng(devices=[]):
        model = models.create(entry.arch, int(batch.labels.max()) + 2, entry.recipe.crop)
        network = to_device(model, config.device).train()
        times: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
        begun = time.perf_counter()
        for number in range(1 + ROUNDS):
            for dtype, results in times.items():
                seconds = _step(network, batch, dtype)
                if number:  # the first one allocates
                    results.append(seconds)
            if number and time.perf_counter() - begun > SECONDS:
                break
    return min(times[torch.bfloat16]) / min(times[torch.float32])


def _step(network: nn.Module, batch: Batch, dtype: torch.dtype) -> float:
    start = time.perf_counter()
    with autocast(batch.images.device, dtype):
        output = run(network, batch.images)
        value = output.logits.float().square().mean()
    value.backward()
    network.zero_grad(set_to_none=True)
    return time.perf_counter() - start
