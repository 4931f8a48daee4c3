"""Outcomes to what a terminal shows: a leaderboard per dataset, and what could not be evaluated and why."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from dctkd_zoo._io import atomic
from dctkd_zoo.cli import shell
from dctkd_zoo.cli.shell import Column, Grid
from dctkd_zoo.errors import printable
from dctkd_zoo.registry import natural_key
from eval import columns
from eval.run import results_csv
from eval.run.attempt import Status
from eval.run.result_row import Record
from eval.run.results_csv import Row

NAMED = 3  # entries without a result that are named one by one; more are counted


def render(records: Sequence[Record]) -> Group:
    """A table per dataset, then a line for each kind of absence, then the failures."""
    rows = [record["row"] for record in records if record["row"]]
    datasets = sorted({row["dataset"] for row in rows}, key=natural_key)
    tables = [board([row for row in rows if row["dataset"] == dataset]) for dataset in datasets]
    parts: list[RenderableType] = [part for table in tables for part in (table, Text())]
    return Group(*parts, *absent(records))


def board(rows: Sequence[Row]) -> Grid:
    """One dataset's rows, the best first; the best student is bold."""
    rows = sorted(rows, key=lambda row: row["top1"], reverse=True)
    best = next((row for row in rows if row["teacher"]), None)
    dataset, count = rows[0]["dataset"], max(row["n"] for row in rows)
    title = Text(f"{dataset}: {count:,} test images, protocol {rows[0]['protocol']}", style="bold")
    chosen = columns.of("terminal", rows)
    headings = [*(column.heading or column.title for column in chosen), "params"]
    cells = [[Text(cell, "bold" if row is best else "") for cell in _cells(row, chosen)] for row in rows]
    spare = ("params", *headings[1:-1])  # where there is no room the last are left out first
    titles = [Column("entry"), *(Column(heading, right=True) for heading in headings)]
    return Grid(titles, cells, title, caption(rows, chosen), spare, "--json FILE has all of it")


def _cells(row: Row, chosen: Iterable[columns.Column]) -> list[str]:
    name = f"{row['name']}, seed {row['seed']}" if row["seed"] else row["name"]
    return [name, *(column.text(row.get(column.name)) for column in chosen), f"{row['parameters'] / 1e6:.2f} M"]


def caption(rows: Sequence[Row], chosen: Sequence[columns.Column]) -> Text:
    """Return units, the teacher that the rows are compared with, confidence intervals and notes, in lines."""
    titles = {column.heading or column.title: column for column in chosen}
    percent = ", ".join(title for title, column in titles.items() if column.unit == "%")
    lower = ", ".join(title for title, column in titles.items() if column.lower_is_better)
    lines = [f"In %: {percent}. Lower is better: {lower}. Bold: best student."]
    teachers = sorted({row["teacher"] for row in rows if row["teacher_sha256"]}, key=natural_key)
    if teachers:
        lines.append(
            f"SSIM of attention maps and CKA of features: mean over the levels, against {', '.join(teachers)}."
        )
        lines.append("skill: SSIM above chance, where 0 is what maps of two different images score, and 1 is the best.")
    lines.append(f"Weights: {_origins(rows)}.")
    reach = [(row["top1.high"] - row["top1.low"]) / 2 for row in rows if row.get("top1.low") is not None]
    if reach:
        lines.append(
            f"Top-1 ± {max(reach):.1f} (95 % CI over test images); `python -m eval compare A B` tests a difference."
        )
    broken = max(row["failed"] for row in rows)
    if broken:
        look = f"`python -m dctkd_zoo data check {rows[0]['dataset']}`"
        lines.append(f"{broken:,} test images do not decode and were left out: {look} names them.")
    lines += [f"{row['name']}: {row['note']}" for row in rows if row["note"]]
    return Text("\n".join(map(printable, lines)), style="dim")


def _origins(rows: Iterable[Row]) -> str:
    """`bundled`, or where weights are from several places `bundled (a, b); trained here (c)`."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        groups[row["weights_origin"].partition(":")[0]].append(row["name"])
    return "; ".join(groups if len(groups) == 1 else (f"{path} ({', '.join(n)})" for path, n in groups.items()))


def absent(records: Iterable[Record]) -> list[Text]:
    """A line per dataset and kind of absence with the command that ends it, and one per failure."""
    groups: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
    failures = []
    for record in records:
        if record["status"] == Status.FAILED:
            failures.append(Text(printable(f"{record['name']} failed: {record['reason']}", keep="\n"), style="red"))
        elif record["status"] != Status.EVALUATED:
            groups[record["status"], record["dataset"]].append(record)
    lines = [_absence(status, dataset, group) for (status, dataset), group in sorted(groups.items())]
    return [*([Text("not evaluated", style="bold")] if lines else []), *lines, *failures]


def _absence(status: str, dataset: str, group: Sequence[Record]) -> Text:
    if len(group) == 1:
        return Text(printable(f"  {group[0]['name']}: {group[0]['reason']}", keep="\n"))
    names = [record["name"] for record in group]
    who = ", ".join(names) if len(names) <= NAMED else f"{len(names)} entries"
    if status == Status.NO_WEIGHTS:
        return Text(f"  {dataset}: {who} have no weights: python -m train NAME")
    what, *_, way_on = group[0]["reason"].splitlines()
    return Text(printable(f"  {dataset}: {who} have no data. {what}")).append(f"\n    {printable(way_on)}", style="dim")


def console(json: str | None) -> Console:
    """For tables: on the error stream where JSON goes to -, standard output."""
    return shell.console(sys.stderr if json == "-" else sys.stdout)


def write_json(path: str, document: Any) -> None:
    """Write a document as JSON to a file, or for - to standard output, whose encoding may be any."""
    if path == "-":
        print(results_csv.as_json(document, ascii=True), end="", flush=True)
    else:
        atomic.write_text(Path(path), results_csv.as_json(document))
