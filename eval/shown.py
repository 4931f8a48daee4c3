"""Where a command's tables and its JSON go: both may be asked for at once, and one stream holds one of them."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from dctkd_zoo import atomic

WIDTH = 100  # columns, where there is no terminal to ask


def console(json: str | None) -> Console:
    """For tables: on the error stream where JSON goes to -, standard output."""
    stream = sys.stderr if json == "-" else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDTH)


def write_json(path: str, text: str) -> None:
    """Write JSON to a file, or for - to standard output."""
    if path == "-":
        print(text, end="")
    else:
        atomic.write_text(Path(path), text)
