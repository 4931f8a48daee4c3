"""`predict`: most likely classes of images, and pictures of where the network looks."""

from __future__ import annotations

import argparse
import os
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from dctkd_zoo import registry, weights
from dctkd_zoo.cli import predict_output, shell
from dctkd_zoo.cli.arguments import add_options
from dctkd_zoo.cli.common import Commands, add_command
from dctkd_zoo.cli.predict_output import Classified, Source, Sources, percent
from dctkd_zoo.errors import DatasetError, UsageError, ZooError, printable
from dctkd_zoo.spec import EXTERNAL, NAME

if TYPE_CHECKING:
    from dctkd_zoo.prediction import Failure, Prediction
    from dctkd_zoo.predictor import Predictor

STDIN = "-"
DEFAULT = "el0_scene15.px224"  # the bundled network that is right about most photographs
OVERLAY = ".attention.png"
ABOUT = """Images are prepared as in evaluation: resized and centre-cropped, without applying the EXIF orientation.
An image that cannot be read is reported on stderr, the others are still classified, and the exit status is 1."""


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the command."""
    examples = ("examples/mountain.jpg --overlay maps", "el0_miniplaces12k examples --top 3 --json")
    text = "classify images and show where the network looks"
    command = add_command(commands, shared, "predict", text, examples, ABOUT)
    command.add_argument(
        "names",
        nargs="+",
        metavar="[NAME] IMAGE",
        help="an entry, or a network as a folder of weights, local-dir:FOLDER or hf-hub:ORG/NAME (default: "
        f"{DEFAULT}); then image files, folders of them (searched recursively), or - to read a list from stdin",
    )
    command.add_argument("--top", type=_count, default=5, metavar="K", help="number of classes to show (default: 5)")
    command.add_argument("--overlay", type=Path, metavar="DIR", help=f"write attention maps to DIR/<stem>{OVERLAY}")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of tables")
    form.add_argument(
        "--csv", metavar="FILE", help="write a table with a row per image to FILE, and print a summary (- for stdout)"
    )
    command.add_argument(
        "--weights", metavar="SOURCE", help="a folder or hf-hub:org/name[@rev], instead of the entry's own"
    )
    add_options(command, ("device",))
    command.set_defaults(run=predict)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of classes: give 1 or more")
    return int(text)


def predict(options: Namespace) -> int:
    """Classify each image; return 1 if one of them could not be read."""
    from dctkd_zoo import device
    from dctkd_zoo.predictor import load, load_external

    source, words = _split(options.names)
    if options.catalog and source != options.names[0]:
        raise UsageError(f"name one of the entries of {options.catalog} before the images")
    if all(word in registry.entries() and not Path(word).exists() for word in words):
        raise UsageError(f"no images: name some after {source}, or a folder of them")
    if options.weights and not registry.knows(source):
        raise UsageError(f"--weights replaces those of an entry, but {source} names weights itself: give one of them")
    if options.csv is not None and Path(options.csv).is_dir():
        raise ZooError(f"--csv {options.csv} is a folder: name a file")
    if options.overlay:
        options.overlay.mkdir(parents=True, exist_ok=True)  # fail now, not after the first batch
    chosen = device.choose(options.device)
    if registry.knows(source):
        predictor = load(registry.get_entry(source), chosen, options.weights)
    else:
        predictor = load_external(source, chosen)
    device.keep_memory()
    sources, failed = _sources(words)
    if not sources.images and not failed:
        raise ZooError("no images: the list on standard input is empty")
    results = _classified(options, predictor, sources.images, failed)
    try:
        if options.csv is not None:
            count = predict_output.write_csv(options.csv, predictor, results, options.top, sources, failed)
        elif options.json:
            count = predict_output.print_json(predictor, results, options.top, failed)
        else:
            count = predict_output.show_tables(predictor, results, options.top)
    finally:  # after Ctrl-C, report what is finished
        for failure in failed:
            shell.complain(failure.reason, str(failure.path))
    return int(bool(failed) or not count)


def _classified(
    options: Namespace, predictor: Predictor, images: Sequence[Source], failed: list[Failure]
) -> Iterator[Classified]:
    """Yield each image with its prediction, its overlay drawn; those that have none are added to `failed`."""
    from rich.progress import track

    from dctkd_zoo import prediction
    from dctkd_zoo.data.progress import progress_options

    names = overlay_names(image.relative for image in images) if options.overlay else repeat(PurePath())
    results = prediction.predict_files(predictor, [image.path for image in images], maps=bool(options.overlay))
    bar = progress_options()
    bar["disable"] |= not (options.json or options.csv is not None)  # the tables themselves show progress
    for image, result, name in track(zip(images, results, names, strict=False), "images", total=len(images), **bar):
        if isinstance(result, prediction.Failure):
            failed.append(result)
        else:
            overlay = _draw(predictor, image.path, result, options.overlay, name) if options.overlay else None
            yield Classified(image, result, overlay)


def _split(words: list[str]) -> tuple[str, list[str]]:
    """Return the network and the images that words name; the first one is a network if it can be one.

    `UnknownEntry` if it looks like an entry's name and is neither an entry nor a file.
    """
    from dctkd_zoo.data import filelist

    first, path = words[0], Path(words[0])
    is_folder = all((path / file).is_file() for file in (weights.CONFIG, weights.WEIGHTS))
    if registry.knows(first) or first.startswith(EXTERNAL) or is_folder:
        return first, words[1:]
    if NAME.fullmatch(first) and not path.exists() and not filelist.is_image(first):
        registry.get_entry(first)  # which names the closest entries
    return DEFAULT, words


def _sources(names: Iterable[str]) -> tuple[Sources, list[Failure]]:
    """Expand files, folders and `-` to images; also return the folders that cannot be read or hold none."""
    from dctkd_zoo.data import filelist
    from dctkd_zoo.prediction import Failure

    images, empty, others = [], [], 0
    for path in (path for name in names for path in (_listed() if name == STDIN else [Path(name)])):
        if not path.is_dir():
            images.append(Source(path, PurePath(path.name)))
            continue
        try:
            files = [name for name in filelist.below(path) if not name.endswith(OVERLAY)]
        except DatasetError as error:  # report this folder, go on with the others
            empty.append(Failure(path, str(error)))
            continue
        inside = [name for name in files if filelist.is_image(name)]
        images += [Source(path / name, PurePath(name)) for name in inside]
        others += len(files) - len(inside)
        if not inside:
            empty.append(
                Failure(path, f"no image in this folder; image files end in {' '.join(sorted(filelist.IMAGES))}")
            )
    return Sources(images, others), empty


def _listed() -> list[Path]:
    """Read paths from standard input, one per line, or NUL-terminated as `find -print0` writes them."""
    text = os.fsdecode(sys.stdin.buffer.read())
    names = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
    return [Path(name) for name in names if name]


def overlay_names(paths: Iterable[PurePath]) -> list[PurePath]:
    """Return unique overlay paths for image paths: the second `a.png` gets `a-2.attention.png`."""
    used: set[str] = set()
    counts: Counter[str] = Counter()
    names = []
    for path in paths:
        first = str(path.with_suffix("")).casefold()  # some file systems ignore case
        while True:
            counts[first] += 1
            more = f"-{counts[first]}" if counts[first] > 1 else ""
            name = path.with_name(f"{path.stem}{more}{OVERLAY}")
            if str(name).casefold() not in used:
                break
        used.add(str(name).casefold())
        names.append(name)
    return names


def _draw(predictor: Predictor, image: Path, result: Prediction, folder: Path, name: PurePath) -> Path:
    """Write an image's attention maps, captioned with its most likely class, to `name` below `folder`."""
    from dctkd_zoo._io import atomic
    from dctkd_zoo.attention_grid import strip

    assert result.image is not None
    best = f"{result.class_name} {percent(result.probability)}"
    picture = strip(result.image, result.maps, printable(f"{image.name}: {best} ({predictor.name})"))
    for part in name.parent.parts:  # one at a time: `mkdir(parents=True)` recurses once per level
        folder /= part
        folder.mkdir(exist_ok=True)
    path = folder / name.name
    with atomic.replacing(path) as temporary:
        picture.save(temporary, compress_level=3)  # 10 % larger than the smallest PNG, in a fifth of the time
    return path
