"""Measured rows to a table for people and a document for programs."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import timm
import torch
from rich.table import Table

from benchmarks.measure import Measured
from benchmarks.setting import Setting
from dctkd_zoo import device

HEADINGS = ("row", "what", "against", "target", "median", "range", "figures", "met")
RIGHT = {"target", "median", "range", "figures"}
MET = {True: "[green]yes", False: "[bold red]no", None: ""}


def table(rows: Iterable[Measured], setting: Setting) -> Table:
    """One line per row: the median of its value over the rounds, its range, and both sides' own figures."""
    facts = machine(setting)
    title = f"{facts['device']}, torch {facts['torch']}; {setting.words}"
    made = Table(title=title, title_justify="left")
    for heading in HEADINGS:
        made.add_column(heading, justify="right" if heading in RIGHT else "left")
    for row in rows:
        made.add_row(*line(row))
    return made


def line(measured: Measured) -> Sequence[str]:
    """The cells of a row."""
    row, comparison = measured.row, measured.comparison
    target = str(row.target or "")
    if comparison is None:
        return row.name, f"skipped: {measured.skipped}", "", target, "", "", "", ""
    low, middle, high = (figure(f(measured.values)) for f in (min, median, max))
    sides = [figure(median(side)) for side in (measured.ours, measured.theirs) if not math.isnan(side[0])]
    return (
        row.name,
        comparison.what,
        comparison.against,
        target and f"{target} {comparison.value.unit}",
        f"{middle} {comparison.value.unit}",
        f"{low} to {high}, {comparison.rounds} rounds",
        f"{' : '.join(sides)} {comparison.figure.unit}",
        MET[measured.met],
    )


def figure(value: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def document(rows: Iterable[Measured], setting: Setting) -> dict[str, Any]:
    """Everything that was measured, and on what."""
    sizes = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(setting).items()}
    del sizes["folder"]  # gone when this is read
    return {"machine": machine(setting), "setting": sizes, "rows": [facts(row) for row in rows]}


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
        "precision": str(device.precision(setting.device)),
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
