"""Compare entries on the same images: `python -m eval compare BASELINE OTHER...`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from dctkd_zoo import registry
from dctkd_zoo.errors import ZooError, reason_of
from dctkd_zoo.options import add_options

if TYPE_CHECKING:
    import pandas as pd


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
        print(f"error: {reason_of(error)}", file=sys.stderr)
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
    from eval import compare, results, shown

    comparisons = compare.compare(tables)
    shown.console(path).print(compare.render(comparisons))
    if path:
        shown.write_json(path, results.as_json([asdict(each) for each in comparisons]))
    return 0
