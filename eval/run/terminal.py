"""Leaderboards in the terminal, one per dataset, and what could not be evaluated and why."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from dctkd_zoo._io import atomic
from dctkd_zoo.cli import shell
from dctkd_zoo.cli.shell import Column, Grid
from dctkd_zoo.errors import printable
from dctkd_zoo.registry import entries, natural_key
from eval import columns
from eval.run import faithfulness, results_csv, sanity
from eval.run.attempt import Status
from eval.run.protocol import PROTOCOLS
from eval.run.result_row import Record
from eval.run.results_csv import Row
from eval.run.setup import role
from eval.stats.seeds import over_seeds

ELSEWHERE = "--json FILE has all of it"
NAMED = 3  # entries without a result that are named one by one; more are counted


def render(records: Sequence[Record]) -> Group:
    """Return a table per dataset, then a line per kind of absence, then the failures."""
    rows = [record["row"] for record in records if record["row"]]
    datasets = sorted({row["dataset"] for row in rows}, key=natural_key)
    tables = [board([row for row in rows if row["dataset"] == dataset]) for dataset in datasets]
    parts: list[RenderableType] = [part for table in tables for part in (table, Text())]
    return Group(*parts, *sanity_checks(records), *insertion_and_deletion(records), *absent(records))


def sanity_checks(records: Sequence[Record]) -> Iterator[RenderableType]:
    """Yield a table of the sanity check of each entry that has one, and then what it says."""
    made = [record for record in records if record.get("sanity")]
    for record in made:
        steps = record["sanity"]
        chosen = [columns.get(name) for name in steps[0] if name != "untrained"]
        titles = [Column("untrained, from the head on"), *(Column(column.titled, right=True) for column in chosen)]
        cells = [
            [Text(step["untrained"]), *(Text(column.text(step[column.name])) for column in chosen)] for step in steps
        ]
        spare = tuple(column.titled for column in chosen)
        yield Grid(titles, cells, Text(f"{record['name']}: sanity check", style="bold"), None, spare, ELSEWHERE)
        yield Text()
    if made:
        yield Text(f"{sanity.CAPTION}\n", style="dim")


def insertion_and_deletion(records: Sequence[Record]) -> Iterator[RenderableType]:
    """Yield a table of the differences of insertion and deletion of each entry that has them, and what they say."""
    made = [record for record in records if record.get("faithfulness")]
    curves = ("insertion", "deletion")
    titles = [Column("own map"), Column("less"), *(Column(curve, right=True) for curve in curves)]
    for record in made:
        cells = [
            [
                *map(
                    Text,
                    (item["maps"], item["other"], *(faithfulness.text(item[c]) for c in ("insertion", "deletion"))),
                )
            ]
            for item in record["faithfulness"]
        ]
        yield Grid(titles, cells, Text(f"{record['name']}: insertion and deletion", style="bold"))
        yield Text()
    if made:
        yield Text(f"{faithfulness.CAPTION}\n", style="dim")


def board(rows: Sequence[Row]) -> Grid:
    """Return a table of one dataset's rows, best first and the best student in bold; seeds of an entry are averaged."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["name"]].append(row)
    ranked = sorted(groups.values(), key=lambda group: mean(row["top1"] for row in group), reverse=True)
    teachers = {name for name, entry in entries().items() if name in groups and role(entry) == "teacher"}
    best = next((group for group in ranked if group[0]["name"] not in teachers), None)
    dataset, count = rows[0]["dataset"], max(row["n"] for row in rows)
    annotated = PROTOCOLS[rows[0]["protocol"]].annotated
    kind = "annotated" if annotated else "test"
    title = Text(f"{dataset}: {count:,} {kind} images, protocol {rows[0]['protocol']}", style="bold")
    chosen = columns.of("objects" if annotated else "terminal", rows)
    headings = [*(column.heading or column.title for column in chosen), "params"]
    cells = [[Text(cell, "bold" if group is best else "") for cell in _cells(group, chosen)] for group in ranked]
    spare = ("params", *headings[1:-1])  # where there is no room the last are left out first
    titles = [Column("entry"), *(Column(heading, right=True) for heading in headings)]
    return Grid(titles, cells, title, caption(rows, chosen), spare, ELSEWHERE)


def _cells(group: Sequence[Row], chosen: Iterable[columns.Column]) -> list[str]:
    first, several = group[0], len(group) > 1
    seeds = f", {len(group)} seeds" if several else f", seed {first['seed']}" if first["seed"] else ""
    values = (over_seeds(group, column) if several else column.text(first.get(column.name)) for column in chosen)
    return [f"{first['name']}{seeds}", *values, f"{first['parameters'] / 1e6:.2f} M"]


def caption(rows: Sequence[Row], chosen: Sequence[columns.Column]) -> Text:
    """Return units, the teacher that the rows are compared with, confidence intervals and notes, in lines."""
    titles = {column.heading or column.title: column for column in chosen}
    percent = ", ".join(title for title, column in titles.items() if column.unit == "%")
    lower = ", ".join(title for title, column in titles.items() if column.lower_is_better)
    lines = [f"In %: {percent}. {f'Lower is better: {lower}. ' if lower else ''}Bold: best student."]
    seeds = sorted({row["seed"] for row in rows})
    if len(seeds) > 1:
        lines.append(f"Mean ± sd over training seeds {', '.join(map(str, seeds))}; --json FILE has each.")
    teachers = sorted({row["teacher"] for row in rows if row["teacher_sha256"]}, key=natural_key)
    if "energy" in (column.name for column in chosen):
        lines.append("Maps on the objects: mean over the levels; chance: on the objects of another image.")
    elif teachers:
        lines.append(
            f"SSIM of attention maps and CKA of features: mean over the levels, against {', '.join(teachers)}."
        )
        lines.append("skill: SSIM above chance: 0 is the score of maps of two different images, 1 the best.")
    lines.append(f"Weights: {_origins(rows)}.")
    reach = [(row["top1.high"] - row["top1.low"]) / 2 for row in rows if row.get("top1.low") is not None]
    if reach:
        lines.append(
            f"Top-1 ± {max(reach):.1f} (95 % CI over test images); `{shell.program('compare A B')}` tests a difference."
        )
    broken, dataset = max(row["failed"] for row in rows), rows[0]["dataset"]
    if broken:
        look = f"`{shell.suggest(f'data check {dataset}')}`"
        lines.append(f"{broken:,} test images do not decode and were left out: {look} names them.")
    lines += [f"{row['name']}: {row['note']}" for row in rows if row["note"]]
    return Text("\n".join(map(printable, lines)), style="dim")


def _origins(rows: Iterable[Row]) -> str:
    """Return the origin of the weights: `bundled`, or of several `bundled (a, b); trained here (c)`."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        groups[row["weights_origin"].partition(":")[0]].append(row["name"])
    return "; ".join(groups if len(groups) == 1 else (f"{path} ({', '.join(n)})" for path, n in groups.items()))


def absent(records: Iterable[Record]) -> list[Text]:
    """Return a line per dataset and kind of absence with the command that helps, and one per failure."""
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
        return Text(f"  {dataset}: {who} have no weights: {shell.suggest('train NAME')}")
    what, *_, way_on = group[0]["reason"].splitlines()
    return Text(printable(f"  {dataset}: {who} have no data. {what}")).append(f"\n    {printable(way_on)}", style="dim")


def console(json: str | None) -> Console:
    """Return the console for tables: standard error if JSON is written to standard output (`-`)."""
    return shell.console(sys.stderr if json == "-" else sys.stdout)


def write_json(path: str, document: Any) -> None:
    """Write a document as JSON to a file, or to standard output for `-`, in ASCII."""
    if path == "-":
        print(results_csv.as_json(document, ascii=True), end="", flush=True)
    else:
        atomic.write_text(Path(path), results_csv.as_json(document))
