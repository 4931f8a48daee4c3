"""What was measured to one page to look at: `python -m eval NAME... --report DIR`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dctkd_zoo import atomic
from eval.cost import Cost
from eval.record import Record
from eval.report.gather import again, boards
from eval.report.page import render
from eval.run import Where

__all__ = ["write"]

PAGE = "index.html"


def write(
    records: Sequence[Record],
    folder: Path,
    where: Where,
    seed: int | None = None,
    costs: Mapping[str, Cost] | None = None,
) -> Path:
    """Write the page of some records into a folder; its path.

    The per-image tables are read again from where `evaluate` kept them, of the networks of the training `seed`.
    `costs` are those of networks by entry, where they were measured.
    """
    found = boards(records, again(records, where, seed), where, costs or {})
    page = folder / PAGE
    atomic.write_text(page, render(found, records, where.limit))
    return page
