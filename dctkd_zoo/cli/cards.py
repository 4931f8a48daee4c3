"""`cards`: print an entry's model card, or write or check the committed ones."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from dctkd_zoo import registry
from dctkd_zoo._io import paths
from dctkd_zoo.cli.common import Commands
from dctkd_zoo.errors import ZooError

NAMED = 5  # stale cards that are named; more are counted


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the command."""
    command = commands.add_parser(
        "cards", parents=[shared], help="print an entry's model card; without a name, write the committed ones"
    )
    command.add_argument("name", nargs="?", metavar="NAME", help="print the card of this entry and write nothing")
    command.add_argument("--check", action="store_true", help="change nothing; fail where a card is stale or wrong")
    command.add_argument("--folder", type=Path, metavar="DIR", help="(the checkout's model_cards)")
    command.set_defaults(run=cards)


def cards(options: Namespace) -> int:
    """Print a card, write the committed ones, or name those that are stale."""
    from eval.cards import rendering

    folder = options.folder or paths.ROOT / "model_cards"
    if options.name:
        if options.check:
            raise ZooError(f"--check compares all committed cards: leave out {options.name}, or leave out --check")
        print(rendering.on_demand(registry.get_entry(options.name), folder), end="")
        return 0
    paths.refuse_installed(folder, "name a folder of your own, --folder DIR")
    if not options.check:
        rendering.write(folder)
        return 0
    stale = rendering.stale(folder)
    for problem in stale[:NAMED]:
        print(problem, file=sys.stderr)
    if stale:
        more = f"{len(stale)} in all; " if len(stale) > NAMED else ""
        print(f"{more}`python -m dctkd_zoo cards` writes them anew", file=sys.stderr)
    return int(bool(stale))
