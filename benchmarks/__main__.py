"""Measure speed against a baseline in the same run, as ratios with their range: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks import report
from benchmarks.harness.measure import Measured, Row, measure
from benchmarks.harness.setting import Setting, full, home, quick
from benchmarks.suite import ROWS
from dctkd_zoo import device
from dctkd_zoo._io import atomic
from dctkd_zoo.data.progress import progress_options
from dctkd_zoo.errors import ZooError, reason_of
from eval.run import results_csv

WIDTH = 170  # columns of the table when the output is not a terminal


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [row.name for row in ROWS]
    parser.add_argument("--quick", action="store_true", help="smaller images and fewer rounds, for a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements and the machine to FILE")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"rows to run: {', '.join(names)}")
    parser.add_argument("--profile", choices=names, metavar="NAME", help="profile our side of a row")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with scene15 (default: random images)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status, which does not depend on targets."""
    options = parser().parse_args(arguments)
    device.keep_memory()
    with tempfile.TemporaryDirectory(prefix="benchmarks.") as name, home(Path(name) / "home"):
        size = quick if options.quick else full
        setting = size(Path(name), options.data)
        try:
            if options.profile:
                return show_profile(setting, options.profile)
            return show_table(setting, [row for row in ROWS if row.name in (options.only or [row.name])], options.json)
        except (ZooError, OSError) as error:
            print(f"error: {reason_of(error)}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 130


def show_table(setting: Setting, rows: list[Row], path: Path | None) -> int:
    """Measure rows, then print and write the results, even if interrupted."""
    measured: list[Measured] = []
    try:
        for row in track(rows, "measuring", **progress_options()):
            measured.append(measure(row, setting))
    finally:
        Console(width=None if sys.stdout.isatty() else WIDTH).print(report.table(measured, setting))
        if path:
            atomic.write_text(path, results_csv.as_json(report.document(measured, setting)))
    return 0


def show_profile(setting: Setting, name: str) -> int:
    """Print a profile of our side of a row."""
    row = next(row for row in ROWS if row.name == name)
    with row.function(setting) as comparison:
        print(comparison.ours.profile())
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that `timeout`, too, prints what was measured so far
    sys.exit(main())
