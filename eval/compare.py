"""Compare entries on the same test images: `dctkd-zoo compare A B`, or `python -m eval compare A B`."""

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
    from dctkd_zoo.spec import Entry
    from eval.run.evaluation import Result


TEXT = "compare entries on the same test images, by paired tests"
EXAMPLES = (
    "r20_synthscenes r20_dctkd_synthscenes",
    "r56_synthscenes r20_kd_synthscenes --json -",
)


def parser() -> argparse.ArgumentParser:
    """Return the command line parser."""
    parser = Parser(prog=shell.program("compare"), description=f"{TEXT.capitalize()}.", examples=EXAMPLES)
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
    if options.teacher:
        from dctkd_zoo import teachers

        teachers.find(options.teacher, options.out)  # before anything is measured
    results: dict[str, Result] = {}
    try:
        for entry in entries:
            _measure(entry, results, options)
    finally:  # show what was measured before Ctrl-C, too
        if len(results) > 1:
            _show(results, options.json)
    return int(len(results) < len(names))


def _measure(entry: Entry, results: dict[str, Result], options: argparse.Namespace) -> None:
    """Add an entry's result, measured now or cached; print an error if it cannot be compared."""
    from dctkd_zoo import device
    from eval.run.attempt import attempt
    from eval.run.config import EvalConfig
    from eval.run.evaluation import silent
    from eval.stats import paired

    device.keep_memory()
    print(f"{entry.name} …", file=sys.stderr)
    config = EvalConfig(options.data, device.choose(options.device), options.out, teacher=options.teacher)
    outcome = attempt(entry, config, silent)
    if outcome.result is None:
        if not results:  # without the baseline there is nothing to compare
            raise ZooError(outcome.reason)
        shell.complain(outcome.reason)
        return
    try:
        for name, first in [*results.items()][:1]:
            paired.align(first.table, outcome.result.table, (name, entry.name))
    except ZooError as error:
        shell.complain(error)
    else:
        results[entry.name] = outcome.result


def _show(results: dict[str, Result], path: str | None) -> None:
    from eval.run import terminal
    from eval.stats import compare

    tables = {name: result.table for name, result in results.items()}
    comparisons = compare.compare(tables, {name: result.teacher for name, result in results.items()})
    if path:
        terminal.write_json(path, [asdict(item) for item in comparisons])
    shell.show(terminal.console(path), compare.render(comparisons))
