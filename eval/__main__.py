"""Evaluate entries of the zoo and show a leaderboard: `python -m eval --all`, `python -m eval compare A B`."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dctkd_zoo import registry
from dctkd_zoo.cli import shell
from dctkd_zoo.cli.shell import add_options
from dctkd_zoo.errors import CatalogError, UnknownEntry, ZooError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dctkd_zoo.spec import Entry
    from eval.run.attempt import Outcome
    from eval.run.config import EvalConfig
    from eval.run.evaluation import Result
    from eval.run.result_row import Record


def parser() -> argparse.ArgumentParser:
    """The command line; flags say where, the entry says what."""
    parser = argparse.ArgumentParser(prog="python -m eval", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="entries, or shell patterns of them")
    parser.add_argument("--all", action="store_true", help="every entry whose weights and data are here")
    add_options(parser)
    parser.add_argument("--limit", type=_count, metavar="N", help="only N images, spread over the test set")
    parser.add_argument(
        "--protocol",
        choices=("exact", "released"),
        default="exact",
        help="exact (the default), or as the released code computes its figures, to compare with those reported",
    )
    parser.add_argument("--fresh", action="store_true", help="measure anew what was measured before")
    parser.add_argument("--cost", action="store_true", help="measure operations, latency, throughput and memory too")
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE, - for standard output")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write a page to look at to DIR/index.html")
    parser.add_argument(
        "--no-images", action="store_true", help="no test images in that page, so that it can be shared"
    )
    parser.add_argument(
        "--from-results",
        action="store_true",
        help="make the page of --report from eval/results.csv alone, for the entries named or all, evaluating nothing",
    )
    parser.add_argument("--write", action="store_true", help="put the rows into the checkout's eval/results.csv")
    parser.add_argument("--results", type=Path, metavar="FILE", help="the file that --write puts them into instead")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of images: 1 or more")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Run the command: 0 where whatever could be evaluated was, 1 where an entry failed, 2 for wrong usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["compare"]:  # no entry can be called that
        from eval import compare

        return compare.main(arguments[1:])
    return shell.run(lambda: _command(arguments))


def _command(arguments: list[str]) -> int:
    command = parser()
    options = command.parse_args(arguments)
    if options.all == bool(options.names) and not (options.from_results and not options.names):
        command.error("give either names of entries or --all")
    if options.write and options.limit:
        command.error("--write keeps figures over all images: leave out --limit")
    if options.results and not options.write:
        command.error("--results is about the file of --write: give both")
    if options.no_images and not options.report:
        command.error("--no-images is about the page of --report DIR: give both")
    if options.from_results and not options.report:
        command.error("--from-results makes the page of --report DIR: give both")
    unused = [f"--{name}" for name in ("limit", "fresh", "cost", "json", "write") if getattr(options, name)]
    if options.from_results and unused:
        command.error(f"--from-results evaluates nothing: leave out {', '.join(unused)}")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        if options.catalog:
            registry.include(options.catalog)
        entries = [
            registry.get_entry(name).with_seed(options.seed) for name in registry.resolve(options.names or ["*"])
        ]
        entries.sort(key=lambda entry: entry.dataset)  # each dataset is read once
        config = _where(options)
    except (CatalogError, UnknownEntry, ValueError) as error:
        command.error(str(error))
    if options.write:
        options.results = _results(options.results)
    return _run(entries, config, options)


def _results(named: Path | None) -> Path:
    """The file that rows are put into."""
    from dctkd_zoo._io import paths
    from eval.run import results_csv

    path = named or results_csv.RESULTS
    paths.refuse_installed(path, "name a file of your own, --write --results FILE")
    return path


def _where(options: argparse.Namespace) -> EvalConfig:
    from dctkd_zoo import device
    from eval.run.config import EvalConfig

    chosen = device.choose(options.device)
    return EvalConfig(
        options.data,
        chosen,
        options.out,
        options.limit,
        options.protocol,
        fresh=options.fresh,
        cost=options.cost,
    )


def _run(entries: list[Entry], config: EvalConfig, options: argparse.Namespace) -> int:
    from dctkd_zoo import device, distributed
    from eval.run.attempt import Status

    if options.from_results:
        return _report_rows({entry.name for entry in entries}, options.report)
    device.keep_memory()
    records: list[Record] = []
    result: dict[str, Result] = {}
    leads, lost = True, False
    try:
        with distributed.process_group(config.device):
            leads = distributed.is_primary()
            for outcome in _evaluate(entries, config):
                records.append(_told(outcome))
                if outcome.result:
                    result[outcome.entry.name] = outcome.result
                if options.write and records[-1]["row"] and leads:  # at once: what is measured is kept
                    lost |= not _write(records[-1], options.results)
    finally:  # what has been measured is kept and shown, whatever ends it: Ctrl-C, a rank that is lost, a full disk
        if leads:
            lost |= not _show(records, result, config, options)
    return int(lost or any(item["status"] == Status.FAILED for item in records))


def _write(record: Record, path: Path) -> bool:
    """Put a record's row into the results unless images, which its digest names, are missing; whether it was put."""
    from eval.run import results_csv

    lost = record["undecodable"]
    if lost:
        shell.complain(
            f"not written: {len(lost):,} test images do not decode, and a row stands for all images under its digest. "
            "Fetch them again; those that their release itself has damaged are taken out of the data, and out of the "
            f"number of its catalog: {lost[0]}",
            record["name"],
        )
        return False
    results_csv.write([record["row"]], path)
    return True


def _report_rows(names: set[str], folder: Path) -> int:
    """Write the page of the rows that `eval/results.csv` has of some entries."""
    from eval import report
    from eval.run import results_csv

    rows = [row for row in results_csv.read(results_csv.RESULTS) if row["name"] in names]
    print(f"report: {report.write_rows(rows, folder)}")
    return 0


def _told(outcome: Outcome) -> Record:
    """What is told of an outcome; what its run left behind may be damaged."""
    from eval.run import result_row
    from eval.run.attempt import Status

    try:
        return result_row.record(outcome)
    except ZooError as error:
        return result_row.record(replace(outcome, status=Status.FAILED, result=None, reason=str(error)))


def _show(records: list[Record], found: dict[str, Result], config: EvalConfig, options: argparse.Namespace) -> bool:
    """Write the files that were asked for, then print the leaderboard; whether all of the files could be written."""
    from eval import report
    from eval.run import terminal

    whole, page = True, None
    try:
        if options.json:
            terminal.write_json(options.json, {"entries": records})
    except OSError as error:
        shell.complain(error, f"--json {options.json}")
        whole = False
    try:
        if options.report:
            page = report.write(records, found, options.report, config, not options.no_images)
    except (OSError, ZooError) as error:
        shell.complain(error, f"--report {options.report}")
        whole = False
    console = terminal.console(options.json)
    shell.show(console, terminal.render(records))
    if page:
        print(f"report: {page}", file=console.file)
    return whole


def _evaluate(entries: list[Entry], config: EvalConfig) -> Iterator[Outcome]:
    """Each entry's outcome in turn, with progress on the error stream."""
    from rich.progress import MofNCompleteColumn, Progress

    from dctkd_zoo.data.progress import progress_options
    from eval.run.attempt import attempt

    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), **progress_options()) as progress:
        every = progress.add_task("entries", total=len(entries))
        images = progress.add_task("images", total=None)

        def report(done: int, total: int) -> None:
            progress.update(images, completed=done, total=total)

        for entry in entries:
            progress.reset(images, description=entry.name, total=None)
            yield attempt(entry, config, report)
            progress.advance(every)


if __name__ == "__main__":
    sys.exit(main())
