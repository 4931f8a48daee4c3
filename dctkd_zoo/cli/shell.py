"""A command to its exit status and to what a terminal shows, whatever becomes of the streams that it prints to."""

from __future__ import annotations

import errno
import io
import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dctkd_zoo.errors import ZooError, printable, reason_of

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table
    from rich.text import Text

WIDTH = 120  # columns where there is no terminal to ask
GAP = 2  # columns between those of a table
PROSE = 24  # columns that a column of prose has at least
GONE = (errno.EPIPE, errno.EIO)  # the reader of a pipe, or the terminal, has gone: `list | head`


def run(body: Callable[[], int], stopped: str = "stopped") -> int:
    """The exit status of a command: what it returns; 1 for an error, which is told; 130 where Ctrl-C stopped it.

    What cannot be printed is no reason to stop: characters that a stream cannot encode are escaped, what goes to a
    reader that has gone is dropped, and a disk that is full is told when the command has done all else.
    """
    with _lasting("stdout") as out, _lasting("stderr"):
        status = _status(body, stopped)
        if out.fault():
            print(f"error: standard output: {out.fault()}", file=sys.stderr)
            return status or 1
        return status


def _status(body: Callable[[], int], stopped: str) -> int:
    try:
        return body()
    except (ZooError, OSError) as error:  # an OSError: a disk that is full, a folder that is not ours
        complain(error)
        return 1
    except KeyboardInterrupt as stop:
        print(stop if stop.args else stopped, file=sys.stderr)
        return int(getattr(stop, "status", 130))


def complain(error: BaseException | str, name: str = "") -> None:
    """Tell an error on the error stream, in a line that begins with `error:` and the name of what it is about."""
    meta = error if isinstance(error, str) else reason_of(error)
    about = f"{name}: " if name else ""
    print(f"error: {printable(f'{about}{meta}', keep=chr(10))}", file=sys.stderr)


class _Lasting(io.FileIO):
    """A stream of the process that goes on into nothing where it cannot be written to any more."""

    failed: OSError | None = None

    def write(self, data: Any) -> int:
        """Write, or from the first failure on take as written."""
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            self.failed = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


@dataclass(frozen=True)
class _Stream:
    text: IO[str]
    raw: _Lasting | None

    def fault(self) -> str:
        """Why what was printed is not there, if that is a loss."""
        self.text.flush()
        failed = self.raw.failed if self.raw else None
        return "" if failed is None or failed.errno in GONE else reason_of(failed)


@contextmanager
def _lasting(name: str) -> Iterator[_Stream]:
    """Inside, `sys.stdout` or `sys.stderr` takes any text and does not fail; one that was put in its place is kept."""
    before = getattr(sys, name)
    text, raw = before, None
    if before is None:  # closed by whoever started the process
        text = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  no file to keep
    elif isinstance(getattr(before, "buffer", None), io.BufferedWriter | io.FileIO):
        before.flush()
        raw = _Lasting(before.fileno(), "wb", closefd=False)
        buffered = before.line_buffering or before.write_through
        text = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding=before.encoding, errors="backslashreplace", line_buffering=buffered
        )
    elif isinstance(before, io.TextIOWrapper):
        before.reconfigure(errors="backslashreplace")
    setattr(sys, name, text)
    try:
        yield _Stream(text, raw)
    finally:
        text.flush()
        setattr(sys, name, before)


def console(stream: IO[str] | None = None) -> Console:
    """Where a command prints its tables: standard output, as wide as the terminal, or as a whole row where none is."""
    from rich.console import Console

    stream = stream or sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDTH)


def show(where: Console, *what: RenderableType) -> None:
    """Print, and cut nothing off: a name that is longer than a line is the terminal's to wrap."""
    for item in what:
        where.print(item, crop=False)


@dataclass(frozen=True)
class Column:
    """A column of a `Grid`, of figures (`right`) or words; `prose` may be broken into lines, all else stays whole."""

    title: str
    right: bool = False
    prose: bool = False


@dataclass(frozen=True)
class Grid:
    """A table for a terminal of any width.

    Where there is no room for all columns, those named in `spare` are left out, the last of them first, which is said
    below if they stand `elsewhere`. Where there is none for the others either, each row is a block: its first cell,
    and a line per further one.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Text]]
    title: Text | None = None
    caption: Text | None = None
    spare: Sequence[str] = ()
    elsewhere: str = ""
    header: bool = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """The parts that rich prints in turn."""
        from rich.text import Text

        if self.title is not None:
            yield from _whole(self.title, options.max_width)
        out = self._left_out(options.max_width)
        if out is None:
            for row in self.rows:
                yield from self._block(row, options.max_width)
        elif self.rows:
            yield self._table([path for path in range(len(self.columns)) if path not in out])
        if out and self.elsewhere:
            names = ", ".join(self.columns[path].title for path in sorted(out))
            yield Text(f"No room for {names}: {self.elsewhere}.", style="dim")
        if self.caption is not None:
            yield from _whole(self.caption, options.max_width)

    def _left_out(self, width: int) -> set[int] | None:
        """The columns to leave out, as few as fit; None where the others take more than there is too."""
        titles, needs = [column.title for column in self.columns], [*map(self._needs, range(len(self.columns)))]
        spare = [titles.index(title) for title in self.spare]
        for count in range(len(spare) + 1):
            out = set(spare[len(spare) - count :])
            if sum(GAP + need for path, need in enumerate(needs) if path not in out) - GAP <= width:
                return out
        return None

    def _needs(self, path: int) -> int:
        """How many columns of the terminal a column takes at least."""
        from rich.cells import cell_len

        column = self.columns[path]
        cells = [column.title * self.header, *(row[path].plain for row in self.rows)]
        widest = max(cell_len(line) for cell in cells for line in cell.split("\n"))
        return min(widest, PROSE) if column.prose else widest

    def _table(self, places: Sequence[int]) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold", show_header=self.header)
        for column in (self.columns[path] for path in places):
            justify, overflow = ("right" if column.right else "left"), ("fold" if column.prose else "crop")
            table.add_column(column.title, justify=justify, overflow=overflow, no_wrap=not column.prose)  # type: ignore[arg-type]
        # A column is one cell of many lines where none is broken: hundreds of rows take rich three times as long.
        if self.rows and not any(self.columns[path].prose for path in places):
            table.add_row(*(Text("\n").join(row[path] for row in self.rows) for path in places))
        else:
            for row in self.rows:
                table.add_row(*(row[path] for path in places))
        return table

    def _block(self, row: Sequence[Text], width: int) -> Iterator[Text]:
        from rich.text import Text

        first, *others = row
        yield from _whole(first, width)
        for column, cell in zip(self.columns[1:], others, strict=True):
            if cell.plain:
                yield from _whole(Text.assemble(f"  {column.title}: " if self.header else "  ", cell), width)


def _whole(text: Text, width: int) -> Iterator[Text]:
    """Lines that are broken between words, or not at all where a word is longer than a line: the terminal does."""
    from rich.cells import cell_len

    for line in text.split("\n", allow_blank=True):
        longest = max(map(cell_len, line.plain.split()), default=0)
        line.overflow = "ignore" if longest > width else None
        yield line


OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "data": {"type": Path, "metavar": "DIR", "help": "folder with one folder per dataset"},
    "device": {"metavar": "D", "help": "cpu, cuda, cuda:1; the GPU if there is one"},
    "out": {"type": Path, "metavar": "DIR", "help": "checkpoints that `python -m train --out DIR` wrote"},
    "seed": {"type": int, "metavar": "S", "help": "the networks that `python -m train --seed S` made"},
    "catalog": {"type": Path, "metavar": "FILE.py", "help": "a catalog file of your own, beside the zoo's"},
}


def add_options(parser: ArgumentParser, names: Iterable[str] = OPTIONS) -> None:
    """Add arguments to a parser, in this order: all, or those of some names."""
    for name in names:
        parser.add_argument(f"--{name}", **OPTIONS[name])
