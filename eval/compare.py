"""Compare entries on the same test images: `python -m eval compare BASELINE OTHER...`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from dctkd_zoo import registry, user_catalog
from dctkd_zoo.cli import shell
from dctkd_zoo.cli.arguments import Parser, add_options
from dctkd_zoo.errors import ZooError

if TYPE_CHECKING:
    import pandas as pd

    from dctkd_zoo.spec import Entry


def parser() -> argparse.ArgumentParser:
    """Return the command line parser."""
    parser = Parser(prog="python -m eval compare", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help="the baseline, then the entries to compare with it")
    add_options(parser)
    parser.add_argument("--json", metavar="FILE", help="write all differences as JSON to FILE (- for standard output)")
    return parser


def main(arguments: list[str]) -> int:
    """Run the command; return 0, 1 if an entry could not be compared, 2 for wrong usage."""
    return shell.run(lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    command = parser()
    options = command.parse_args(arguments)
    user_catalog.open_catalog(options)
    shell.remember(options)
    names = list(dict.fromkeys(options.names))
    if len(names) < 2:
        command.error("give at least two entries: the baseline and one to compare with it")
    entries = [registry.get_entry(name).with_seed(options.seed) for name in names]
    tables: dict[str, pd.DataFrame] = {}
    try:
        for entry in entries:
            _measure(entry, tables, options)
    finally:  # show what was measured before Ctrl-C, too
        if len(tables) > 1:
            _show(tables, options.json)
    return int(len(tables) < len(names))


def _measure(entry: Entry, tables: dict[str, pd.DataFrame], options: argparse.Namespace) -> None:
    """Add an entry's per-image table, measured now or cached; print an error if it cannot be compared."""
    from dctkd_zoo import device
    from eval.run.attempt import attempt
    from eval.run.config import EvalConfig
    from eval.run.evaluation import silent
    from eval.stats import paired

    device.keep_memory()
    print(f"{entry.name} …", file=sys.stderr)
    outcome = attempt(entry, EvalConfig(options.data, device.choose(options.device), options.out), silent)
    if outcome.result is None:
        if not tables:  # without the baseline there is nothing to compare
            raise ZooError(outcome.reason)
        shell.complain(outcome.reason)
        return
    try:
        for first, table in [*tables.items()][:1]:
            paired.align(table, outcome.result.table, (first, entry.name))
    except ZooError as error:
        shell.complain(error)
    else:
        tables[entry.name] = outcome.result.table


def _show(tables: dict[str, pd.DataFrame], path: str | None) -> None:
    from eval.run import terminal
    from eval.stats import compare

    comparisons = compare.compare(tables)
    if path:
        terminal.write_json(path, [asdict(item) for item in comparisons])
    shell.show(terminal.console(path), compare.render(comparisons))
