"""`list` and `info`: entries of the catalogs."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from typing import Any

from dctkd_zoo import registry, weights
from dctkd_zoo.cli import shell
from dctkd_zoo.cli.common import Commands, add_command
from dctkd_zoo.spec import Entry

COLUMNS = ("entry", "teacher", "objective", "epochs", "reported", "weights")


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the two commands."""
    examples = ("'r18*' --dataset scene15", "--pretrained")
    listing = add_command(commands, shared, "list", "list entries that match a shell pattern", examples)
    listing.add_argument("names", nargs="*", metavar="PATTERN", help="shell patterns, or a catalog file of your own")
    listing.add_argument("--dataset", metavar="DATASET", help="only entries of this dataset")
    listing.add_argument("--pretrained", action="store_true", help="only entries with weights available now")
    listing.set_defaults(run=list_entries)

    examples = ("r18_dctkd_ade20k", "el0_scene15.px224 el0_miniplaces12k")
    info = add_command(commands, shared, "info", "print everything the catalog has on an entry, as JSON", examples)
    info.add_argument("names", nargs="+", metavar="NAME", help="one entry; of several, the JSON is a list")
    info.set_defaults(run=show_entries)


def list_entries(options: Namespace) -> int:
    """Print a table of entries."""
    from rich.text import Text

    patterns = options.names or ["*"]
    names = dict.fromkeys(name for pattern in patterns for name in registry.find(pattern, options.dataset))
    rows = [(registry.get_entry(name), weights.status(name)) for name in names]
    selected = [row for row in rows if not options.pretrained or row[1] != "recipe only"]
    lines = []
    for entry, status in selected:
        terms = " + ".join(term if w == 1 else f"{w:g} {term}" for term, w in entry.weights.items())
        top1 = next((f"{result.value:.2f}" for result in entry.reported if result.metric == "top1"), "")
        style = "dim" if status == "recipe only" else ""
        cells = (entry.name, entry.teacher or "", terms, str(entry.recipe.epochs), top1, status)
        lines.append([Text(cell, style) for cell in cells])
    columns = [shell.Column(title, right=title in ("epochs", "reported")) for title in COLUMNS]
    spare = ("weights", "teacher", "objective", "epochs")
    shell.show(shell.console(), shell.Grid(columns, lines, spare=spare, elsewhere="`info NAME` shows everything"))
    if not selected:
        wanted = " or ".join(map(repr, patterns))
        print(f"no entry matches {wanted}" if not names else "no matching entry has weights", file=sys.stderr)
        return 1
    return 0


def show_entries(options: Namespace) -> int:
    """Print entries, their dataset and where their weights are, as JSON: an object, or a list for several entries."""
    facts = [_facts(registry.get_entry(name)) for name in options.names]
    print(json.dumps(facts if len(facts) > 1 else facts[0], indent=2))
    return 0


def _facts(entry: Entry) -> dict[str, Any]:
    return {
        **entry.to_dict(),
        "arch": entry.arch,
        "terms": entry.terms,
        "variant": entry.variant,
        "reported": [asdict(result) for result in entry.reported],
        "license": entry.license,
        "dataset": asdict(registry.get_dataset(entry.dataset)),
        "students": registry.distilled(entry.name),
        "weights_status": weights.status(entry.name),
        "train": entry.train_command,
    }
