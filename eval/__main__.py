"""Evaluate entries of the zoo and show a leaderboard: `python -m eval --all`, `python -m eval compare A B`."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dctkd_zoo import registry, shell
from dctkd_zoo.errors import CatalogError, UnknownEntry, ZooError
from dctkd_zoo.options import add_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dctkd_zoo.spec import Entry
    from eval.outcome import Outcome
    from eval.record import Record
    from eval.run import Result, Where


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
    parser.add_argument("--ten-crop", action="store_true", help="measure top-1 over ten crops of each image too")
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
        from eval import comparing

        return comparing.main(arguments[1:])
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
        entries = [registry.get_entry(name).seeded(options.seed) for name in registry.resolve(options.names or ["*"])]
        entries.sort(key=lambda entry: entry.dataset)  # each dataset is read once
        where = _where(options)
    except (CatalogError, UnknownEntry, ValueError) as error:
        command.error(str(error))
    if options.write:
        options.results = _results(options.results)
    return _run(entries, where, options)


def _results(named: Path | None) -> Path:
    """The file that rows are put into."""
    from dctkd_zoo import home
    from eval import results

    path = named or results.RESULTS
    home.refuse_installed(path, "name a file of your own, --write --results FILE")
    return path


def _where(options: argparse.Namespace) -> Where:
    from dctkd_zoo import device
    from eval.run import Where

    chosen = device.choose(options.device)
    return Where(
        options.data,
        chosen,
        options.out,
        options.limit,
        options.protocol,
        fresh=options.fresh,
        cost=options.cost,
        ten_crop=options.ten_crop,
    )


def _run(entries: list[Entry], where: Where, options: argparse.Namespace) -> int:
    from dctkd_zoo import device, ranks
    from eval.outcome import Status

    if options.from_results:
        return _report_rows({entry.name for entry in entries}, options.report)
    device.keep_memory()
    records: list[Record] = []
    found: dict[str, Result] = {}
    leads, lost = True, False
    try:
        with ranks.started(where.device):
            leads = ranks.leads()
            for outcome in _evaluate(entries, where):
                records.append(_told(outcome))
                if outcome.result:
                    found[outcome.entry.name] = outcome.result
                if options.write and records[-1]["row"] and leads:  # at once: what is measured is kept
                    lost |= not _write(records[-1], options.results)
    finally:  # what has been measured is kept and shown, whatever ends it: Ctrl-C, a rank that is lost, a full disk
        if leads:
            lost |= not _show(records, found, where, options)
    return int(lost or any(each["status"] == Status.FAILED for each in records))


def _write(record: Record, path: Path) -> bool:
    """Put a record's row into the results unless images, which its digest names, are missing; whether it was put."""
    from eval import results

    lost = record["undecodable"]
    if lost:
        shell.complain(
            f"not written: {len(lost):,} test images do not decode, and a row stands for all images under its digest. "
            "Fetch them again; those that their release itself has damaged are taken out of the data, and out of the "
            f"number of its catalog: {lost[0]}",
            record["name"],
        )
        return False
    results.write([record["row"]], path)
    return True


def _report_rows(names: set[str], folder: Path) -> int:
    """Write the page of the rows that `eval/results.csv` has of some entries."""
    from eval import report, results

    rows = [row for row in results.read(results.RESULTS) if row["name"] in names]
    print(f"report: {report.write_rows(rows, folder)}")
    return 0


def _told(outcome: Outcome) -> Record:
    """What is told of an outcome; what its run left behind may be damaged."""
    from eval import record
    from eval.outcome import Status

    try:
        return record.record(outcome)
    except ZooError as error:
        return record.record(replace(outcome, status=Status.FAILED, result=None, reason=str(error)))


def _show(records: list[Record], found: dict[str, Result], where: Where, options: argparse.Namespace) -> bool:
    """Write the files that were asked for, then print the leaderboard; whether all of the files could be written."""
    from eval import leaderboard, report, shown

    whole, page = True, None
    try:
        if options.json:
            shown.write_json(options.json, {"entries": records})
    except OSError as error:
        shell.complain(error, f"--json {options.json}")
        whole = False
    try:
        if options.report:
            page = report.write(records, found, options.report, where, not options.no_images)
    except (OSError, ZooError) as error:
        shell.complain(error, f"--report {options.report}")
        whole = False
    console = shown.console(options.json)
    shell.show(console, leaderboard.render(records))
    if page:
        print(f"report: {page}", file=console.file)
    return whole


def _evaluate(entries: list[Entry], where: Where) -> Iterator[Outcome]:
    """Each entry's outcome in turn, with progress on the error stream."""
    from rich.progress import MofNCompleteColumn, Progress

    from dctkd_zoo.data.console import progress_options
    from eval.outcome import attempt

    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), **progress_options()) as progress:
        every = progress.add_task("entries", total=len(entries))
        images = progress.add_task("images", total=None)

        def report(done: int, total: int) -> None:
            progress.update(images, completed=done, total=total)

        for entry in entries:
            progress.reset(images, description=entry.name, total=None)
            yield attempt(entry, where, report)
            progress.advance(every)


if __name__ == "__main__":
    sys.exit(main())
