"""Look the zoo up and fetch what it needs: `python -m dctkd_zoo list`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path

from dctkd_zoo import registry, weights
from dctkd_zoo.errors import ZooError
from dctkd_zoo.home import data_root


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dctkd_zoo", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    mine = argparse.ArgumentParser(add_help=False)
    mine.add_argument("--catalog", type=Path, metavar="FILE.py", help="a catalog file of your own, beside the zoo's")

    listing = commands.add_parser("list", parents=[mine], help="entries that match a shell pattern")
    listing.add_argument("pattern", nargs="?", default="*", metavar="PATTERN")
    listing.add_argument("--dataset", metavar="NAME", help="of this dataset only")
    listing.add_argument("--pretrained", action="store_true", help="whose weights can be had now")
    listing.set_defaults(run=list_entries)

    info = commands.add_parser("info", parents=[mine], help="everything the catalog says of an entry, as JSON")
    info.add_argument("name", metavar="NAME")
    info.set_defaults(run=show_entry)

    data = commands.add_parser("data", help="download or check a dataset").add_subparsers(required=True, metavar="WHAT")
    for name, run, text in (
        ("fetch", fetch_data, "download and unpack a dataset; goes on where it stopped"),
        ("check", check_data, "missing, extra, undecodable and leaked images; class order"),
    ):
        command = data.add_parser(name, parents=[mine], help=text)
        command.add_argument("dataset", metavar="DATASET", help=", ".join(registry.datasets()))
        command.add_argument("--data", type=Path, metavar="DIR", help="folder with one folder per dataset")
        command.set_defaults(run=run)
    return parser


def list_entries(options: argparse.Namespace) -> int:
    """Print a table of entries."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names = registry.find(options.pattern, options.dataset)
    rows = [(registry.get_entry(name), weights.status(name)) for name in names]
    shown = [row for row in rows if not options.pretrained or row[1] != "recipe only"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("entry", "teacher", "objective", "epochs", "reported", "weights"):
        table.add_column(title, justify="right" if title in ("epochs", "reported") else "left", no_wrap=True)
    lines = []
    for entry, status in shown:
        terms = " + ".join(term if w == 1 else f"{w:g} {term}" for term, w in entry.weights.items())
        top1 = next((f"{figure.value:.2f}" for figure in entry.reported if figure.metric == "top1"), "")
        style = "dim" if status == "recipe only" else ""
        cells = (entry.name, entry.teacher or "", terms, str(entry.recipe.epochs), top1, status)
        lines.append([Text(cell, style) for cell in cells])
    # A column is one cell of many lines: hundreds of rows of six cells take rich three times as long.
    if lines:
        table.add_row(*(Text("\n").join(column) for column in zip(*lines, strict=True)))
    Console(width=_width()).print(table)
    if not shown:
        print(f"no entry matches {options.pattern!r}" if not names else "none of them has weights", file=sys.stderr)
        return 1
    return 0


def _width() -> int | None:
    """Columns to print in: the terminal's, or room for a whole row where there is none."""
    return None if sys.stdout.isatty() else 120


def show_entry(options: argparse.Namespace) -> int:
    """Print an entry, its dataset and where its weights are, as JSON."""
    entry = registry.get_entry(options.name)
    dataset = registry.get_dataset(entry.dataset)
    facts = {
        **entry.facts(),
        "arch": entry.arch,
        "terms": entry.terms,
        "variant": entry.variant,
        "reported": [asdict(figure) for figure in entry.reported],
        "dataset": asdict(dataset),
        "students": registry.distilled(entry.name),
        "weights_status": weights.status(entry.name),
        "train": entry.train_command,
    }
    print(json.dumps(facts, indent=2))
    return 0


def fetch_data(options: argparse.Namespace) -> int:
    """Download a dataset into its folder."""
    from dctkd_zoo.data.fetch import fetch

    dataset = registry.get_dataset(options.dataset)
    folder = data_root(options.data) / dataset.name
    fetch(dataset, folder)
    print(f"{dataset.title} is in {folder}; `python -m dctkd_zoo data check {dataset.name}` looks at it")
    return 0


def check_data(options: argparse.Namespace) -> int:
    """Look a dataset over and print what was found; 1 where something is wrong."""
    from rich.console import Console

    from dctkd_zoo.data import check, load

    dataset = registry.get_dataset(options.dataset)
    report = check.check(dataset, load.read(dataset, options.data))
    Console(width=_width()).print(check.render(report))
    return 0 if report.ok else 1


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status."""
    options = parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("dctkd_zoo").setLevel(logging.INFO)
    try:
        if options.catalog:
            registry.include(options.catalog)
        status: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ZooError, OSError) as error:  # an OSError: a disk that is full, a folder that is not ours
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
