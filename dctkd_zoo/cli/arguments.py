"""Arguments of the commands: a parser that suggests flags, and the options that several commands share."""

from __future__ import annotations

import difflib
import math
import re
import sys
from argparse import SUPPRESS, Action, ArgumentParser, ArgumentTypeError, HelpFormatter, _SubParsersAction
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from dctkd_zoo.errors import printable


class Parser(ArgumentParser):
    """An argument parser with `--version` and examples, which suggests a flag or command for one that is misspelt.

    `examples` are the arguments of some commands, for the end of the help.
    """

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **{"formatter_class": _Formatter, **options})
        self.examples = [f"{self.prog} {example}" for example in examples]
        if self.examples:
            self.epilog = "\n  ".join(["Examples:", *self.examples])
        if self.add_help:
            self.add_argument("--version", action=_Version, nargs=0, dest=SUPPRESS, help="print the version and exit")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Parse; names may stand before and after options: `train A --seed 1 B`."""
        options, rest = self.parse_known_args(args, namespace)
        names = getattr(options, "names", None)
        if isinstance(names, list) and not any(word.startswith("-") for word in rest):
            names.extend(rest)
        elif rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return options

    def error(self, message: str) -> NoReturn:
        """Print the message and a suggestion as one line, and exit with status 2."""
        known = [flag for parser in self._with_commands() for flag in parser._option_string_actions]
        unknown = re.findall(r"(?<!\S)--[\w-]+", message) if message.startswith("unrecognized arguments") else []
        if choice := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            unknown, known = [choice[1]], re.findall(r"[\w-]+", choice[2])
        close = [word for name in unknown for word in difflib.get_close_matches(name, known, n=1)]
        hint = f"; did you mean {', '.join(dict.fromkeys(close))}?" if close else ""
        self.exit(2, f"error: {printable(message)}{hint}\n")

    def _with_commands(self) -> Iterator[ArgumentParser]:
        yield self
        for action in self._actions:
            if isinstance(action, _SubParsersAction):
                yield from action.choices.values()


class _Formatter(HelpFormatter):
    """A formatter that wraps each line of a text for itself, and leaves the examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        wrapped = super()._fill_text
        return "\n".join(line if line.startswith("  ") else wrapped(line, width, indent) for line in text.splitlines())


class _Version(Action):
    def __call__(self, parser: ArgumentParser, *unused: Any) -> None:
        print(f"dctkd_zoo {sys.modules['dctkd_zoo'].__version__}")
        parser.exit()


def seeds(text: str) -> list[int]:
    """Return the seeds in `text`: `3` -> [3], `0,2` -> [0, 2], `0-4` -> [0, 1, 2, 3, 4]."""
    result: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ArgumentTypeError(f"{text!r} is not a list of seeds; write 3, 0,1,2 or 0-4")
        result |= dict.fromkeys(range(int(first), int(last or first) + 1))
    return [*result]


def positive(text: str) -> int:
    """Return the number in `text`, which must be at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def rate(text: str) -> float:
    """Return the learning rate in `text`, a number of 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ArgumentTypeError(f"{text!r} is not a learning rate, a number of 0 or more")
    return value


NAMES = "entries, shell patterns such as 'r20_*', or a catalog file of your own"

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "data": {"type": Path, "metavar": "DIR", "help": "folder with one subfolder per dataset"},
    "device": {"metavar": "D", "help": "cpu, cuda or cuda:1 (default: the GPU if there is one)"},
    "out": {"type": Path, "metavar": "DIR", "help": "folder of runs, that of `train --out DIR`"},
    "seed": {"type": int, "metavar": "S", "help": "use the networks of `train --seed S`"},
    "catalog": {"type": Path, "metavar": "FILE.py", "help": "a catalog file of your own, in addition to the zoo's"},
    "teacher": {
        "metavar": "T",
        "help": "compare all with the network T instead of their own teachers: an entry, hf-hub:NAME or local-dir:DIR",
    },
}


def add_options(parser: ArgumentParser, names: Iterable[str] = OPTIONS) -> None:
    """Add the options called `names` to a parser, in this order; all of them by default."""
    for name in names:
        parser.add_argument(f"--{name}", **OPTIONS[name])
