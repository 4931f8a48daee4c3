"""Arguments that several commands take, each with one meaning and one help text."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "data": {"type": Path, "metavar": "DIR", "help": "folder with one folder per dataset"},
    "device": {"metavar": "D", "help": "cpu, cuda, cuda:1; the GPU if there is one"},
    "out": {"type": Path, "metavar": "DIR", "help": "checkpoints that `python -m train --out DIR` wrote"},
    "seed": {"type": int, "metavar": "S", "help": "the networks that `python -m train --seed S` made"},
    "catalog": {"type": Path, "metavar": "FILE.py", "help": "a catalog file of your own, beside the zoo's"},
}


def add_options(parser: ArgumentParser, names: Iterable[str] = OPTIONS) -> None:
    """Add arguments to a parser, in this order: all, or those of some names."""
    for name in names:
        parser.add_argument(f"--{name}", **OPTIONS[name])
