"""`predict`: most likely classes of images, and pictures of where the network looks."""

from __future__ import annotations

import argparse
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from dctkd_zoo import registry, weights
from dctkd_zoo.cli import shell
from dctkd_zoo.cli.arguments import add_options
from dctkd_zoo.cli.common import Commands, add_command
from dctkd_zoo.errors import DatasetError, UsageError, ZooError, printable
from dctkd_zoo.spec import EXTERNAL, NAME

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from dctkd_zoo.predict import Failure, Prediction, Predictor

STDIN = "-"
DEFAULT = "el0_scene15.px224"  # the bundled network that is right about most photographs
OVERLAY = ".attention.png"
BAR = 24  # terminal columns of the bar for a probability of 1
LONGEST = 48  # terminal columns for a class name
SHARE = 9  # terminal columns for the probability
COLUMNS = (shell.Column("class"), shell.Column("probability", right=True), shell.Column("share"))
ABOUT = """Images are prepared as in evaluation: resized and centre-cropped, without applying the EXIF orientation.
An image that cannot be read is reported on stderr, the others are still classified, and the exit status is 1."""


@dataclass(frozen=True)
class Source:
    """An image file, and its path relative to the folder given, which its overlay keeps."""

    path: Path
    relative: PurePath


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
    command.add_argument("--json", action="store_true", help="print JSON instead of tables")
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
    from rich.progress import track

    from dctkd_zoo import device
    from dctkd_zoo import predict as prediction
    from dctkd_zoo.data.progress import progress_options

    source, words = _split(options.names)
    if options.catalog and source != options.names[0]:
        raise UsageError(f"name one of the entries of {options.catalog} before the images")
    if all(word in registry.entries() and not Path(word).exists() for word in words):
        raise UsageError(f"no images: name some after {source}, or a folder of them")
    if options.weights and not registry.knows(source):
        raise UsageError(f"--weights replaces those of an entry, but {source} names weights itself: give one of them")
    if options.overlay:
        options.overlay.mkdir(parents=True, exist_ok=True)  # fail now, not after the first batch
    chosen = device.choose(options.device)
    if registry.knows(source):
        predictor = prediction.load(registry.get_entry(source), chosen, options.weights)
    else:
        predictor = prediction.load_external(source, chosen)
    device.keep_memory()
    images, failed = _sources(words)
    if not images and not failed:
        raise ZooError("no images: the list on standard input is empty")
    console = shell.console()
    console.quiet = options.json
    console.print(_heading(predictor))
    results = zip(
        prediction.predict(predictor, [image.path for image in images]),
        overlay_names(image.relative for image in images),
        strict=True,
    )
    bar = progress_options()
    bar["disable"] |= not options.json  # the tables themselves show progress
    records = []
    try:
        for result, name in track(results, "images", total=len(images), **bar):
            if isinstance(result, prediction.Failure):
                failed.append(result)
                continue
            overlay = _draw(predictor, result, options.overlay, name) if options.overlay else None
            records.append(_facts(predictor, result, options.top, overlay))
            _show(console, predictor, result, options.top, overlay)
    finally:  # after Ctrl-C, report what is finished
        for failure in failed:
            shell.complain(failure.reason, str(failure.path))
        if options.json:
            print(_document(predictor, records, failed))
    return int(bool(failed) or not records)


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


def _sources(names: Iterable[str]) -> tuple[list[Source], list[Failure]]:
    """Expand files, folders and `-` to images; also return the folders that cannot be read or hold none."""
    from dctkd_zoo.data import filelist
    from dctkd_zoo.predict import Failure

    images, empty = [], []
    for path in (path for name in names for path in (_listed() if name == STDIN else [Path(name)])):
        if not path.is_dir():
            images.append(Source(path, PurePath(path.name)))
            continue
        try:
            inside = [name for name in filelist.below(path) if filelist.is_image(name) and not name.endswith(OVERLAY)]
        except DatasetError as error:  # report this folder, go on with the others
            empty.append(Failure(path, str(error)))
            continue
        images += [Source(path / name, PurePath(name)) for name in inside]
        if not inside:
            empty.append(
                Failure(path, f"no image in this folder; image files end in {' '.join(sorted(filelist.IMAGES))}")
            )
    return images, empty


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


def _draw(predictor: Predictor, result: Prediction, folder: Path, name: PurePath) -> Path:
    """Write an image's attention maps, captioned with its most likely class, to `name` below `folder`."""
    from dctkd_zoo._io import atomic
    from dctkd_zoo.attention_grid import strip

    ((label, probability),) = result.top(1)
    best = f"{predictor.classes[label]} {_percent(probability)}"
    picture = strip(result.image, result.maps, printable(f"{result.path.name}: {best} ({predictor.name})"))
    for part in name.parent.parts:  # one at a time: `mkdir(parents=True)` recurses once per level
        folder /= part
        folder.mkdir(exist_ok=True)
    path = folder / name.name
    with atomic.replacing(path) as temporary:
        picture.save(temporary, compress_level=3)  # 10 % larger than the smallest PNG, in a fifth of the time
    return path


def _facts(predictor: Predictor, result: Prediction, count: int, overlay: Path | None) -> dict[str, Any]:
    classes = [
        {"label": label, "class": predictor.classes[label], "probability": probability}
        for label, probability in result.top(count)
    ]
    facts = {"path": str(result.path), "classes": classes, "notes": list(result.notes)}
    return facts | ({"overlay": str(overlay)} if overlay else {})


def _document(predictor: Predictor, records: list[dict[str, Any]], failed: Iterable[Failure]) -> str:
    weights = {"origin": predictor.weights.origin, "sha256": predictor.weights.sha256}
    failures = [{"path": str(failure.path), "error": failure.reason} for failure in failed]
    facts = {"name": predictor.name, "weights": weights, "images": records, "failed": failures}
    return json.dumps(facts, indent=2, allow_nan=False)


def _heading(predictor: Predictor) -> Text:
    """Return the line above the results: the entry, and the origin and hash of its weights."""
    from rich.text import Text

    weights = predictor.weights
    return Text(predictor.name, "bold").append(f", {weights.origin}, sha256 {weights.sha256[:12]}…\n", "not bold dim")


def _show(console: Console, predictor: Predictor, result: Prediction, count: int, overlay: Path | None) -> None:
    """Print an image's path, notes and most likely classes; names are not parsed as markup."""
    from rich.cells import cell_len
    from rich.text import Text

    longest = max(cell_len(printable(name)) for name in predictor.classes)
    room = max(0, min(longest, LONGEST, console.width - SHARE))  # the same for all images, so that numbers align
    rows = []
    for row, (label, probability) in enumerate(result.top(count)):
        style, name = "" if row else "bold", printable(predictor.classes[label])
        bar = Text(("-" if console.options.ascii_only else "━") * round(BAR * probability), "cyan")
        rows.append([Text(name + " " * (room - cell_len(name)), style), Text(_percent(probability), style), bar])
    console.print(Text(printable(result.path), "bold cyan"), soft_wrap=True)
    for note in result.notes:
        console.print(Text(note, "yellow"), soft_wrap=True)
    shell.show(console, shell.Grid(COLUMNS, rows, spare=("share",), header=False))
    if overlay:
        console.print(Text(f"attention: {printable(overlay)}", "dim"), soft_wrap=True)
    console.print()


def _percent(probability: float) -> str:
    return f"{100 * probability:.1f} %" if probability >= 0.0005 else "< 0.1 %"
