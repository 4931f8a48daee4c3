"""Evaluate entries and print a leaderboard: `dctkd-zoo eval --all`, or `python -m eval --all`."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dctkd_zoo import registry, user_catalog
from dctkd_zoo.cli import shell
from dctkd_zoo.cli.arguments import NAMES, Parser, add_options, seeds
from dctkd_zoo.errors import UnknownEntry, ZooError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dctkd_zoo.spec import Entry
    from eval.run.attempt import Outcome
    from eval.run.config import EvalConfig
    from eval.run.evaluation import Result
    from eval.run.result_row import Record


TEXT = "evaluate entries and print a leaderboard"
EXAMPLES = ("--all", "r56_synthscenes 'r20*_synthscenes' --report report")


def parser() -> argparse.ArgumentParser:
    """Return the command line parser; flags say where, the entry says what."""
    about = f"{TEXT.capitalize()}. `{shell.program('compare')} A B` tests a difference."
    parser = Parser(prog=shell.program("eval"), description=about, examples=EXAMPLES)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{NAMES}; or ONNX files")
    parser.add_argument("--all", action="store_true", help="every entry whose weights and data are available")
    add_options(parser, ("data", "device", "out"))
    parser.add_argument("--seed", type=seeds, metavar="S", help="networks trained with seed 3, or with 0,1,2 or 0-4")
    add_options(parser, ("catalog", "teacher"))
    parser.add_argument("--limit", type=_count, metavar="N", help="evaluate only N images, spread over the test set")
    parser.add_argument(
        "--protocol",
        choices=("exact", "released", "objects"),
        default="exact",
        help="exact (default); released: metrics as the authors' code computes them, to compare with reported ones; "
        "objects: attention on the outlined objects of annotated images, where a dataset has them",
    )
    parser.add_argument("--fresh", action="store_true", help="ignore cached measurements and evaluate again")
    parser.add_argument("--cost", action="store_true", help="also measure operations, latency, throughput and memory")
    parser.add_argument(
        "--sanity", action="store_true", help="also measure alignment as weights are replaced by untrained ones"
    )
    parser.add_argument(
        "--faithfulness",
        action="store_true",
        help="also measure insertion and deletion of pixels by the network's own maps and by its teacher's",
    )
    parser.add_argument("--json", metavar="FILE", help="write all results as JSON to FILE (- for standard output)")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write an HTML report to DIR/index.html")
    parser.add_argument(
        "--no-images", action="store_true", help="leave test images out of the report, so that it can be shared"
    )
    parser.add_argument(
        "--from-results",
        action="store_true",
        help="make the report from eval/results.csv without evaluating anything: of the named entries, or of all",
    )
    parser.add_argument("--write", action="store_true", help="write the rows to eval/results.csv of the checkout")
    parser.add_argument("--results", type=Path, metavar="FILE", help="file for --write instead of eval/results.csv")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of images; give 1 or more")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0, 1 if an entry failed or a file could not be written, 2 for wrong usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["compare"]:  # not a valid name of an entry
        from eval import compare

        return compare.main(arguments[1:])
    return shell.run(lambda: _command(arguments))


def _command(arguments: list[str]) -> int:
    command = parser()
    options = command.parse_args(arguments)
    user_catalog.open_catalog(options)
    shell.remember(options)
    if any(name.endswith(".onnx") for name in options.names):
        from eval import onnx_files

        onnx_files.check(command, options)
        return onnx_files.run([*map(Path, options.names)], _config(options), options.json)
    if options.all == bool(options.names) and not (options.from_results and not options.names):
        command.error("give either names of entries or --all")
    if options.write and options.limit:
        command.error("--write needs results over all test images: leave out --limit")
    if options.results and not options.write:
        command.error("--results names the file for --write: give both")
    if options.no_images and not options.report:
        command.error("--no-images applies to the report: give both --report DIR and --no-images")
    if options.from_results and not options.report:
        command.error("--from-results makes the report: give both --report DIR and --from-results")
    if options.report and len(options.seed or ()) > 1 and not options.from_results:
        command.error("--report shows networks of one seed: leave out --report, or give one --seed, or --from-results")
    if options.sanity and options.protocol == "released":
        command.error("--sanity needs levels of chance, which the protocol released does not have")
    measuring = ("limit", "fresh", "cost", "sanity", "faithfulness", "json", "write", "teacher")
    unused = [f"--{name}" for name in measuring if getattr(options, name)]
    if options.from_results and unused:
        command.error(f"--from-results evaluates nothing: leave out {', '.join(unused)}")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        entries = [
            registry.get_entry(name).with_seed(seed)
            for name in registry.resolve(options.names or ["*"])
            for seed in options.seed or [None]
        ]
        entries.sort(key=lambda entry: entry.dataset)  # so that each dataset is read once
        config = _config(options)
        if options.teacher:
            _check_teacher(entries, options)
    except (UnknownEntry, ValueError) as error:
        command.error(str(error))
    if options.write:
        options.results = _results(options.results)
    return _run(entries, config, options)


def _check_teacher(entries: list[Entry], options: argparse.Namespace) -> None:
    """Refuse a chosen teacher that has no weights, or that rows of a results file would not be measured against."""
    from dctkd_zoo import teachers
    from eval.run.setup import reference

    teachers.find(options.teacher, options.out)
    other = next((entry for entry in entries if reference(entry) != options.teacher), None)
    if options.write and other:
        raise ValueError(
            f"--write needs the entries' own teachers: {other.name} has one row, measured against "
            f"{reference(other) or 'none'}, not against {options.teacher}; leave out --teacher or --write"
        )


def _results(path: Path | None) -> Path:
    """Return the file that rows are written to."""
    from dctkd_zoo._io import paths
    from eval.run import results_csv

    path = path or results_csv.RESULTS
    paths.refuse_installed(path, "name a file of your own with --write --results FILE")
    return path


def _config(options: argparse.Namespace) -> EvalConfig:
    from dctkd_zoo import device
    from eval.run.config import EvalConfig

    return EvalConfig(
        options.data,
        device.choose(options.device),
        options.out,
        options.limit,
        options.protocol,
        fresh=options.fresh,
        cost=options.cost,
        sanity=options.sanity,
        faithfulness=options.faithfulness,
        teacher=options.teacher,
    )


def _run(entries: list[Entry], config: EvalConfig, options: argparse.Namespace) -> int:
    from dctkd_zoo import device, distributed
    from eval.run.attempt import Status

    if options.from_results:
        return _report_rows({entry.name for entry in entries}, options.report)
    device.keep_memory()
    records: list[Record] = []
    results: dict[str, Result] = {}
    primary, incomplete = True, False
    try:
        with distributed.process_group(config.device):
            primary = distributed.is_primary()
            for outcome in _evaluate(entries, config):
                records.append(_record(outcome))
                if outcome.result:
                    results[outcome.entry.name] = outcome.result
                if options.write and records[-1]["row"] and primary:  # at once, so that no measurement is lost
                    incomplete |= not _write(records[-1], options.results)
    finally:  # show what has been measured, whatever ends the run: Ctrl-C, a lost rank, a full disk
        if primary:
            incomplete |= not _show(records, results, config, options)
    failed = any(record["status"] == Status.FAILED for record in records)
    evaluated = {record["name"] for record in records if record["status"] == Status.EVALUATED}
    missing = any(not evaluated.intersection(registry.resolve([name])) for name in options.names)
    return int(incomplete or failed or missing)


def _write(record: Record, path: Path) -> bool:
    """Write a record's row unless test images are missing from it, or its recipe is not the entry's.

    Return whether it was written.
    """
    from eval.run import results_csv

    if record["other_recipe"]:
        shell.complain(f"not written: {record['other_recipe']}: train it as the catalog says", record["name"])
        return False
    undecodable = record["undecodable"]
    if undecodable:
        shell.complain(
            f"not written: {len(undecodable):,} test images do not decode (the first is {undecodable[0]}), and a row "
            "must cover all test images. Download them again; if the release itself is damaged, delete them and "
            "correct the number of test images in the catalog",
            record["name"],
        )
        return False
    results_csv.write([record["row"]], path)
    return True


def _report_rows(names: set[str], folder: Path) -> int:
    """Write the report of the rows that `eval/results.csv` has for some entries."""
    from eval import report
    from eval.run import results_csv

    rows = [row for row in results_csv.read(results_csv.RESULTS) if row["name"] in names]
    print(f"report: {report.write_rows(rows, folder)}")
    return 0


def _record(outcome: Outcome) -> Record:
    """Return the record of an outcome; damaged files in its run folder make it a failure."""
    from eval.run import result_row
    from eval.run.attempt import Status

    try:
        return result_row.record(outcome)
    except ZooError as error:
        return result_row.record(replace(outcome, status=Status.FAILED, result=None, reason=str(error)))


def _show(records: list[Record], results: dict[str, Result], config: EvalConfig, options: argparse.Namespace) -> bool:
    """Write the JSON file and the report, then print the leaderboard; return whether all files were written."""
    from eval import report
    from eval.run import terminal

    complete, page = True, None
    try:
        if options.json:
            terminal.write_json(options.json, {"entries": records})
    except OSError as error:
        shell.complain(error, f"--json {options.json}")
        complete = False
    try:
        if options.report:
            page = report.write(records, results, options.report, config, not options.no_images)
    except (OSError, ZooError) as error:
        shell.complain(error, f"--report {options.report}")
        complete = False
    console = terminal.console(options.json)
    shell.show(console, terminal.render(records))
    if page:
        print(f"report: {page}", file=console.file)
    return complete


def _evaluate(entries: list[Entry], config: EvalConfig) -> Iterator[Outcome]:
    """Yield the outcome of each entry, with a progress bar on standard error."""
    from rich.progress import MofNCompleteColumn, Progress

    from dctkd_zoo.data.progress import progress_options
    from eval.run.attempt import attempt

    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), **progress_options()) as progress:
        total = progress.add_task("entries", total=len(entries))
        images = progress.add_task("images", total=None)

        def report(done: int, count: int) -> None:
            progress.update(images, completed=done, total=count)

        for entry in entries:
            progress.reset(images, description=entry.name, total=None)
            yield attempt(entry, config, report)
            progress.advance(total)


if __name__ == "__main__":
    sys.exit(main())
