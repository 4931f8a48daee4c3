"""Where a command's tables and its JSON go: both may be asked for at once, and one stream holds one of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from dctkd_zoo import atomic, shell
from eval import results


def console(json: str | None) -> Console:
    """For tables: on the error stream where JSON goes to -, standard output."""
    return shell.console(sys.stderr if json == "-" else sys.stdout)


def write_json(path: str, document: Any) -> None:
    """Write a document as JSON to a file, or for - to standard output, whose encoding may be any."""
    if path == "-":
        print(results.as_json(document, ascii=True), end="", flush=True)
    else:
        atomic.write_text(Path(path), results.as_json(document))
