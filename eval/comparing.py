"""Compare entries on the same images: `python -m eval compare BASELINE OTHER...`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dctkd_zoo import registry
from dctkd_zoo.errors import ZooError
from dctkd_zoo.options import add_options

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 100  # columns, where there is no terminal to ask


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m eval compare", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help="what the others are compared with, then the others")
    add_options(parser)
    parser.add_argument("--json", metavar="FILE", help="write every difference to FILE, - for standard output")
    return parser


def main(arguments: list[str]) -> int:
    """Run the command."""
    command = parser()
    options = command.parse_args(arguments)
    names = list(dict.fromkeys(options.names))
    if len(names) < 2:
        command.error("give at least two entries: what is compared, and with what")
    try:
        if options.catalog:
            registry.include(options.catalog)
        tables = {name: _table(name, options) for name in names}
        return _show(tables, options.json)
    except (ZooError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _table(name: str, options: argparse.Namespace) -> pd.DataFrame:
    """An entry's row per image: measured now, or kept from before."""
    from dctkd_zoo import device
    from eval.run import Where, evaluate

    device.keep_memory()
    print(f"{name} …", file=sys.stderr)
    where = Where(options.data, device.choose(options.device), options.out)
    return evaluate(registry.get_entry(name).seeded(options.seed), where).table


def _show(tables: dict[str, pd.DataFrame], path: str | None) -> int:
    from rich.console import Console

    from dctkd_zoo import atomic
    from eval import compare, results

    comparisons = compare.compare(tables)
    shown = sys.stderr if path == "-" else sys.stdout
    Console(file=shown, width=None if shown.isatty() else WIDTH).print(compare.render(comparisons))
    text = results.as_json([asdict(each) for each in comparisons]) if path else ""
    if path == "-":
        print(text, end="")
    elif path:
        atomic.write_text(Path(path), text)
    return 0
