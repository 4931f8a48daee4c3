"""What was measured to one page to look at: `python -m eval NAME... --report DIR`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dctkd_zoo import atomic
from eval.record import Record
from eval.report.gather import boards
from eval.report.page import render
from eval.run import Result, Where

__all__ = ["write"]

PAGE = "index.html"


def write(
    records: Sequence[Record], results: Mapping[str, Result], folder: Path, where: Where, images: bool = True
) -> Path:
    """Write the page of some records into a folder; its path. `results` are those of the entries that have one.

    Without `images` no test image stands in it, nor any attention drawn over one: not all may be passed on.
    """
    page = folder / PAGE
    atomic.write_text(page, render(boards(records, results, where, images), records, where.limit, images))
    return page
