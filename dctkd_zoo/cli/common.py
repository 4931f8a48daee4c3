"""Arguments shared by several commands."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from dctkd_zoo import registry
from dctkd_zoo.cli.arguments import add_options

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from dctkd_zoo.spec import Entry
    from eval.run.config import EvalConfig

Commands: TypeAlias = "_SubParsersAction[ArgumentParser]"


def shared() -> ArgumentParser:
    """Return the parent parser with the options of every command."""
    parser = ArgumentParser(add_help=False)
    add_options(parser, ("catalog",))
    return parser


def add_command(
    commands: Commands, shared: ArgumentParser, name: str, text: str, examples: Sequence[str], about: str = ""
) -> ArgumentParser:
    """Add a command that `text` describes in a phrase, `about` in further lines, and return its parser."""
    description = f"{text[0].upper()}{text[1:]}.\n{about}"
    return commands.add_parser(name, parents=[shared], help=text, description=description, examples=examples)


def add_places(parser: ArgumentParser) -> None:
    """Add the options that say where data and checkpoints are, which seed to use and which device."""
    add_options(parser, ("data", "device", "out", "seed"))


def entries(options: Namespace) -> list[Entry]:
    """Return the named entries, or all of them, with the requested seed."""
    names = registry.resolve(options.names or ["*"])
    return [registry.get_entry(name).with_seed(options.seed) for name in names]


def where(options: Namespace) -> EvalConfig:
    """Return the requested data folder, device and checkpoint folder."""
    from dctkd_zoo import device
    from eval.run.config import EvalConfig

    return EvalConfig(options.data, device.choose(options.device), options.out)
