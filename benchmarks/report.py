"""Measured rows to a table for people and a document for programs."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
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
    """One line per row: the median of its value over the rounds, its range, and both sides' own figures."""
    title = f"{heading(machine(setting))}; {setting.words}"
    made = Table(title=title, title_justify="left")
    for name in HEADINGS:
        made.add_column(name, justify="right" if name in RIGHT else "left")
    for row in rows:
        made.add_row(*line(facts(row)))
    return made


def line(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of a row, from its `facts`."""
    target = str(Target(**row["target"])) if row["target"] else ""
    if row["skipped"]:
        return row["name"], f"skipped: {row['skipped']}", "", target, "", "", "", ""
    low, middle, high = (figure(row[name]) for name in ("min", "median", "max"))
    sides = [figure(median(side)) for side in (row["ours"], row["theirs"]) if _known(side[0])]
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


def _known(value: float | None) -> bool:
    """Whether there is a figure: a row that stands alone has none of the other side, null in JSON."""
    return value is not None and not math.isnan(value)


def figure(value: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def heading(machine: Mapping[str, Any]) -> str:
    """What was measured on, in short."""
    return f"{machine['device']}, torch {machine['torch']}"


def document(rows: Iterable[Measured], setting: Setting) -> dict[str, Any]:
    """Everything that was measured, and on what."""
    sizes = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(setting).items()}
    del sizes["folder"]  # gone when this is read
    return {"machine": machine(setting), "words": setting.words, "setting": sizes, "rows": [facts(row) for row in rows]}


def facts(measured: Measured) -> dict[str, Any]:
    """A row, round by round; a row that was skipped has the same names."""
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
    """What it was measured on, by which versions, and when."""
    return {
        "device": device.describe(setting.device),
        "cores": os.cpu_count(),
        "precision": str(device.amp_dtype(setting.device)),
        "torch": str(torch.__version__),
        "timm": timm.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(Path(__file__).parent),
    }


def commit(folder: Path) -> str | None:
    """The commit of a working tree, marked where files differ from it; None where there is no git or no repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[1] / "docs" / "speed.md"


def filled(text: str, document: Mapping[str, Any]) -> str:
    """Return the text with the table of a run between its markers."""
    return blocks(text, {"benchmarks": markdown_table(document)})


def markdown_table(document: Mapping[str, Any]) -> str:
    """A run's rows in Markdown, what was skipped in one line, and what they were measured on and when."""
    rows = [row for row in document["rows"] if not row["skipped"]]
    skipped = [row["name"] for row in document["rows"] if row["skipped"]]
    lines = [
        _markdown_line(HEADINGS),
        _markdown_line(["---"] * len(HEADINGS)),
        *(_markdown_line(line(row)) for row in rows),
    ]
    machine = document["machine"]
    caption = f"{machine['date'][:10]}, {heading(machine)}, {machine['precision'].removeprefix('torch.')}; "
    caption += f"{document['words']}." + (f" Not measured for want of a GPU: {', '.join(skipped)}." if skipped else "")
    return "\n".join([*lines, "", caption])


def _markdown_line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def page_main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    document = json.loads(RESULTS.read_text(encoding="utf-8"))
    return command(PAGE, lambda text: filled(text, document), "python -m benchmarks.report", __doc__, arguments)


if __name__ == "__main__":
    sys.exit(page_main())
