"""`publish`: trained folders to the Hub."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from dctkd_zoo.cli.common import Commands, add_places, entries, where, width
from dctkd_zoo.errors import ZooError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from dctkd_zoo.publishing import Plan


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the command."""
    command = commands.add_parser(
        "publish", parents=[shared], help="look trained networks over and put them on the Hub"
    )
    command.add_argument("names", nargs="*", metavar="NAME", help="entries, or shell patterns of them")
    command.add_argument("--all", action="store_true", help="every entry that was trained here")
    command.add_argument("--org", metavar="ORG", help="whose repositories they become; the token's owner")
    command.add_argument("--private", action="store_true", help="only the organisation can see them")
    command.add_argument("--dry-run", action="store_true", help="look everything over and send nothing")
    add_places(command)
    command.set_defaults(run=publish)


def publish(options: Namespace) -> int:
    """Publish what is ready; 1 where something stands in the way of an entry that was trained."""
    if options.all == bool(options.names):
        raise ZooError("give either names of entries or --all")
    from rich.console import Console

    from dctkd_zoo import hub, publishing

    org = options.org or ("ORG" if options.dry_run else hub.owner())
    place = where(options)
    plans = [publishing.plan(entry, org, place) for entry in entries(options)]
    console = Console(width=width())
    console.print(table(plans))
    failed = any(plan.problems for plan in plans) or (not options.all and not any(plan.folder for plan in plans))
    if options.dry_run:
        return int(failed)
    for plan in plans:
        if plan.folder is None or plan.problems:
            continue
        try:
            row = publishing.publish(plan, place, private=options.private)
        except ZooError as error:
            print(f"{plan.entry.run_name} was not published: {error}", file=sys.stderr)
            failed = True
        else:
            console.print(f"published {row['repo']} at {row['revision']}", highlight=False, soft_wrap=True)
    return int(failed)


def table(plans: Sequence[Plan]) -> RenderableType:
    """What is ready, what is not and why, and how many are recipes still."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    shown = [plan for plan in plans if plan.folder]
    recipes = [plan for plan in plans if not plan.folder]
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("entry", "repository", "MB", "state"):
        rows.add_column(title, justify="right" if title == "MB" else "left", overflow="fold")
    for plan in shown:
        state = Text("; ".join(plan.problems), "red") if plan.problems else Text("ready", "green")
        rows.add_row(plan.entry.run_name, plan.repo, f"{plan.size / 1e6:.1f}", state)
    ready = [plan for plan in shown if not plan.problems]
    total = sum(plan.size for plan in ready) / 1e6
    lines = [f"{len(ready)} ready, {total:.1f} MB; {len(shown) - len(ready)} not; {len(recipes)} not trained here"]
    lines += [f"  {plan.repo}: {plan.entry.train_command}" for plan in recipes]
    return Group(rows, Text("\n".join(lines), overflow="fold"))
