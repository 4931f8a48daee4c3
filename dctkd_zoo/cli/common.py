"""What the commands have in common: arguments and places."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, TypeAlias

from dctkd_zoo import registry
from dctkd_zoo.cli.shell import add_options

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from dctkd_zoo.spec import Entry
    from eval.run.config import EvalConfig

Commands: TypeAlias = "_SubParsersAction[ArgumentParser]"


def shared() -> ArgumentParser:
    """What every command takes."""
    parser = ArgumentParser(add_help=False)
    add_options(parser, ("catalog",))
    return parser


def add_places(parser: ArgumentParser) -> None:
    """Where networks and data are, and what computes."""
    add_options(parser, ("data", "device", "out", "seed"))


def entries(options: Namespace) -> list[Entry]:
    """The entries that were named, or all, with the seed that was asked for."""
    names = registry.resolve(options.names or ["*"])
    return [registry.get_entry(name).with_seed(options.seed) for name in names]


def where(options: Namespace) -> EvalConfig:
    """The places that were given."""
    from dctkd_zoo import device
    from eval.run.config import EvalConfig

    return EvalConfig(options.data, device.choose(options.device), options.out)
