"""`cards`: print an entry's model card, or write or check the committed ones."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from dctkd_zoo import registry
from dctkd_zoo._io import paths
from dctkd_zoo.cli import shell
from dctkd_zoo.cli.common import Commands, add_command
from dctkd_zoo.errors import UsageError

NAMED = 5  # stale cards listed by name; the rest are only counted


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the command."""
    text = "print an entry's model card; without NAME, rewrite the committed cards"
    command = add_command(commands, shared, "cards", text, ("r20_dctkd_synthscenes", "--check"))
    command.add_argument("names", nargs="*", metavar="NAME", help="print the cards of these entries; write nothing")
    command.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if a committed card is stale or wrong"
    )
    command.add_argument(
        "--folder", type=Path, metavar="DIR", help="folder of the cards (default: model_cards of the checkout)"
    )
    command.set_defaults(run=cards)


def cards(options: Namespace) -> int:
    """Print cards, rewrite the committed ones, or list those that are stale."""
    from eval.cards import rendering

    folder = options.folder or paths.ROOT / "model_cards"
    if options.names:
        if options.check:
            raise UsageError(f"--check compares all committed cards: drop either {options.names[0]} or --check")
        print("\n".join(rendering.on_demand(registry.get_entry(name), folder) for name in options.names), end="")
        return 0
    paths.refuse_installed(folder, "pass a folder of your own, --folder DIR")
    if not options.check:
        rendering.write(folder)
        return 0
    stale = rendering.stale(folder)
    for problem in stale[:NAMED]:
        print(problem, file=sys.stderr)
    if stale:
        more = f"{len(stale)} in all; " if len(stale) > NAMED else ""
        print(f"{more}run `{shell.program('cards')}` to rewrite them", file=sys.stderr)
    return int(bool(stale))
