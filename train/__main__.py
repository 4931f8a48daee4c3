"""Train entries of the zoo: `dctkd-zoo train NAME...`, or `python -m train`."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dctkd_zoo import discover, registry, user_catalog
from dctkd_zoo._io import atomic
from dctkd_zoo.cli import shell
from dctkd_zoo.cli.arguments import NAMES, Parser, add_options, positive, rate, seeds
from dctkd_zoo.errors import ZooError, reason_of
from dctkd_zoo.recipe import PRECISIONS
from train import loggers

if TYPE_CHECKING:
    from dctkd_zoo.spec import Entry
    from train.config import TrainConfig


TEXT = "train entries of the zoo, or of a catalog file of your own"
EXAMPLES = ("photos.py --epochs 1 --limit 20", "'r18*_scene15' --data DIR --seed 0-4 --resume")


def parser() -> argparse.ArgumentParser:
    """Return the argument parser: flags say where to read and write, the entry says what to train."""
    parser = Parser(prog=shell.program("train"), description=f"{TEXT.capitalize()}.", examples=EXAMPLES)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("names", nargs="*", default=[], metavar="NAME", help=NAMES)
    which.add_argument("--all", action="store_true", help="train every entry, teachers before students")
    add_options(parser, ("data", "device"))
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for runs; teachers are looked up here first")
    parser.add_argument("--seed", type=seeds, metavar="S", help="training seeds: 3, or 0,1,2 or 0-4 for one run each")
    parser.add_argument("--resume", action="store_true", help="resume interrupted runs")
    parser.add_argument(
        "--teacher-cache",
        type=positive,
        metavar="K",
        help="train on K fixed views per image with the teacher's outputs cached on disk",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="number format of training (default: bfloat16 if the device has instructions for it, unless the network "
        "trains faster in float32 there, which is measured on a CPU)",
    )
    parser.add_argument(
        "--logger",
        "--log",  # which torchrun takes for an option of its own
        type=logger_names,
        action="extend",
        metavar="LOGGER",
        help=f"also log to {', '.join(discover.modules('train.loggers'))}; repeatable or comma-separated",
    )
    trial = parser.add_argument_group("a first try, recorded as another recipe than the entry's")
    trial.add_argument("--epochs", type=positive, metavar="N", help="number of epochs")
    trial.add_argument("--lr", type=rate, metavar="R", help="learning rate")
    trial.add_argument("--batch-size", type=positive, metavar="N", help="images in a batch, over all devices")
    trial.add_argument("--limit", type=positive, metavar="N", help="train on only the first N images of each class")
    add_options(parser, ("catalog",))
    many = parser.add_argument_group("many entries, one resumable job each")
    many.add_argument("--launcher", choices=("local", "slurm"), help="run the jobs here or on Slurm, and monitor them")
    many.add_argument("--jobs", type=positive, metavar="N", help="jobs at once (default: 1 locally, all on Slurm)")
    many.add_argument(
        "--slurm",
        type=pair,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="sbatch parameter, repeatable: partition=gpu, time=240 (minutes)",
    )
    many.add_argument("--dry-run", action="store_true", help="print jobs, hours and disk space without starting any")
    return parser


def pair(text: str) -> tuple[str, int | str]:
    """Return the key and value in `text`: `time=240` -> ("time", 240)."""
    key, _, value = text.partition("=")
    if not key or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key, int(value) if value.isdecimal() else value


def logger_names(text: str) -> list[str]:
    """Return the loggers in a comma-separated list."""
    try:
        return loggers.chosen(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return shell.run(lambda: _run(arguments), stopped="stopped; continue with --resume")


def _run(arguments: list[str] | None) -> int:
    options = parser().parse_args(arguments)
    in_file = user_catalog.open_catalog(options)
    shell.remember(options)
    logging.basicConfig(format="%(message)s")
    for package in ("dctkd_zoo", "train"):
        logging.getLogger(package).setLevel(logging.INFO)
    names = registry.resolve(options.names or ["*"])
    for name in options.logger or ():
        loggers.load(name)
    if options.launcher or options.dry_run or options.jobs or options.slurm:
        from train import launch

        return launch.main(names, options)
    return train_all(names, options, in_file)


def train_all(names: list[str], options: argparse.Namespace, in_file: Sequence[str] = ()) -> int:
    """Train the entries one after the other, teachers first; return 1 if any of them failed.

    `in_file` are the entries of the catalog file, if one was named.
    """
    from rich.console import Console

    from dctkd_zoo import device, distributed
    from dctkd_zoo._io.paths import checkpoints
    from dctkd_zoo.weights import run_folder
    from train import run
    from train.config import TrainConfig
    from train.launch import plan

    device.keep_memory()
    chosen, failed = device.choose(options.device), 0
    trained: list[Entry] = []
    resume = options.resume or distributed.restarted()
    config = TrainConfig(
        options.data,
        options.out or checkpoints(),
        chosen,
        resume,
        options.out,
        options.teacher_cache,
        options.precision,
        tuple(dict.fromkeys(options.logger or ())),
    )
    with distributed.process_group(chosen), device.full_float32():
        console = Console(quiet=not distributed.is_primary())
        for entry in [plan.changed(entry, options) for entry in plan.seeded(names, options.seed)]:
            if distributed.is_primary():
                user_catalog.remember(entry.name, config.out)
            try:
                with distributed.lost_rank_errors():
                    run.train(entry, config, console)
            except (ZooError, OSError) as error:  # an OSError: a full disk, a folder without write access
                shell.complain(error, entry.run_name)
            except Exception as error:  # a user's network or loss term may raise anything
                path = config.out / entry.run_name / run_folder.ERROR
                atomic.write_text(path, "".join(traceback.format_exception(error)))
                message = reason_of(error).strip().partition(chr(10))[0]
                shell.complain(f"{type(error).__name__}: {message} (traceback: {path})", entry.run_name)
            else:
                trained.append(entry)
                continue
            if distributed.world_size() > 1:  # the other ranks would wait for this one forever
                return 1
            failed += 1  # continue with the remaining entries
        whole = options.catalog if in_file and set(in_file) == {entry.name for entry in trained} else None
        for line in next_steps(trained, config, whole):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    return int(failed > 0)


def next_steps(entries: Sequence[Entry], config: TrainConfig, catalog: Path | None = None) -> list[str]:
    """Return what to do with the trained entries: commands and calls that can be pasted.

    `catalog` is the file whose entries they are, if they are all of them.
    """
    if not entries:
        return []
    names = " ".join(dict.fromkeys(entry.name for entry in entries))
    seeds = ",".join(dict.fromkeys(str(entry.recipe.seed) for entry in entries))
    seed = f" --seed {seeds}" if any(entry.run_name != entry.name for entry in entries) else ""
    folder = config.out / entries[-1].run_name
    whole = f"eval {shlex.quote(str(catalog))}{seed}{'' if ',' in seeds else ' --report report'}"
    return [
        f"next: {shell.suggest(whole if catalog else f'eval {names}{seed}')}",
        f"      timm.create_model({f'local-dir:{folder}'!r}, pretrained=True)",
    ]


if __name__ == "__main__":
    sys.exit(main())
