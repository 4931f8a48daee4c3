"""Command runner and terminal tables: exit status, error messages, output to any stream, columns that fit."""

from __future__ import annotations

import errno
import io
import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dctkd_zoo.errors import ZooError, printable, reason_of

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table
    from rich.text import Text

SCRIPT = "dctkd-zoo"  # the command that the package installs
MODULES = {"train": "train", "eval": "eval", "compare": "eval compare"}  # commands that are also programs of their own
WIDTH = 120  # characters per line if the output is no terminal
GAP = 2  # spaces between the columns of a table
PROSE = 24  # minimum width of a column of prose
GONE = (errno.EPIPE, errno.EIO)  # the reader of the pipe or the terminal has gone away, as in `list | head`


def run(body: Callable[[], int], stopped: str = "stopped") -> int:
    """Run a command and return its exit status: its own, that of an error, which is printed, or 130 after Ctrl-C.

    Output problems do not stop a command: characters that a stream cannot encode are escaped, output to a reader
    that has gone away is dropped, and a full disk is reported once the command has done everything else.
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
    except (ZooError, OSError) as error:  # an OSError: disk full, permission denied
        complain(error)
        return int(getattr(error, "status", 1))
    except KeyboardInterrupt as stop:
        print(stop if stop.args else stopped, file=sys.stderr)
        return int(getattr(stop, "status", 130))
    finally:
        _PLACES.clear()


def complain(error: BaseException | str, name: str = "") -> None:
    """Print an error to stderr as `error: <name>: <message>`; `name` is what it is about."""
    message = error if isinstance(error, str) else reason_of(error)
    about = f"{name}: " if name else ""
    print(f"error: {printable(f'{about}{message}', keep=chr(10))}", file=sys.stderr)


class _Lasting(io.FileIO):
    """A standard stream that discards all output after its first failed write."""

    failed: OSError | None = None

    def write(self, data: Any) -> int:
        """Write; after the first failure, discard the data and report it as written."""
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
        """Return why output was lost; empty if none was, or if nobody was reading it."""
        self.text.flush()
        failed = self.raw.failed if self.raw else None
        return "" if failed is None or failed.errno in GONE else reason_of(failed)


@contextmanager
def _lasting(name: str) -> Iterator[_Stream]:
    """Make `sys.stdout` or `sys.stderr` accept any text and never fail inside; a replaced stream stays in place."""
    before = getattr(sys, name)
    text, raw = before, None
    if before is None:  # closed by the parent process
        text = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  not a real file
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
    """Return the console for tables: as wide as the terminal, or `WIDTH` characters if the output is no terminal."""
    from rich.console import Console

    stream = stream or sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDTH)


def show(target: Console, *renderables: RenderableType) -> None:
    """Print without cropping: the terminal wraps names that are longer than a line."""
    for renderable in renderables:
        target.print(renderable, crop=False)


@dataclass(frozen=True)
class Column:
    """A column of a `Grid`: numbers (`right`) or text; only `prose` may wrap."""

    title: str
    right: bool = False
    prose: bool = False


@dataclass(frozen=True)
class Grid:
    """A table for a terminal of any width.

    If not all columns fit, those named in `spare` are dropped, the last of them first; a line below names them and
    says where else they are shown (`elsewhere`). If the others don't fit either, each row becomes a block: its first
    cell, then one line per further cell.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Text]]
    title: Text | None = None
    caption: Text | None = None
    spare: Sequence[str] = ()
    elsewhere: str = ""
    header: bool = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield what rich prints in turn."""
        from rich.text import Text

        if self.title is not None:
            yield from _whole(self.title, options.max_width)
        out = self._left_out(options.max_width)
        if out is None:
            for row in self.rows:
                yield from self._block(row, options.max_width)
        elif self.rows:
            yield self._table([index for index in range(len(self.columns)) if index not in out])
        if out and self.elsewhere:
            names = ", ".join(self.columns[index].title for index in sorted(out))
            yield Text(f"No room for {names}: {self.elsewhere}.", style="dim")
        if self.caption is not None:
            yield from _whole(self.caption, options.max_width)

    def _left_out(self, width: int) -> set[int] | None:
        """Return the columns to drop, as few as possible; None if the table is too wide even without the spare ones."""
        titles, needs = [column.title for column in self.columns], [*map(self._needs, range(len(self.columns)))]
        spare = [titles.index(title) for title in self.spare]
        for count in range(len(spare) + 1):
            out = set(spare[len(spare) - count :])
            if sum(GAP + need for index, need in enumerate(needs) if index not in out) - GAP <= width:
                return out
        return None

    def _needs(self, index: int) -> int:
        """Return the minimum width of a column."""
        from rich.cells import cell_len

        column = self.columns[index]
        cells = [column.title * self.header, *(row[index].plain for row in self.rows)]
        widest = max(cell_len(line) for cell in cells for line in cell.split("\n"))
        return min(widest, PROSE) if column.prose else widest

    def _table(self, indices: Sequence[int]) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold", show_header=self.header)
        for column in (self.columns[index] for index in indices):
            justify, overflow = ("right" if column.right else "left"), ("fold" if column.prose else "crop")
            table.add_column(column.title, justify=justify, overflow=overflow, no_wrap=not column.prose)  # type: ignore[arg-type]
        # If no column wraps, each becomes one multi-line cell: rich takes three times as long for hundreds of rows.
        if self.rows and not any(self.columns[index].prose for index in indices):
            table.add_row(*(Text("\n").join(row[index] for row in self.rows) for index in indices))
        else:
            for row in self.rows:
                table.add_row(*(row[index] for index in indices))
        return table

    def _block(self, row: Sequence[Text], width: int) -> Iterator[Text]:
        from rich.text import Text

        first, *others = row
        yield from _whole(first, width)
        for column, cell in zip(self.columns[1:], others, strict=True):
            if cell.plain:
                yield from _whole(Text.assemble(f"  {column.title}: " if self.header else "  ", cell), width)


def _whole(text: Text, width: int) -> Iterator[Text]:
    """Yield lines that wrap between words, or leave it to the terminal if a word is longer than a line."""
    from rich.cells import cell_len

    for line in text.split("\n", allow_blank=True):
        longest = max(map(cell_len, line.plain.split()), default=0)
        line.overflow = "ignore" if longest > width else None
        yield line


_PLACES: dict[str, str] = {}  # `--catalog`, `--data` and `--out` of the running command


def remember(options: Namespace) -> None:
    """Keep the places that the running command was given, for `suggest`."""
    given = ((name, getattr(options, name, None)) for name in ("catalog", "data", "out"))
    _PLACES.clear()
    _PLACES.update((name, str(path)) for name, path in given if path is not None)


def suggest(command: str) -> str:
    """Return a command such as `train NAME` as it can be pasted into the same terminal, with the places of this one.

    A catalog file that the command names itself is not repeated.
    """
    known = ("catalog", "data") if command.startswith("data ") else tuple(_PLACES)
    if _PLACES.get("catalog") in shlex.split(command):
        known = tuple(name for name in known if name != "catalog")
    places = [f"--{name} {shlex.quote(path)}" for name, path in _PLACES.items() if name in known]
    return " ".join([program(command), *places])


def program(command: str = "") -> str:
    """Return a command, `train NAME` or `python -m train NAME`, as the user would type it.

    Depending on how the running program was called: with `dctkd-zoo`, `python -m dctkd_zoo` or `python -m`.
    """
    called, command = Path(sys.argv[0]), command.removeprefix("python -m ")
    if called.stem == SCRIPT:
        return f"{SCRIPT} {command}".rstrip()
    first = command.partition(" ")[0]
    if first in MODULES and called.parts[-2:] != ("dctkd_zoo", "__main__.py"):
        return f"python -m {MODULES[first]}{command.removeprefix(first)}"
    return f"python -m dctkd_zoo {command}".rstrip()
