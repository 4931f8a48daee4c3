"""`cards`: the model cards of every entry, written or looked over."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from dctkd_zoo._io import paths
from dctkd_zoo.cli.common import Commands

NAMED = 5  # stale cards that are named; more are counted


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the command."""
    command = commands.add_parser("cards", parents=[shared], help="write model_cards/<name>.md for every entry")
    command.add_argument("--check", action="store_true", help="change nothing; fail where a card is stale or wrong")
    command.add_argument("--folder", type=Path, metavar="DIR", help="(the checkout's model_cards)")
    command.set_defaults(run=cards)


def cards(options: Namespace) -> int:
    """Write the cards, or say which are stale."""
    from eval.cards import rendering

    folder = options.folder or paths.ROOT / "model_cards"
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
