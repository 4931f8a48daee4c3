"""Progress display of a run: a live table in a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from dctkd_zoo.cli.shell import Column, Grid
from dctkd_zoo.weights.run_folder import TOP1
from train.checkpoint import Progress as RunProgress

SHOWN = 8  # epochs in the live table


class Display:
    """Display of epoch, loss terms, throughput, time left, and the last and best accuracy of a run.

    `begun` is the number of epochs, possibly fractional, that were done before this process started, `chosen_on` the
    images that the best epoch is chosen on, if one is.
    """

    def __init__(
        self, title: str, epochs: int, images: int, begun: float, console: Console, chosen_on: str = ""
    ) -> None:
        self.chosen_on = chosen_on
        self.title, self.epochs, self.images, self.begun, self.console = title, epochs, images, begun, console
        self.start = time.perf_counter()
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"), BarColumn(None), TextColumn("{task.fields[status]}")
        )
        self.task = self.bar.add_task("", total=images, epoch="", status="")
        self.live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.live.stop()

    def say(self, text: str) -> None:
        """Print one line above the display."""
        self.console.print(text, highlight=False)

    def update(self, progress: RunProgress, done: int, losses: dict[str, float]) -> None:
        """Show that `done` images of the current epoch are finished, with the mean of each term so far."""
        epochs_done = max(progress.epoch + done / self.images - self.begun, 1 / self.images)
        elapsed = time.perf_counter() - self.start
        left = elapsed / epochs_done * (self.epochs - self.begun - epochs_done)
        speed = epochs_done * self.images / elapsed
        terms = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
        status = f"{terms}  {speed:,.0f} images/s  {format_time(left)} left"
        self.bar.update(self.task, completed=done, epoch=f"{progress.epoch + 1}/{self.epochs}", status=status)
        self.live.update(Group(self.table(progress), self.bar), refresh=self.live.is_started)

    def finish_epoch(self, progress: RunProgress) -> None:
        """Show the epoch in the live table, or print it as one line."""
        if self.console.is_terminal:
            self.live.update(Group(self.table(progress), self.bar), refresh=self.live.is_started)
        else:
            values = "  ".join(
                f"{name} {format_cell(value)}" for name, value in progress.log[-1].items() if name != "epoch"
            )
            self.console.print(f"epoch {progress.epoch}/{self.epochs}  {values}", highlight=False, soft_wrap=True)

    def best(self, progress: RunProgress) -> str:
        """Return the best accuracy and where it was chosen, or the last one if none is chosen."""
        judged = [(name, row[name], row["epoch"]) for row in progress.log for name in TOP1 if row.get(name) is not None]
        if self.chosen_on:
            return f"best {progress.best_top1:.2f} % on {self.chosen_on} (epoch {progress.best_epoch})"
        return f"{judged[-1][1]:.2f} % (epoch {judged[-1][2]})" if judged else "not tested yet"

    def table(self, progress: RunProgress) -> Grid:
        """Return a table of the last epochs, one row each."""
        best = self.best(progress) if progress.log else "no epoch yet"
        names = [*progress.log[-1]] if progress.log else []
        rows = [
            [
                Text(format_cell(value), "bold green" if self.chosen_on and row["epoch"] == progress.best_epoch else "")
                for value in row.values()
            ]
            for row in progress.log[-SHOWN:]
        ]
        columns = [Column(name, right=True) for name in names]
        return Grid(columns, rows, Text(f"{self.title}: {best}", "bold"), spare=names[2:])  # after epoch and top1


def format_cell(value: float | None, digits: int = 4) -> str:
    """Return a value with `digits` significant digits, or an empty string for None."""
    return "" if value is None else f"{value:.{digits}g}"


def format_time(seconds: float) -> str:
    """Return seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
