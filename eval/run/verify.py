"""Verification: evaluates an entry again and compares the result with its recorded row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from rich.text import Text

from dctkd_zoo import weights
from dctkd_zoo.cli.shell import Column, Grid
from dctkd_zoo.errors import DatasetMissing, ZooError, printable
from dctkd_zoo.spec import Entry
from eval import columns
from eval.metrics import _base
from eval.run import result_row, results_csv
from eval.run.config import EvalConfig
from eval.run.evaluation import evaluate
from eval.run.per_image import Report
from eval.run.protocol import PROTOCOLS
from eval.run.results_csv import Row
from eval.stats import skill

FACTS = ("weights_sha256", "teacher_sha256", "dataset_digest", "n", "failed", "parameters")  # must be equal
POINTS = 0.2  # tolerance in percentage points: two of the 1,200 images of synthscenes
RELATIVE, ABSOLUTE = 2e-3, 2e-4  # tolerances of other metrics: another processor sums float32 in another order


@dataclass(frozen=True)
class Check:
    """A fact or metric as recorded and as measured now; `ok` is None if it could not be measured here."""

    name: str
    recorded: str
    found: str
    tolerance: str
    ok: bool | None


@dataclass(frozen=True)
class Verified:
    """The checks of an entry, and a note if some of them could not be made."""

    entry: Entry
    checks: Sequence[Check]
    note: str

    @property
    def wrong(self) -> int:
        """The number of checks that do not match."""
        return sum(check.ok is False for check in self.checks)

    @property
    def left(self) -> int:
        """The number of checks that could not be made."""
        return sum(check.ok is None for check in self.checks)


def verify(entry: Entry, config: EvalConfig, report: Report, recorded: Path = results_csv.RESULTS) -> Verified:
    """Download and evaluate an entry, and compare with its row in the file `recorded`; `ZooError` if it has none.

    Without the images only the weights are compared. Without the teacher everything is compared that does not need it.
    """
    rows = recorded_rows(entry, config.protocol, recorded)
    try:
        result = evaluate(entry, replace(config, fresh=True), report)
    except DatasetMissing as error:
        sha256 = weights.find(entry, config.trained).sha256
        return Verified(entry, compare(_of_weights(rows, sha256), {"weights_sha256": sha256}, _all), str(error))
    row = _of_weights(rows, result.weights.sha256)
    no_teacher = result.teacher and not result.teacher_weights
    checks = compare(row, results_csv.as_text(result_row.row(result)), against_teacher if no_teacher else _none)
    return Verified(entry, checks, "; ".join(filter(None, (result.note, _outdated(checks)))))


def _outdated(checks: Sequence[Check]) -> str:
    """Return a note that names the recorded scores that this version does not measure, empty if there are none."""
    figures = [check.name for check in checks if check.name not in FACTS]
    scores = sorted({skill.score_of(name) for name in figures if not skill.is_measured(name)})
    return f"this version does not measure {', '.join(scores)}" if scores else ""


def _of_weights(rows: Sequence[Row], sha256: str) -> Row:
    """Return the row of some weights; for weights without a row the first row, which shows how they differ."""
    return next((row for row in rows if row["weights_sha256"] == sha256), rows[0])


def _all(name: str) -> bool:
    return True


def _none(name: str) -> bool:
    return False


def against_teacher(name: str) -> bool:
    """Return whether a column needs the teacher: `ssim.1`, `skill.cka`, `teacher_sha256`."""
    base = skill.score_of(name)
    return base == skill.CKA or base.startswith(skill.TEACHER) or base in _needing_teacher()


@cache
def _needing_teacher() -> frozenset[str]:
    names = {name for protocol in PROTOCOLS.values() for name in protocol.metrics}
    return frozenset(metric.name for metric in _base.load(names) if metric.needs_teacher)


def recorded_rows(entry: Entry, protocol: str, path: Path) -> list[dict[str, str]]:
    """Return the rows of an entry under a protocol, for any number of cached views; `ZooError` if there are none."""
    expected = (entry.name, protocol, str(entry.recipe.seed))
    rows = [row for row in results_csv.read(path) if results_csv.key(row)[: len(expected)] == expected]
    if not rows:
        raise ZooError(
            f"{path.name} has no row of {entry.run_name} under the protocol {protocol}: `python -m eval {entry.name} "
            "--write` adds one"
        )
    return rows


def compare(recorded: Row, found: Row, lacks: Callable[[str], bool] = _none) -> list[Check]:
    """Compare the facts, then every metric that was recorded.

    `lacks` says which columns cannot be measured here. Metrics that only an earlier version had are not checked.
    """
    facts = [_same(name, recorded.get(name, ""), found.get(name, ""), lacks) for name in FACTS]
    known = {skill.score_of(name) for name, value in recorded.items() if value}  # others came after the row
    named = [name for name in {**recorded, **found} if name not in {*results_csv.HEAD, *results_csv.TAIL}]
    named = [name for name in named if skill.score_of(name) in known]
    figures = ((name, recorded.get(name, ""), found.get(name, "")) for name in named)

    def absent(name: str) -> bool:
        return lacks(name) or not skill.is_measured(name)

    return facts + [_close(*figure, absent) for figure in figures if figure[1] or figure[2]]


def _same(name: str, recorded: str, found: str, lacks: Callable[[str], bool]) -> Check:
    ok = None if not found and recorded and lacks(name) else recorded == found
    return Check(name, _short(recorded), _short(found), "none", ok)


def _close(name: str, recorded: str, found: str, lacks: Callable[[str], bool]) -> Check:
    percent = columns.get(name).unit == "%"
    tolerance = f"± {POINTS} points" if percent else f"± {RELATIVE:.1%}"
    if not (recorded and found):
        return Check(name, recorded or "–", found or "–", tolerance, None if not found and lacks(name) else False)
    old, new = float(recorded), float(found)
    if math.isnan(old) or math.isnan(new):  # a skill whose chance level is the best score
        return Check(name, recorded, found, tolerance, math.isnan(old) and math.isnan(new))
    relative, absolute = (0.0, POINTS) if percent else (RELATIVE, ABSOLUTE)
    return Check(name, recorded, found, tolerance, math.isclose(old, new, rel_tol=relative, abs_tol=absolute))


def _short(value: str) -> str:
    """Shorten a hash to its first digits; a dash for an empty value."""
    return value[:12] + "…" if len(value) > 40 else value or "–"


COLUMNS = (
    Column("column"),
    Column("recorded", right=True),
    Column("measured", right=True),
    Column("tolerance"),
)


def render(verified: Verified) -> Grid:
    """Return a summary in one line, and below it a table of the checks that do not match."""
    total, wrong, left = len(verified.checks), verified.wrong, verified.left
    summary = f"{wrong} of {total} do not match" if wrong else f"{'all ' * (not left)}{total - left} match"
    title = Text(f"{verified.entry.run_name}: {summary}", style="bold red" if wrong else "bold green")
    title.append(f"; {left} not checked: {printable(verified.note, keep=chr(10))}" if left else "", style="yellow")
    rows = []
    for check in verified.checks:
        if check.ok is False:
            cells = (check.name, check.recorded, check.found, check.tolerance)
            rows.append([Text(printable(cell), "red") for cell in cells])
    return Grid(COLUMNS, rows, title, spare=("tolerance",))
