"""What `predict` prints or writes: tables, JSON, or CSV with a summary."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Any

from dctkd_zoo._io import atomic, csv_rows
from dctkd_zoo.cli import shell
from dctkd_zoo.errors import ZooError, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from dctkd_zoo.prediction import Failure, Prediction
    from dctkd_zoo.predictor import Predictor

STDOUT = "-"
BAR = 24  # terminal columns of the bar for a probability of 1
LONGEST = 48  # terminal columns for a class name
SHARE = 9  # terminal columns for the probability
COLUMNS = (shell.Column("class"), shell.Column("probability", right=True), shell.Column("share"))
SUMMARY = (shell.Column("class"), shell.Column("images", right=True), shell.Column("mean probability", right=True))


@dataclass(frozen=True)
class Source:
    """An image file, and its path relative to the folder given, which its overlay keeps."""

    path: Path
    relative: PurePath


@dataclass(frozen=True)
class Sources:
    """The images to classify, and the number of other files in the folders given."""

    images: Sequence[Source]
    others: int


@dataclass(frozen=True)
class Classified:
    """An image, its prediction, and the picture of its attention maps, if one was drawn."""

    source: Source
    prediction: Prediction
    overlay: Path | None


def print_json(predictor: Predictor, results: Iterable[Classified], top: int, failed: Sequence[Failure]) -> int:
    """Print one JSON document once all is done or stopped, and return the number of images in it."""
    images: list[dict[str, Any]] = []
    try:
        for result in results:
            images += [_facts(result, top)]
    finally:
        print(_document(predictor, images, failed))
    return len(images)


def _facts(result: Classified, top: int) -> dict[str, Any]:
    classes = [
        {"label": item.label, "class": item.class_name, "probability": item.probability}
        for item in result.prediction.top(top)
    ]
    facts = {"path": str(result.source.path), "classes": classes, "notes": list(result.prediction.notes)}
    return facts | ({"overlay": str(result.overlay)} if result.overlay else {})


def _document(predictor: Predictor, images: Sequence[dict[str, Any]], failed: Iterable[Failure]) -> str:
    assert predictor.weights is not None
    weights = {"origin": predictor.weights.origin, "sha256": predictor.weights.sha256}
    failures = [{"path": str(failure.path), "error": failure.reason} for failure in failed]
    facts = {"name": predictor.name, "weights": weights, "images": images, "failed": failures}
    return json.dumps(facts, indent=2, allow_nan=False)


def show_tables(predictor: Predictor, results: Iterable[Classified], top: int) -> int:
    """Print each image with its most likely classes as soon as it is classified; return their number."""
    console, count = shell.console(), 0
    console.print(_heading(predictor))
    for result in results:
        _show(console, result, top)
        count += 1
    return count


def _heading(predictor: Predictor) -> Text:
    """Return the line above the results: the entry, and the origin and hash of its weights."""
    from rich.text import Text

    weights = predictor.weights
    assert weights is not None
    return Text(predictor.name, "bold").append(f", {weights.origin}, sha256 {weights.sha256[:12]}…\n", "not bold dim")


def _show(console: Console, result: Classified, count: int) -> None:
    """Print an image's path, notes and most likely classes; names are not parsed as markup."""
    from rich.cells import cell_len
    from rich.text import Text

    prediction = result.prediction
    longest = max(cell_len(printable(name)) for name in prediction.classes)
    room = max(0, min(longest, LONGEST, console.width - SHARE))  # the same for all images, so that numbers align
    rows = []
    for row, (_, class_name, probability) in enumerate(prediction.top(count)):
        style, name = "" if row else "bold", printable(class_name)
        bar = Text(("-" if console.options.ascii_only else "━") * round(BAR * probability), "cyan")
        rows.append([Text(name + " " * (room - cell_len(name)), style), Text(percent(probability), style), bar])
    console.print(Text(printable(result.source.path), "bold cyan"), soft_wrap=True)
    for note in prediction.notes:
        console.print(Text(note, "yellow"), soft_wrap=True)
    shell.show(console, shell.Grid(COLUMNS, rows, spare=("share",), header=False))
    if result.overlay:
        console.print(Text(f"attention: {printable(result.overlay)}", "dim"), soft_wrap=True)
    console.print()


def percent(probability: float) -> str:
    """Return a probability in percent, `86.9 %`."""
    return f"{100 * probability:.1f} %" if probability >= 0.0005 else "< 0.1 %"


def write_csv(
    file: str, predictor: Predictor, results: Iterator[Classified], top: int, sources: Sources, failed: list[Failure]
) -> int:
    """Write a row per image to a file, which appears once it is complete, or to stdout; then print a summary.

    Returns the number of images; with `-`, the summary is printed on stderr. `ZooError` if no image was classified.
    """
    from dctkd_zoo.prediction import table_columns, table_row

    console = shell.console(sys.stderr if file == STDOUT else None)
    console.print(_heading(predictor))
    first = next(results, None)
    if first is None:
        raise ZooError("no image could be classified, so no table was written")
    summary = _Summary(predictor.classes, sources.images)
    rows = (table_row(item.prediction, top) for item in summary.counting(chain([first], results)))
    with _opened(file) as stream:
        stream.writelines(csv_rows.as_lines(table_columns(min(top, len(predictor.classes))), rows))
    summary.show(console)
    _show_counts(console, file, summary.images, sources.others, len(failed))
    return summary.images


@contextmanager
def _opened(file: str) -> Iterator[IO[str]]:
    """Open a file that is replaced when it is complete, as UTF-8; or standard output for `-`."""
    if file == STDOUT:
        yield sys.stdout
        return
    with (
        atomic.replacing(Path(file)) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        yield stream


def _show_counts(console: Console, file: str, images: int, others: int, failed: int) -> None:
    counts = [f"{images:,} image{'s' * (images != 1)}"]
    counts += [f"{failed:,} failed"] if failed else []
    counts += [f"{others:,} other file{'s' * (others != 1)} skipped"] if others else []
    console.print(", ".join(counts), highlight=False)
    if file != STDOUT:
        console.print(f"written: {printable(file)}", markup=False, highlight=False, soft_wrap=True)


class _Summary:
    """Counts of predicted classes, of notes, and of right predictions where folders are named like classes."""

    def __init__(self, classes: Sequence[str], images: Sequence[Source]) -> None:
        from dctkd_zoo.data.filelist import composed

        self.labels = {composed(name): label for label, name in enumerate(classes)}
        self.folders = {_folder(image) for image in images}
        self.images = self.right = 0
        self.counts: Counter[str] = Counter()
        self.totals: defaultdict[str, float] = defaultdict(float)  # of probabilities
        self.notes: Counter[str] = Counter()

    def counting(self, results: Iterable[Classified]) -> Iterator[Classified]:
        """Yield the results unchanged and count them."""
        for result in results:
            prediction = result.prediction
            self.images += 1
            self.right += self.labels.get(_folder(result.source)) == prediction.label
            self.counts[prediction.class_name] += 1
            self.totals[prediction.class_name] += prediction.probability
            self.notes.update(prediction.notes)
            yield result

    def show(self, console: Console) -> None:
        """Print the counts; the accuracy only if each image is in a subfolder that is named like a class."""
        from rich.text import Text

        rows = [
            [Text(printable(name)), Text(f"{count:,}"), Text(percent(self.totals[name] / count))]
            for name, count in self.counts.most_common()
        ]
        shell.show(console, shell.Grid(SUMMARY, rows))
        console.print()
        unknown = self.folders - self.labels.keys()
        if not unknown:
            share = f"{100 * self.right / self.images:.1f} % ({self.right:,} of {self.images:,})"
            console.print(f"accuracy: {share}, by the names of the folders", highlight=False)
        elif len(unknown) < len(self.folders):
            name = printable(min(unknown)) or "."
            console.print(Text(f"note: no accuracy, since the folder {name} is not named like a class"), soft_wrap=True)
        for note, count in self.notes.most_common():
            console.print(Text(f"note: {count:,} image{'s' * (count != 1)} {note}", "yellow"), soft_wrap=True)


def _folder(image: Source) -> str:
    """Return the name of the subfolder that an image is in, of the folder given; empty if it is in none."""
    from dctkd_zoo.data.filelist import composed

    return composed(image.relative.parts[0]) if len(image.relative.parts) > 1 else ""
