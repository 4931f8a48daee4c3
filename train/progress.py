"""A run's progress to the terminal: live where there is one, a line per epoch elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from dctkd_zoo.cli.shell import Column, Grid
from train.checkpoint import Progress as RunProgress

SHOWN = 8  # epochs of the log that stay on the screen


class Display:
    """Shows epoch, losses by term, throughput, time left, and the last and best accuracy of a run.

    `begun` are the epochs, fractional, that were done before.
    """

    def __init__(self, title: str, epochs: int, images: int, begun: float, console: Console) -> None:
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
        """Show that `done` images of the current epoch are through, with the mean of each term so far."""
        passed = max(progress.epoch + done / self.images - self.begun, 1 / self.images)
        elapsed = time.perf_counter() - self.start
        left = elapsed / passed * (self.epochs - self.begun - passed)
        speed = passed * self.images / elapsed
        terms = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
        status = f"{terms}  {speed:,.0f} images/s  {format_time(left)} left"
        self.bar.update(self.task, completed=done, epoch=f"{progress.epoch + 1}/{self.epochs}", status=status)
        self.live.update(Group(self.table(progress), self.bar), refresh=self.live.is_started)

    def finish_epoch(self, progress: RunProgress) -> None:
        """Where there is no terminal, print the epoch as one line."""
        if not self.console.is_terminal:
            figures = "  ".join(
                f"{name} {format_cell(value)}" for name, value in progress.log[-1].items() if name != "epoch"
            )
            self.console.print(f"epoch {progress.epoch}/{self.epochs}  {figures}", highlight=False, soft_wrap=True)

    def table(self, progress: RunProgress) -> Grid:
        """The last epochs, one row each."""
        best = f"best {progress.best_top1:.2f} % (epoch {progress.best_epoch})" if progress.log else "no epoch yet"
        names = [*progress.log[-1]] if progress.log else []
        rows = [
            [
                Text(format_cell(value), "bold green" if row["epoch"] == progress.best_epoch else "")
                for value in row.values()
            ]
            for row in progress.log[-SHOWN:]
        ]
        columns = [Column(name, right=True) for name in names]
        return Grid(columns, rows, Text(f"{self.title}: {best}", "bold"), spare=names[2:])  # after epoch and test_top1


def format_cell(value: float | None, digits: int = 4) -> str:
    """A figure with so many significant digits; nothing for what was not measured."""
    return "" if value is None else f"{value:.{digits}g}"


def format_time(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
