"""Command line of the model zoo: train image classifiers, distil them into small ones, evaluate and share them."""

from __future__ import annotations

import logging
import sys
from argparse import SUPPRESS
from importlib import import_module
from types import ModuleType

from dctkd_zoo import user_catalog
from dctkd_zoo._io.paths import ROOT
from dctkd_zoo.cli import common, shell
from dctkd_zoo.cli.arguments import Parser

# The commands in the order of the help, and where each is: a module with `add`, or a program of its own.
GROUPS = {
    "start": {
        "init": "dctkd_zoo.cli.init",
        "list": "dctkd_zoo.cli.listing",
        "info": "dctkd_zoo.cli.listing",
        "data": "dctkd_zoo.cli.data",
    },
    "train and evaluate": {
        "train": "train.__main__",
        "tune": "dctkd_zoo.cli.tune",
        "eval": "eval.__main__",
        "compare": "eval.compare",
        "predict": "dctkd_zoo.cli.predict",
    },
    "share": {
        "export": "dctkd_zoo.cli.export",
        "demo": "dctkd_zoo.cli.demo",
        "verify": "dctkd_zoo.cli.verify",
        "publish": "dctkd_zoo.cli.publish",
        "cards": "dctkd_zoo.cli.cards",
        "completion": "dctkd_zoo.cli.completion",
    },
}
COMMANDS = {name: module for group in GROUPS.values() for name, module in group.items()}
EXAMPLES = ("predict examples/mountain.jpg --overlay maps", "train r20_dctkd_synthscenes")

# Import `eval` and `train` from beside this package, now: later they might be modules of the current folder.
sys.path.insert(0, str(ROOT))
import_module("eval")
import_module("train")
sys.path.remove(str(ROOT))


def program(name: str) -> ModuleType | None:
    """Return the module of a command that is also a program of its own, with `parser` and `main`; else None."""
    return import_module(COMMANDS[name]) if name in shell.MODULES else None


def parser(command: str | None = None) -> Parser:
    """Return the argument parser of all commands, or of one, without importing the others."""
    parser = Parser(prog=shell.program(), usage="%(prog)s COMMAND ...", description=__doc__, examples=EXAMPLES)
    commands = parser.add_subparsers(prog=parser.prog, required=True, metavar="COMMAND", help=SUPPRESS)
    shared = common.shared()
    names = [command] if command in COMMANDS else [*COMMANDS]
    for name in names:
        if separate := program(name):
            commands.add_parser(name, help=separate.TEXT, add_help=False)
        elif name not in commands.choices:  # a module may add two
            import_module(COMMANDS[name]).add(commands, shared)
    texts = {action.dest: action for action in commands._choices_actions}
    for title, members in GROUPS.items():
        parser.add_argument_group(title)._group_actions.extend(texts[name] for name in members if name in texts)
    parser._action_groups.sort(key=lambda group: group is parser._optionals)  # --help comes last
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status; without arguments, print the help."""
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if arguments[:2] == ["completion", "--words"]:  # asked by the shell
        return shell.run(lambda: int(import_module(COMMANDS["completion"]).answer(arguments[2:])))
    if separate := program(arguments[0]):
        return int(separate.main(arguments[1:]))
    return shell.run(lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    options = parser(arguments[0]).parse_args(arguments)
    user_catalog.open_catalog(options)
    shell.remember(options)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("dctkd_zoo").setLevel(logging.INFO)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
