"""An entry's weights, measured anew, beside the row that was recorded of them: what matches and what does not."""

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

FACTS = ("weights_sha256", "teacher_sha256", "dataset_digest", "n", "failed", "parameters")  # the same or not
POINTS = 0.2  # percentage points: two of synthscenes' 1,200 images
RELATIVE, ABSOLUTE = 2e-3, 2e-4  # another processor sums float32 in another order


@dataclass(frozen=True)
class Check:
    """A fact or figure as it was recorded and as it was found; `ok` is None where it could not be had here."""

    name: str
    recorded: str
    found: str
    tolerance: str
    ok: bool | None


@dataclass(frozen=True)
class Verified:
    """The checks of an entry, and why some of them could not be made, if so."""

    entry: Entry
    checks: Sequence[Check]
    note: str

    @property
    def wrong(self) -> int:
        """How many do not match."""
        return sum(check.ok is False for check in self.checks)

    @property
    def left(self) -> int:
        """How many could not be made."""
        return sum(check.ok is None for check in self.checks)


def verify(entry: Entry, config: EvalConfig, report: Report, recorded: Path = results_csv.RESULTS) -> Verified:
    """Fetch and evaluate an entry, and compare with its row in the file `recorded`; `ZooError` where it has none.

    Without the images the weights alone are compared, without its teacher all but what is measured against that.
    """
    rows = recorded_rows(entry, config.protocol, recorded)
    try:
        result = evaluate(entry, replace(config, fresh=True), report)
    except DatasetMissing as error:
        sha256 = weights.find(entry, config.trained).sha256
        return Verified(entry, compare(_of_weights(rows, sha256), {"weights_sha256": sha256}, _all), str(error))
    row = _of_weights(rows, result.weights.sha256)
    alone = result.teacher and not result.teacher_weights
    checks = compare(row, results_csv.as_text(result_row.row(result)), against_teacher if alone else _none)
    return Verified(entry, checks, "; ".join(filter(None, (result.note, _outdated(checks)))))


def _outdated(checks: Sequence[Check]) -> str:
    """Return a note that names the recorded scores that this version does not have; an empty one without any."""
    figures = [check.name for check in checks if check.name not in FACTS]
    scores = sorted({skill.score_of(name) for name in figures if not skill.is_measured(name)})
    return f"this version does not measure {', '.join(scores)}" if scores else ""


def _of_weights(rows: Sequence[Row], sha256: str) -> Row:
    """The row of some weights; of those that were never measured, one that tells how they differ."""
    return next((row for row in rows if row["weights_sha256"] == sha256), rows[0])


def _all(name: str) -> bool:
    return True


def _none(name: str) -> bool:
    return False


def against_teacher(name: str) -> bool:
    """Whether a column is measured against the teacher, or of it: `ssim.1`, `skill.cka`, `teacher_sha256`."""
    base = skill.score_of(name)
    return base == skill.CKA or base.startswith(skill.TEACHER) or base in _needing_teacher()


@cache
def _needing_teacher() -> frozenset[str]:
    names = {name for protocol in PROTOCOLS.values() for name in protocol.metrics}
    return frozenset(m.name for m in _base.load(names) if isinstance(m, _base.ImageMetric) and m.needs_teacher)


def recorded_rows(entry: Entry, protocol: str, path: Path) -> list[dict[str, str]]:
    """What was recorded of an entry under a protocol, whatever views it was trained on; at least one row."""
    expected = (entry.name, protocol, str(entry.recipe.seed))
    rows = [row for row in results_csv.read(path) if results_csv.key(row)[: len(expected)] == expected]
    if not rows:
        raise ZooError(f"nothing was recorded of {entry.run_name}: `python -m eval {entry.name} --write` records it")
    return rows


def compare(recorded: Row, found: Row, lacks: Callable[[str], bool] = _none) -> list[Check]:
    """Facts, then every figure that was recorded or found; `lacks` says which of them cannot be measured here.

    Nor can figures that this version does not have, which are in rows that an earlier one wrote.
    """
    facts = [_same(name, recorded.get(name, ""), found.get(name, ""), lacks) for name in FACTS]
    named = [name for name in {**recorded, **found} if name not in {*results_csv.HEAD, *results_csv.TAIL}]
    figures = ((name, recorded.get(name, ""), found.get(name, "")) for name in named)

    def absent(name: str) -> bool:
        return lacks(name) or not skill.is_measured(name)

    return facts + [_close(*figure, absent) for figure in figures if figure[1] or figure[2]]


def _same(name: str, recorded: str, found: str, lacks: Callable[[str], bool]) -> Check:
    ok = None if not found and recorded and lacks(name) else recorded == found
    return Check(name, _short(recorded), _short(found), "the same", ok)


def _close(name: str, recorded: str, found: str, lacks: Callable[[str], bool]) -> Check:
    percent = columns.get(name).unit == "%"
    words = f"± {POINTS} points" if percent else f"± {RELATIVE:.1%}"
    if not (recorded and found):
        return Check(name, recorded or "–", found or "–", words, None if not found and lacks(name) else False)
    teacher, student = float(recorded), float(found)
    if math.isnan(teacher) or math.isnan(student):  # a skill where chance is the best there is
        return Check(name, recorded, found, words, math.isnan(teacher) and math.isnan(student))
    relative, absolute = (0.0, POINTS) if percent else (RELATIVE, ABSOLUTE)
    return Check(name, recorded, found, words, math.isclose(teacher, student, rel_tol=relative, abs_tol=absolute))


def _short(value: str) -> str:
    """A hash by its first digits."""
    return value[:12] + "…" if len(value) > 40 else value or "–"


COLUMNS = (
    Column("what"),
    Column("recorded", right=True),
    Column("found", right=True),
    Column("may differ"),
    Column("verdict"),
)
WORDS = {True: ("match", ""), False: ("MISMATCH", "red"), None: ("not checked", "yellow")}


def render(verified: Verified) -> Grid:
    """The checks as a table, below what they come to; what does not match is red, what was not checked yellow."""
    total, wrong, left = len(verified.checks), verified.wrong, verified.left
    meta = f"{wrong} of {total} do not match" if wrong else f"{'all ' * (not left)}{total - left} match"
    title = Text(f"{verified.entry.run_name}: {meta}", style="bold red" if wrong else "bold green")
    title.append(f"; {left} not checked: {printable(verified.note)}" if left else "", style="yellow")
    rows = []
    for check in verified.checks:
        verdict, style = WORDS[check.ok]
        cells = (check.name, check.recorded, check.found, check.tolerance, verdict)
        rows.append([Text(printable(cell), style) for cell in cells])
    return Grid(COLUMNS, rows, title, spare=("may differ",))
