"""Benchmark results as a table and as JSON, and their table in docs/speed.md (`python -m benchmarks.report`)."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import timm
import torch
from rich.table import Table

from benchmarks.harness.measure import Measured, Target
from benchmarks.harness.setting import Setting
from dctkd_zoo import device
from eval.pages.generated_file import blocks, command

HEADINGS = ("row", "what", "against", "target", "median", "range", "figures", "met")
RIGHT = {"target", "median", "range", "figures"}
MET = {True: "yes", False: "no", None: ""}


def table(rows: Iterable[Measured], setting: Setting) -> Table:
    """Return a table with the median ratio over the rounds, its range, and the values of both sides for each row."""
    title = f"{heading(machine(setting))}; {setting.words}"
    result = Table(title=title, title_justify="left")
    for name in HEADINGS:
        result.add_column(name, justify="right" if name in RIGHT else "left")
    for row in rows:
        result.add_row(*line(facts(row)))
    return result


def line(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of a row, given its `facts`."""
    target = str(Target(**row["target"])) if row["target"] else ""
    if row["skipped"]:
        return row["name"], f"skipped: {row['skipped']}", "", target, "", "", "", ""
    low, middle, high = (figure(row[name]) for name in ("min", "median", "max"))
    sides = [figure(median(side)) for side in (row["ours"], row["theirs"]) if _is_measured(side[0])]
    return (
        row["name"],
        row["what"],
        row["against"],
        target and f"{target} {row['unit']}",
        f"{middle} {row['unit']}",
        f"{low} to {high}, {len(row['values'])} rounds",
        f"{' : '.join(sides)} {row['figure_unit']}",
        MET[row["met"]],
    )


def _is_measured(value: float | None) -> bool:
    """Return whether there is a value: a row without another side has NaN for it, null in JSON."""
    return value is not None and not math.isnan(value)


def figure(value: float) -> str:
    """Return a number with three significant digits, or all digits before the decimal point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def heading(machine: Mapping[str, Any]) -> str:
    """Return device and torch version in short."""
    objective = {True: "compiles", False: "does not compile", None: ""}[machine.get("compiles")]
    return f"{machine['device']}, torch {machine['torch']}{objective and f', which {objective} here'}"


def document(rows: Iterable[Measured], setting: Setting) -> dict[str, Any]:
    """Return all results, the machine and the sizes, ready for JSON."""
    sizes = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(setting).items()}
    del sizes["folder"]  # a temporary folder
    return {"machine": machine(setting), "words": setting.words, "setting": sizes, "rows": [facts(row) for row in rows]}


def facts(measured: Measured) -> dict[str, Any]:
    """Return the results of a row, round by round; a skipped row has the same keys."""
    row, comparison, values = measured.row, measured.comparison, measured.values
    return {
        "name": row.name,
        "what": comparison.what if comparison else None,
        "against": comparison.against if comparison else None,
        "target": asdict(row.target) if row.target else None,
        "unit": comparison.value.unit if comparison else None,
        "median": median(values) if values else None,
        "min": min(values, default=None),
        "max": max(values, default=None),
        "values": values,
        "met": measured.met,
        "figure_unit": comparison.figure.unit if comparison else None,
        "ours": measured.ours,
        "theirs": measured.theirs,
        "took_s": measured.took,
        "skipped": measured.skipped or None,
    }


def machine(setting: Setting) -> dict[str, Any]:
    """Return device, cores, precision, versions, date and commit."""
    return {
        "device": device.describe(setting.device),
        "cores": os.cpu_count(),
        "precision": str(device.amp_dtype(setting.device)),
        "torch": str(torch.__version__),
        "compiles": compiles(),
        "timm": timm.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(Path(__file__).parent),
    }


@cache
def compiles() -> bool:
    """Return whether torch.compile works on this machine, as it does for the objective of a long run."""
    try:
        torch.compile(lambda x: x + 1)(torch.ones(2, device=device.choose()))
    except Exception:  # the compiler and its tools may raise anything
        return False
    return True


def commit(folder: Path) -> str | None:
    """Return the commit of a working tree, with `-dirty` if files differ; None without git or a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


RESULTS, GROWTH = (Path(__file__).with_name(name) for name in ("results.json", "growth.json"))
PAGE = Path(__file__).parents[1] / "docs" / "speed.md"


def filled(text: str, document: Mapping[str, Any]) -> str:
    """Return the text with the table of a run between its markers."""
    return blocks(text, {"benchmarks": markdown_table(document)})


def markdown_table(document: Mapping[str, Any]) -> str:
    """Return the rows of a run as a Markdown table, with date, machine and skipped rows below it."""
    rows = [row for row in document["rows"] if not row["skipped"]]
    skipped: dict[str, list[str]] = {}
    for row in document["rows"]:
        if row["skipped"]:
            skipped.setdefault(row["skipped"], []).append(row["name"])
    lines = [
        _markdown_line(HEADINGS),
        _markdown_line(["---"] * len(HEADINGS)),
        *(_markdown_line(line(row)) for row in rows),
    ]
    machine = document["machine"]
    caption = f"{machine['date'][:10]}, {heading(machine)}, {machine['precision'].removeprefix('torch.')}; "
    caption += f"{document['words']}."
    if skipped:
        reasons = (f"{', '.join(names)} ({why})" for why, names in skipped.items())
        caption += f" Not measured: {'; '.join(reasons)}."
    return "\n".join([*lines, "", caption])


def growth_table(document: Mapping[str, Any]) -> str:
    """Return what `python -m benchmarks.growth` measured as a Markdown table."""
    lines = [document["headings"], ["---"] * len(document["headings"]), *document["rows"]]
    return "\n".join(map(_markdown_line, lines))


def _markdown_line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def page_main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    document, growth = (json.loads(path.read_text(encoding="utf-8")) for path in (RESULTS, GROWTH))

    def both(text: str) -> str:
        return blocks(filled(text, document), {"growth": growth_table(growth)})

    return command(PAGE, both, "python -m benchmarks.report", __doc__, arguments)


if __name__ == "__main__":
    sys.exit(page_main())
