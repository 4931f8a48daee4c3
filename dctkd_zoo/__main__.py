"""Command line of the model zoo: list entries, classify images, fetch data, verify and publish weights."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys

from dctkd_zoo import user_catalog
from dctkd_zoo.cli import cards, common, data, demo, init, listing, predict, publish, shell, tune, verify
from dctkd_zoo.cli.arguments import Parser

PROGRAMS = {"train": "train entries: python -m train", "eval": "evaluate entries: python -m eval"}
COMMANDS = (init, listing, predict, demo, data, tune, verify, publish, cards)


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    parser = Parser(prog="python -m dctkd_zoo", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = common.shared()
    for command in COMMANDS:
        command.add(commands, shared)
    for name, text in PROGRAMS.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in PROGRAMS:
        program = importlib.import_module(f"{arguments[0]}.__main__")
        return int(program.main(arguments[1:]))
    return shell.run(lambda: _run(arguments))


def _run(arguments: list[str] | None) -> int:
    options = parser().parse_args(arguments)
    user_catalog.open_catalog(options)
    shell.remember(options)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("dctkd_zoo").setLevel(logging.INFO)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
