"""Train entries of the zoo: `python -m train NAME...`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from dctkd_zoo import registry
from dctkd_zoo.errors import ZooError


def parser() -> argparse.ArgumentParser:
    """The command line; flags say where, the entry says what."""
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("names", nargs="*", default=[], metavar="NAME", help="entries, or shell patterns of them")
    which.add_argument("--all", action="store_true", help="every entry, teachers before their students")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with one folder per dataset")
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1; the GPU if there is one")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where runs are written, and teachers looked for")
    parser.add_argument("--seed", type=int, metavar="S", help="in place of the recipe's")
    parser.add_argument("--resume", action="store_true", help="go on with runs that stopped early")
    parser.add_argument(
        "--teacher-cache",
        type=views,
        metavar="K",
        help="train on K fixed views an image, the teacher's outputs on disk",
    )
    parser.add_argument("--catalog", type=Path, metavar="FILE.py", help="a catalog file of your own, beside the zoo's")
    return parser


def views(text: str) -> int:
    """The number in `text`, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of views; at least 1")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status."""
    options = parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("dctkd_zoo").setLevel(logging.INFO)
    try:
        if options.catalog:
            registry.include(options.catalog)
        names = registry.resolve(options.names or ["*"])
        return train_all(names, options)
    except (ZooError, OSError) as error:  # an OSError: a disk that is full, a folder that is not ours
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(stop if stop.args else "stopped; go on with --resume", file=sys.stderr)
        return int(getattr(stop, "status", 130))


def train_all(names: list[str], options: argparse.Namespace) -> int:
    """Train the entries one after the other, teachers first; 1 where one of them failed."""
    from rich.console import Console

    from dctkd_zoo import device, ranks
    from dctkd_zoo.home import checkpoints
    from train import run
    from train.where import Where

    device.keep_memory()
    chosen, failed = device.choose(options.device), 0
    resume = options.resume or ranks.restarted()
    where = Where(options.data, options.out or checkpoints(), chosen, resume, options.out, options.teacher_cache)
    with ranks.started(chosen):
        console = Console(quiet=not ranks.leads())
        for name in registry.teachers_first(names):
            try:
                run.train(registry.get_entry(name).seeded(options.seed), where, console)
            except ZooError as error:
                print(f"error: {name}: {error}", file=sys.stderr)
                if ranks.size() > 1:  # what one rank cannot do the others wait for
                    return 1
                failed += 1  # the others may still train
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
