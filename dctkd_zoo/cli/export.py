"""`export`: a network as ONNX files or as a program of torch.export, evaluated before they are kept."""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dctkd_zoo import registry, weights
from dctkd_zoo.cli import shell
from dctkd_zoo.cli.arguments import add_options, positive
from dctkd_zoo.cli.common import Commands, add_command
from dctkd_zoo.cli.shell import Column, Grid
from dctkd_zoo.errors import DatasetError, UsageError, WeightsNotFound, ZooError, printable
from dctkd_zoo.spec import EXTERNAL, NAME, Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from dctkd_zoo.data.batch import Batch
    from dctkd_zoo.onnx.export import Form, Network
    from eval.run.exported import Measured, Runner

TORCH = "torch, float32"
PROGRAM = "model.pt2"
COLUMNS = (Column("network"), *(Column(t, right=True) for t in ("top-1 %", "agree", "max |Δ logit|", "MB", "ms")))
NOISE = 32  # images of noise that logits are compared on where there are no test images


@dataclass(frozen=True)
class Job:
    """What to export, and the images at hand: batches to calibrate int8 on, none without it."""

    network: Network
    form: Form
    calibration: Sequence[Batch]


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the command."""
    text = "write a network as ONNX files, or as a program of torch.export"
    examples = ("el0_scene15.px224 --int8 --data DIR", "runs/r18_photos --format pt2 --out r18")
    command = add_command(commands, shared, "export", text, examples)
    command.add_argument("name", metavar="NAME|FOLDER", help="an entry, or a folder of weights")
    command.add_argument("--format", choices=[*FORMATS], default="onnx", help="onnx (default), or pt2 of torch.export")
    command.add_argument("--int8", action="store_true", help="also quantise, calibrated on training images (onnx)")
    command.add_argument("--maps", action="store_true", help="also output the activation map of each level")
    command.add_argument("--uint8", action="store_true", help="take uint8 pixels (N, H, W, 3), normalised in the graph")
    command.add_argument(
        "--out", dest="folder", type=Path, metavar="DIR", help="folder to write into (default: one of the name)"
    )
    command.add_argument("--limit", type=positive, metavar="N", help="evaluate on N images, spread over the test set")
    command.add_argument(
        "--tolerance", type=_points, metavar="P", help="points of top-1 that a file may lose (default: 1)"
    )
    command.add_argument("--write", action="store_true", help="record what is measured in eval/exports.json")
    add_options(command, ("data",))
    command.set_defaults(run=export)


def _points(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of points from 0 to 100")
    return value


def export(options: Namespace) -> int:
    """Write the files, evaluate them and keep what is good; return 1 if a file is not."""
    from dctkd_zoo._io import atomic
    from dctkd_zoo.onnx import EVALUATION, FOLDER, optional
    from dctkd_zoo.onnx.export import CALIBRATION, Form, with_labels
    from eval.run import exported

    if options.write and (options.limit or options.format != "onnx"):
        raise UsageError("--write is for ONNX files evaluated on all test images: leave out --limit and --format")
    if options.int8 and options.format != "onnx":
        raise UsageError(f"--int8 is for --format onnx, not {options.format}")
    for module in FORMATS[options.format].needs:
        optional(module)
    network, entry = find(options.name)
    prepared = network.preprocessing()
    if options.int8 and entry is None:
        raise ZooError(
            f"--int8 needs training images to calibrate on, but {options.name} is of no entry of the catalog"
        )
    try:
        calibration = exported.calibration(entry, options.data, CALIBRATION) if entry and options.int8 else []
    except DatasetError as error:
        raise ZooError(f"--int8 needs training images to calibrate on: {error}") from error
    batches, note = _images(network, entry, prepared.size, options)
    job = Job(network, Form(options.maps, options.uint8), calibration)
    folder = options.folder or Path(network.name)
    target = folder / FOLDER if options.format == "onnx" else folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export.", dir=folder.parent) as name:
        runners = {TORCH: _torch(network), **FORMATS[options.format].write(job, Path(name))}
        measured = exported.compare(runners, batches, labelled=not note)
        reference = measured[TORCH]
        tolerance = exported.TOLERANCE if options.tolerance is None else options.tolerance
        wrong = {n: text for n, item in measured.items() if (text := exported.lost(item, reference, tolerance))}
        target.mkdir(parents=True, exist_ok=True)
        for file in FORMATS[options.format].files:  # also those of an earlier export, which are of other options
            if file in measured and file not in wrong:
                atomic.settle(runners[file].path, target / file)
            else:
                (target / file).unlink(missing_ok=True)
    if options.format == "onnx":
        kept = {n: item for n, item in measured.items() if n not in wrong}
        document = exported.document(kept, network.weights.sha256)
        _write_json(target / EVALUATION, document)
        if options.write and not note:
            exported.record(network.name, document)
        _write_json(folder / "preprocessor_config.json", prepared.transformers())
        if folder.resolve() != network.weights.folder.resolve():
            config = weights.read_config(network.weights.folder)
            _write_json(folder / weights.CONFIG, with_labels(config, network.classes))
    console = shell.console()
    shell.show(console, table(measured, network, target, note))
    for file, text in wrong.items():
        shell.complain(f"{text}: not kept", file)
    return int(bool(wrong))


def find(source: str) -> tuple[Network, Entry | None]:
    """Return a network and the entry it is of, if any; `WeightsNotFound` or `UnknownEntry` if there is none."""
    from dctkd_zoo import models
    from dctkd_zoo.onnx.export import Network
    from dctkd_zoo.predictor import class_names

    if not registry.knows(source) and not source.startswith(EXTERNAL) and not Path(source).exists():
        if NAME.fullmatch(source):
            registry.get_entry(source)  # which names the closest entries
        raise WeightsNotFound(f"{source}: neither an entry nor a folder of weights")
    found = weights.find(registry.get_entry(source)) if registry.knows(source) else weights.locate(source)
    config = weights.read_config(found.folder)
    lineage = config.get("dctkd")
    own = str(lineage.get("name")) if isinstance(lineage, dict) else ""
    name = source if registry.knows(source) else own
    entry = registry.get_entry(name) if registry.knows(name) else None
    model = models.load(entry.arch, found) if entry else models.load_any(found)
    classes = class_names(found, int(model.num_classes))  # type: ignore[arg-type]
    return Network(entry.name if entry else str(config.get("architecture")), model, found, classes), entry


def _images(network: Network, entry: Entry | None, size: int, options: Namespace) -> tuple[Iterable[Batch], str]:
    """Return the test images, or noise and the reason why there are none."""
    import torch

    from dctkd_zoo.data.batch import Batch
    from dctkd_zoo.errors import DatasetMissing
    from eval.run import cost, exported

    reason = "it is of no entry of the catalog"
    if entry:
        config = weights.read_config(network.weights.folder)
        try:
            _, views = exported.views(entry, config, options.data, options.limit)
            return views.test(64), ""
        except DatasetMissing as error:
            reason = str(error)
    noise = cost.images(NOISE, size, torch.device("cpu"))
    none = torch.zeros(NOISE, dtype=torch.long)
    return [Batch(noise, none, none)], f"No test images, so accuracy was not measured, and logits on noise: {reason}"


def _torch(network: Network) -> Runner:
    from eval.run.exported import Runner

    return Runner(
        lambda images: [network.model(images)], lambda images: images, network.weights.folder / weights.WEIGHTS
    )


def _onnx(job: Job, folder: Path) -> dict[str, Runner]:
    """Write float32, float16 and, with images to calibrate on, int8."""
    from dataclasses import replace

    from dctkd_zoo import onnx
    from dctkd_zoo.onnx import export as writing
    from dctkd_zoo.onnx import session
    from eval.run.exported import Runner

    writing.to_onnx(job.network, job.form, folder / onnx.FLOAT)
    writing.to_onnx(job.network, replace(job.form, half=True), folder / onnx.HALF)
    if job.calibration:
        feed = session.load(folder / onnx.FLOAT).feed
        writing.to_int8(folder / onnx.FLOAT, folder / onnx.INT8, [feed(batch.images) for batch in job.calibration])
    opened = [session.load(folder / name) for name in FORMATS["onnx"].files if (folder / name).is_file()]
    return {network.path.name: Runner(network.run, network.feed, network.path) for network in opened}


def _pt2(job: Job, folder: Path) -> dict[str, Runner]:
    """Write a program of torch.export."""
    from dctkd_zoo.onnx import export as writing
    from dctkd_zoo.onnx.session import pixels
    from eval.run.exported import Runner

    path, prepared = folder / PROGRAM, job.network.preprocessing()
    writing.to_program(job.network, job.form, path)
    program, _ = writing.read_program(path)

    def feed(images: Tensor) -> Tensor:
        return pixels(images, prepared.mean, prepared.std) if job.form.uint8 else images.contiguous()

    return {PROGRAM: Runner(program, feed, path)}


@dataclass(frozen=True)
class Format:
    """A format: the files that it may have, the packages that it needs, and what writes and opens them."""

    files: tuple[str, ...]
    needs: tuple[str, ...]
    write: Callable[[Job, Path], dict[str, Runner]]


FORMATS: Mapping[str, Format] = {
    "onnx": Format(
        ("model.onnx", "model_fp16.onnx", "model_quantized.onnx"), ("onnx", "onnxscript", "onnxruntime"), _onnx
    ),
    "pt2": Format((PROGRAM,), (), _pt2),
}


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    from dctkd_zoo._io import atomic

    atomic.write_text(path, json.dumps(content, indent=2) + "\n")


def table(measured: Mapping[str, Measured], network: Network, folder: Path, note: str) -> Grid:
    """Return the table of the files beside the torch network."""
    from rich.text import Text

    from eval.columns import number

    rows = [
        [
            Text(name),
            Text(number(item.top1, 2)),
            Text(number(item.agreement, 2)),
            Text(f"{item.difference:.2g}"),
            Text(f"{item.mb:.2f}"),
            Text(f"{item.latency_ms:.2f}"),
        ]
        for name, item in measured.items()
    ]
    n = measured[TORCH].n
    lines = [note or f"{n:,} test images. agree: same class as in torch, %."]
    lines.append("max |Δ logit|: from the torch network. ms: median for one image on one thread.")
    lines.append(f"Files: {folder}")
    title = f"{network.name}, sha256 {network.weights.sha256[:12]}…"
    return Grid(COLUMNS, rows, Text(title, "bold"), Text(printable("\n".join(lines), keep="\n"), "dim"))
