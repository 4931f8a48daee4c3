"""An entry's weights, measured anew, beside the row that was recorded of them: what matches and what does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table
from rich.text import Text

from dctkd_zoo.errors import ZooError, printable
from dctkd_zoo.spec import Entry
from eval import record, results
from eval.results import PERCENT, Row
from eval.run import Result, Where, evaluate
from eval.table import Report

FACTS = ("weights_sha256", "teacher_sha256", "dataset_digest", "n", "failed", "parameters")  # the same or not
POINTS = 0.2  # percentage points: two of synthscenes' 1,200 images
RELATIVE, ABSOLUTE = 2e-3, 2e-4  # another processor sums float32 in another order


@dataclass(frozen=True)
class Check:
    """A fact or figure as it was recorded and as it was found."""

    name: str
    recorded: str
    found: str
    tolerance: str
    ok: bool


def verify(entry: Entry, where: Where, report: Report, recorded: Path = results.RESULTS) -> list[Check]:
    """Fetch and evaluate an entry, and compare with its row in the file `recorded`; `ZooError` where it has none."""
    rows = recorded_rows(entry, where.protocol, recorded)
    found = _row(evaluate(entry, replace(where, fresh=True), report))
    return compare(next((row for row in rows if results.key(row) == results.key(found)), rows[0]), found)


def recorded_rows(entry: Entry, protocol: str, path: Path) -> list[dict[str, str]]:
    """What was recorded of an entry under a protocol, whatever views it was trained on; at least one row."""
    due = (entry.name, protocol, str(entry.recipe.seed))
    rows = [row for row in results.read(path) if results.key(row)[: len(due)] == due]
    if not rows:
        raise ZooError(f"nothing was recorded of {entry.run_name}: `python -m eval {entry.name} --write` records it")
    return rows


def _row(result: Result) -> dict[str, str]:
    return results.as_text(record.row(result))


def compare(recorded: Row, found: Row) -> list[Check]:
    """Facts, then every figure that was recorded or found."""
    facts = [_same(name, recorded.get(name, ""), found.get(name, "")) for name in FACTS]
    named = [name for name in {**recorded, **found} if name not in {*results.HEAD, *results.TAIL}]
    figures = ((name, recorded.get(name, ""), found.get(name, "")) for name in named)
    return facts + [_close(*figure) for figure in figures if figure[1] or figure[2]]


def _same(name: str, recorded: str, found: str) -> Check:
    return Check(name, _short(recorded), _short(found), "the same", recorded == found)


def _close(name: str, recorded: str, found: str) -> Check:
    percent = name.partition(".")[0] in PERCENT
    words = f"± {POINTS} points" if percent else f"± {RELATIVE:.1%}"
    if not (recorded and found):
        return Check(name, recorded or "–", found or "–", words, ok=False)
    theirs, ours = float(recorded), float(found)
    if math.isnan(theirs) or math.isnan(ours):  # a skill where chance is the best there is
        return Check(name, recorded, found, words, math.isnan(theirs) and math.isnan(ours))
    relative, absolute = (0.0, POINTS) if percent else (RELATIVE, ABSOLUTE)
    return Check(name, recorded, found, words, math.isclose(theirs, ours, rel_tol=relative, abs_tol=absolute))


def _short(value: str) -> str:
    """A hash by its first digits."""
    return value[:12] + "…" if len(value) > 40 else value or "–"


def render(entry: Entry, checks: Sequence[Check]) -> Table:
    """The checks as a table; what does not match is red."""
    wrong = sum(not check.ok for check in checks)
    verdict = f"{wrong} of {len(checks)} do not match" if wrong else f"all {len(checks)} match"
    title = Text(f"{entry.run_name}: {verdict}", style="bold red" if wrong else "bold green")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for heading in ("", "recorded", "found", "may differ", ""):
        table.add_column(heading, justify="right" if heading in ("recorded", "found") else "left")
    for check in checks:
        cells = (check.name, check.recorded, check.found, check.tolerance, "match" if check.ok else "MISMATCH")
        table.add_row(*(Text(printable(cell)) for cell in cells), style=None if check.ok else "red")
    return table
