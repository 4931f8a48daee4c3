"""Status display of many runs: a live table in a terminal, one line per change elsewhere."""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from dctkd_zoo.cli.shell import Column, Grid
from dctkd_zoo.errors import printable
from dctkd_zoo.weights import run_folder
from train.progress import format_time

# States of a run and their styles, most important first: the order matters when the table does not fit the screen.
STYLES = {
    "running": "bold",
    "running elsewhere": "cyan",
    "failed": "red",
    "not started": "yellow",
    "queued": "",
    "waiting": "dim",
    "done": "green",
}
FRAME = 5  # lines of the table besides its rows


@dataclass(frozen=True)
class Status:
    """State of a run and the reason for it."""

    state: str = "waiting"
    why: str = ""


@dataclass(frozen=True)
class Row:
    """One run in the table; `top1` in percent."""

    name: str
    status: Status
    epoch: int
    epochs: int
    top1: float | None


def progress(log: Path) -> tuple[int, float | None]:
    """Return the epochs done and the last test accuracy in percent, or None, from a run's log."""
    rows = list(csv.DictReader(log.read_text().splitlines())) if log.is_file() else []
    judged = run_folder.judged(rows)
    return len(rows), judged[-1][1] if judged else None


def table(rows: Sequence[Row], title: str, room: int) -> Grid:
    """Return a table of at most `room` runs: active and failed ones before those that are done."""
    order = list(STYLES)
    chosen = sorted(rows, key=lambda row: order.index(row.status.state))[: max(room, 1)]
    visible = [row for row in rows if row in chosen]
    omitted = Counter(row.status.state for row in rows if row not in chosen)
    counts = Counter(row.status.state for row in rows)
    caption = ", ".join(f"{counts[state]} {state}" for state in order if counts[state])
    hidden = f" (not shown: {', '.join(f'{n} {state}' for state, n in omitted.items())})" if omitted else ""
    columns = (Column("run"), Column("epoch", right=True), Column("top-1", right=True), Column("state", prose=True))
    return Grid(columns, [_cells(row) for row in visible], Text(title), Text(caption + hidden), spare=("epoch",))


def _cells(row: Row) -> list[Text]:
    top1 = "" if row.top1 is None else f"{row.top1:.2f}"
    state = printable(": ".join(filter(None, (row.status.state, row.status.why))))
    return [Text(cell, STYLES[row.status.state]) for cell in (row.name, f"{row.epoch}/{row.epochs}", top1, state)]


class Board:
    """Display that is updated as the states of runs change."""

    def __init__(self, title: str, console: Console) -> None:
        self.title, self.console = title, console
        self.start = time.monotonic()
        self.last: dict[str, Status] = {}
        self.live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Board:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.live.stop()

    def show(self, rows: Sequence[Row]) -> None:
        """Redraw the table, or print the rows that have changed."""
        if self.live.is_started:
            title = f"{self.title}, {format_time(time.monotonic() - self.start)}"
            self.live.update(table(rows, title, self.console.height - FRAME), refresh=True)
        else:
            for row in rows:
                if self.last.get(row.name) != row.status:
                    self.console.print(line(row), highlight=False, markup=False, soft_wrap=True)
        self.last = {row.name: row.status for row in rows}


def line(row: Row) -> str:
    """Return the state of a run in one line."""
    values = [f"{row.epoch}/{row.epochs} epochs"] if row.epoch else []
    values += [] if row.top1 is None else [f"{row.top1:.2f} % top-1"]
    suffix = f" ({', '.join(values)})" if values else ""
    return f"{row.name}: {': '.join(filter(None, (row.status.state, row.status.why)))}{suffix}"
