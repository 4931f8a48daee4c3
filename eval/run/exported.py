"""Exported networks: compared with the torch network that they were made of, and checked before they are published."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dctkd_zoo import registry, weights
from dctkd_zoo._io import atomic, hashing, json_file, paths
from dctkd_zoo.data import load
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.loader import ImageLoader, derive_seed
from dctkd_zoo.data.split import Split
from dctkd_zoo.device import fp32_inference
from dctkd_zoo.errors import CorruptFile, ZooError
from dctkd_zoo.onnx import EVALUATION, FOLDER
from dctkd_zoo.spec import Entry
from eval.run import cost
from eval.run.setup import check_classes, check_preprocessing, open_views, test_split

RECORDED = Path(__file__).parents[1] / "exports.json"
TOLERANCE = 1.0  # points of top-1 that an exported network may lose
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Runner:
    """A network in some runtime: `run` maps its input to its outputs, the logits first, `feed` images to its input."""

    run: Callable[[Tensor], Sequence[Any]]
    feed: Callable[[Tensor], Tensor]
    path: Path


@dataclass(frozen=True)
class Measured:
    """An exported network beside the torch network in float32.

    `top1` and `agreement` with the torch network are in percent, over `n` test images; None without test images, where
    the n images are noise. `difference` is the largest between their logits, `latency_ms` the median for one image on
    one thread.
    """

    sha256: str
    n: int
    top1: float | None
    agreement: float | None
    difference: float
    mb: float
    latency_ms: float


def compare(runners: Mapping[str, Runner], batches: Iterable[Batch], *, labelled: bool) -> dict[str, Measured]:
    """Run all networks on the same images, and measure them against the first.

    `labelled`: whether these are test images. Each batch is read once. Latencies are measured one network after the
    other, on one thread.
    """
    logits: dict[str, list[Tensor]] = {name: [] for name in runners}
    labels, image = [], None
    with fp32_inference():
        for batch in batches:
            image = batch.images[:1] if image is None else image
            labels.append(batch.labels)
            for name, runner in runners.items():
                logits[name].append(torch.as_tensor(runner.run(runner.feed(batch.images))[0]).double())
        assert image is not None, "no images"
        latencies = {name: latency(runner, image) for name, runner in runners.items()}
    joined, expected = {name: torch.cat(parts) for name, parts in logits.items()}, torch.cat(labels)
    reference = next(iter(joined.values()))
    return {
        name: Measured(
            hashing.sha256(runners[name].path),
            len(expected),
            _percent(own.argmax(dim=1) == expected) if labelled else None,
            _percent(own.argmax(dim=1) == reference.argmax(dim=1)) if labelled else None,
            float((own - reference).abs().max()),
            runners[name].path.stat().st_size / 1e6,
            latencies[name],
        )
        for name, own in joined.items()
    }


def latency(runner: Runner, image: Tensor) -> float:
    """Return the median latency in ms of one image (1, 3, S, S) on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return 1000 * float(np.median(cost.seconds(runner.run, runner.feed(image), cost.RUNS, cost.WARM_UP)))
    finally:
        torch.set_num_threads(threads)


def _percent(hits: Tensor) -> float:
    return 100 * float(hits.double().mean())


def lost(measured: Measured, reference: Measured, tolerance: float) -> str:
    """Return what is wrong with an exported network; empty if it is good, or if there were no test images to tell."""
    if not math.isfinite(measured.difference):
        return "its logits are not finite"
    if measured.top1 is None or reference.top1 is None or reference.top1 - measured.top1 <= tolerance:
        return ""
    return (
        f"top-1 is {measured.top1:.2f} % on {measured.n:,} test images, {reference.top1 - measured.top1:.2f} points "
        f"below the {reference.top1:.2f} % of the torch network; {tolerance:g} are tolerated"
    )


def calibration(entry: Entry, data: Path | None, count: int) -> list[Batch]:
    """Return `count` training images of an entry, drawn with a seed and centre-cropped; `DatasetError` without them."""
    train = load.load(registry.get_dataset(entry.dataset), data)["train"]
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(derive_seed(0, "calibration")))
    return [*open_views(entry, train.take(sorted(order[:count].tolist())), CPU).test(16)]


def views(entry: Entry, config: Mapping[str, Any], data: Path | None, limit: int | None) -> tuple[Split, ImageLoader]:
    """Return the test images for a network with this `config.json`; `DatasetError` if it does not fit."""
    dataset = registry.get_dataset(entry.dataset)
    check_preprocessing(entry, dataset, config)
    split = test_split(dataset, data, limit)
    check_classes(entry.name, config.get("label_names", []), split.classes)
    return split, open_views(entry, split, CPU)


def document(measured: Mapping[str, Measured], weights_sha256: str) -> dict[str, Any]:
    """Return the content of `evaluation.json`: the torch network, and each file by its name."""
    (_, reference), *files = measured.items()
    return {
        "weights_sha256": weights_sha256,
        "torch": asdict(reference),
        "files": {name: asdict(item) for name, item in files},
    }


def record(name: str, content: Mapping[str, Any], path: Path = RECORDED) -> None:
    """Write what was measured of an entry's files, the `document`, into a file with one for each entry."""
    paths.refuse_installed(path, "leave out --write")
    known = {**recorded(path), name: dict(content)}
    ordered = {name: known[name] for name in sorted(known, key=registry.natural_key)}
    atomic.write_text(path, json.dumps(ordered, indent=2) + "\n")


def recorded(path: Path = RECORDED) -> dict[str, Any]:
    """Return the content of that file; empty if there is none."""
    return json_file.read_object(path, CorruptFile, "restore it from git") if path.exists() else {}


def check(folder: Path) -> list[Path]:
    """Return the ONNX files of a run folder; `ZooError` if one is not that which was evaluated, or was not good.

    None if the folder has no ONNX files.
    """
    files = sorted((folder / FOLDER).glob("*.onnx"))
    if not files:
        return []
    path, again = folder / FOLDER / EVALUATION, f"run `dctkd-zoo export {folder} --out {folder}` again"
    if not path.is_file():
        raise ZooError(f"{folder / FOLDER}: no {EVALUATION}: {again}")
    content = json_file.read_object(path, CorruptFile, again)
    try:
        reference, known = Measured(**content["torch"]), {k: Measured(**v) for k, v in content["files"].items()}
        made_of = content["weights_sha256"]
    except (AttributeError, KeyError, TypeError) as error:
        raise CorruptFile(f"{path}: {error}: {again}") from error
    if made_of != weights.read_hashes(folder).get(weights.WEIGHTS):
        raise ZooError(f"{folder / FOLDER}: made of other weights ({made_of!s:.12}) than those beside it: {again}")
    for file in files:
        if file.name not in known or known[file.name].sha256 != hashing.sha256(file):
            raise ZooError(f"{file}: not the file that {EVALUATION} is about: {again}")
        if known[file.name].top1 is None:
            raise ZooError(f"{file}: not evaluated on test images: {again}, with --data")
        if wrong := lost(known[file.name], reference, TOLERANCE):
            raise ZooError(f"{file}: {wrong}: delete it")
    return [*files, path]
