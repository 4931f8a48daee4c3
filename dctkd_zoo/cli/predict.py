"""`predict`: the likeliest classes of images, and pictures of where the network looked."""

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

from dctkd_zoo import registry
from dctkd_zoo.cli import shell
from dctkd_zoo.cli.common import Commands
from dctkd_zoo.cli.shell import add_options
from dctkd_zoo.errors import DatasetError, ZooError, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from dctkd_zoo.predict import Failure, Prediction, Predictor

STDIN = "-"
OVERLAY = ".attention.png"
BAR = 24  # columns of the bar that is a probability of 1
LONGEST = 48  # columns that are kept for a class's name
SHARE = 9  # columns of the probability beside it
COLUMNS = (shell.Column("class"), shell.Column("probability", right=True), shell.Column("share"))
ABOUT = """Images are prepared as in evaluation: resized, cropped at the centre; their EXIF orientation is not applied.
An image that cannot be read is named on the error stream, the others go on, and the exit status is 1."""


@dataclass(frozen=True)
class Source:
    """An image to look at, and its place below the folder that was named, which its overlay keeps."""

    path: Path
    place: PurePath


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the command."""
    command = commands.add_parser(
        "predict", parents=[shared], help="classify images, and show where the network looks", epilog=ABOUT
    )
    command.add_argument("name", metavar="NAME", help="an entry")
    command.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="a file, a folder with all below it, or - for a list on stdin",
    )
    command.add_argument("--top", type=_count, default=5, metavar="K", help="likeliest classes to show (5)")
    command.add_argument("--overlay", type=Path, metavar="DIR", help=f"write each image's maps to DIR/<stem>{OVERLAY}")
    command.add_argument("--json", action="store_true", help="print JSON in place of tables")
    command.add_argument("--weights", metavar="SOURCE", help="a folder or hf-hub:org/name[@rev], not the entry's own")
    add_options(command, ("device",))
    command.set_defaults(run=predict)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of classes: 1 or more")
    return int(text)


def predict(options: Namespace) -> int:
    """Say what each image shows; 1 where one of them could not be read."""
    from rich.progress import track

    from dctkd_zoo import device
    from dctkd_zoo import predict as prediction
    from dctkd_zoo.data.progress import progress_options

    entry = registry.get_entry(options.name)
    if options.overlay:
        options.overlay.mkdir(parents=True, exist_ok=True)  # now, not after the first batch
    predictor = prediction.load(entry, device.choose(options.device), options.weights)
    device.keep_memory()
    images, failed = _sources(options.images)
    if not images and not failed:
        raise ZooError("no images: standard input lists none")
    console = shell.console()
    console.quiet = options.json
    console.print(_heading(predictor))
    answers = zip(
        prediction.predict(predictor, [image.path for image in images]),
        overlay_names(image.place for image in images),
        strict=True,
    )
    bar = progress_options()
    bar["disable"] |= not options.json  # tables come as fast as answers do
    meta = []
    try:
        for answer, name in track(answers, "images", total=len(images), **bar):
            if isinstance(answer, prediction.Failure):
                failed.append(answer)
                continue
            drawn = _draw(predictor, answer, options.overlay, name) if options.overlay else None
            meta.append(_facts(predictor, answer, options.top, drawn))
            _show(console, predictor, answer, options.top, drawn)
    finally:  # also of what was answered before Ctrl-C
        for failure in failed:
            shell.complain(failure.reason, str(failure.path))
        if options.json:
            print(_document(predictor, meta, failed))
    return int(bool(failed) or not meta)


def _sources(names: Iterable[str]) -> tuple[list[Source], list[Failure]]:
    """Files, folders and `-` to images, and the folders that hold none."""
    from dctkd_zoo.data import filelist
    from dctkd_zoo.predict import Failure

    images, empty = [], []
    for path in (path for name in names for path in (_listed() if name == STDIN else [Path(name)])):
        if not path.is_dir():
            images.append(Source(path, PurePath(path.name)))
            continue
        try:
            inside = [name for name in filelist.below(path) if filelist.is_image(name) and not name.endswith(OVERLAY)]
        except DatasetError as error:  # a folder that cannot be looked into; the others go on
            empty.append(Failure(path, str(error)))
            continue
        images += [Source(path / name, PurePath(name)) for name in inside]
        if not inside:
            empty.append(Failure(path, f"no image in this folder; {' '.join(sorted(filelist.IMAGES))} count as such"))
    return images, empty


def _listed() -> list[Path]:
    """The paths on standard input: a line each, or with NUL after each, as `find -print0` writes them."""
    text = os.fsdecode(sys.stdin.buffer.read())
    names = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
    return [Path(name) for name in names if name]


def overlay_names(places: Iterable[PurePath]) -> list[PurePath]:
    """Places of images to those of their overlays, all different: the second `a.png` gets `a-2.attention.png`."""
    taken: set[str] = set()
    seen: Counter[str] = Counter()
    names = []
    for path in places:
        first = str(path.with_suffix("")).casefold()  # two names of some file systems may differ in case alone
        while True:
            seen[first] += 1
            more = f"-{seen[first]}" if seen[first] > 1 else ""
            name = path.with_name(f"{path.stem}{more}{OVERLAY}")
            if str(name).casefold() not in taken:
                break
        taken.add(str(name).casefold())
        names.append(name)
    return names


def _draw(predictor: Predictor, answer: Prediction, folder: Path, name: PurePath) -> Path:
    """Write an image's attention, captioned with the likeliest class, to a place below a folder."""
    from dctkd_zoo._io import atomic
    from dctkd_zoo.attention_grid import strip

    ((label, probability),) = answer.top(1)
    best = f"{predictor.classes[label]} {_percent(probability)}"
    picture = strip(answer.image, answer.maps, printable(f"{answer.path.name}: {best}, says {predictor.name}"))
    for part in name.parent.parts:  # one by one, for `mkdir(parents=True)` calls itself for each
        folder /= part
        folder.mkdir(exist_ok=True)
    path = folder / name.name
    with atomic.replacing(path) as temporary:
        picture.save(temporary, compress_level=3)  # a tenth larger than at its smallest, in a fifth of the time
    return path


def _facts(predictor: Predictor, answer: Prediction, count: int, drawn: Path | None) -> dict[str, Any]:
    classes = [
        {"label": label, "class": predictor.classes[label], "probability": probability}
        for label, probability in answer.top(count)
    ]
    facts = {"path": str(answer.path), "classes": classes, "notes": list(answer.notes)}
    return facts | ({"overlay": str(drawn)} if drawn else {})


def _document(predictor: Predictor, told: list[dict[str, Any]], failed: Iterable[Failure]) -> str:
    weights = {"origin": predictor.weights.origin, "sha256": predictor.weights.sha256}
    lost = [{"path": str(failure.path), "error": failure.reason} for failure in failed]
    facts = {"name": predictor.name, "weights": weights, "images": told, "failed": lost}
    return json.dumps(facts, indent=2, allow_nan=False)


def _heading(predictor: Predictor) -> Text:
    """Whose answers these are."""
    from rich.text import Text

    weights = predictor.weights
    return Text(predictor.name, "bold").append(f", {weights.origin}, sha256 {weights.sha256[:12]}…\n", "not bold dim")


def _show(console: Console, predictor: Predictor, answer: Prediction, count: int, drawn: Path | None) -> None:
    """Print an image's path, what there is to say of it, and its likeliest classes; names are no markup."""
    from rich.cells import cell_len
    from rich.text import Text

    longest = max(cell_len(printable(name)) for name in predictor.classes)
    room = max(0, min(longest, LONGEST, console.width - SHARE))  # of all images alike, so that figures stand in line
    rows = []
    for row, (label, probability) in enumerate(answer.top(count)):
        style, name = "" if row else "bold", printable(predictor.classes[label])
        bar = Text(("-" if console.options.ascii_only else "━") * round(BAR * probability), "cyan")
        rows.append([Text(name + " " * (room - cell_len(name)), style), Text(_percent(probability), style), bar])
    console.print(Text(printable(answer.path), "bold cyan"), soft_wrap=True)
    for note in answer.notes:
        console.print(Text(note, "yellow"), soft_wrap=True)
    shell.show(console, shell.Grid(COLUMNS, rows, spare=("share",), header=False))
    if drawn:
        console.print(Text(f"attention: {printable(drawn)}", "dim"), soft_wrap=True)
    console.print()


def _percent(probability: float) -> str:
    return f"{100 * probability:.1f} %" if probability >= 0.0005 else "< 0.1 %"
