"""Speed, side by side in one run, as ratios with their spread: `python -m benchmarks`."""

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

WIDTH = 170  # columns, where there is no terminal to ask


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [row.name for row in ROWS]
    parser.add_argument("--quick", action="store_true", help="smaller images and fewer rounds, for a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured, and on what, to FILE")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"some of {', '.join(names)}")
    parser.add_argument("--profile", choices=names, metavar="NAME", help="what our side of a row spends its time on")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with scene15, in place of random images")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status says nothing of targets."""
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
    """Measure rows, and print and write what was found, also where it ends early."""
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
    """Print what our side of a row consists of."""
    row = next(row for row in ROWS if row.name == name)
    with row.function(setting) as comparison:
        print(comparison.ours.profile())
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `timeout` too is shown what was measured so far
    sys.exit(main())
