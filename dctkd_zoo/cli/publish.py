"""`publish`: upload trained networks to the Hub."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from dctkd_zoo import registry, weights
from dctkd_zoo._io import paths
from dctkd_zoo.cli import shell
from dctkd_zoo.cli.arguments import NAMES
from dctkd_zoo.cli.common import Commands, add_command, add_places, entries, where
from dctkd_zoo.cli.shell import Column, Grid
from dctkd_zoo.errors import UsageError, ZooError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.publish import Plan

COLUMNS = (Column("entry"), Column("repository"), Column("MB", right=True), Column("state", prose=True))


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the command."""
    examples = ("r18_dctkd_scene15 --org ORG --dry-run", "--all --org ORG --private")
    command = add_command(commands, shared, "publish", "check trained networks and upload them to the Hub", examples)
    command.add_argument("names", nargs="*", metavar="NAME", help=NAMES)
    command.add_argument("--all", action="store_true", help="every entry trained on this machine")
    command.add_argument("--org", metavar="ORG", help="owner of the repositories (default: the token's owner)")
    command.add_argument(
        "--license", metavar="ID", help="licence of the weights, a Hub identifier; overrides the entry's"
    )
    command.add_argument("--private", action="store_true", help="create private repositories")
    command.add_argument("--dry-run", action="store_true", help="check everything, upload nothing")
    command.add_argument(
        "--note",
        type=Path,
        metavar="FILE",
        help="file to record commits and hashes in (default: the checkout's published.csv)",
    )
    add_places(command)
    command.set_defaults(run=publish)


def publish(options: Namespace) -> int:
    """Publish what is ready; return 1 if a trained entry has a problem."""
    if options.all == bool(options.names):
        raise UsageError("give either entry names or --all")
    from dctkd_zoo.weights import hub
    from eval import publish as publishing

    org = options.org or ("ORG" if options.dry_run else hub.owner())
    config = where(options)
    named = {entry.name: entry for entry in entries(options)}
    order = registry.teachers_first(named)  # a student's card names its teacher on the Hub
    plans = [publishing.plan(named[name], org, config, options.license) for name in order]
    console = shell.console()
    shell.show(console, table(plans))
    failed = any(plan.problems for plan in plans) or (not options.all and not any(plan.folder for plan in plans))
    if options.dry_run:
        return int(failed)
    note = options.note or weights.PUBLISHED
    paths.refuse_installed(note, "pass a file of your own, --note FILE")
    for plan in plans:
        if plan.folder is None or plan.problems:
            continue
        try:
            row = publishing.publish(plan, config, note, private=options.private)
        except ZooError as error:
            shell.complain(error, f"{plan.entry.run_name} was not published")
            failed = True
        else:
            console.print(f"published {row['repo']} at {row['revision']}", highlight=False, soft_wrap=True)
    return int(failed)


def table(plans: Sequence[Plan]) -> Grid:
    """Return a table of what is ready, what is not and why, and how many entries are not trained yet."""
    from rich.text import Text

    trained = [plan for plan in plans if plan.folder]
    untrained = [plan for plan in plans if not plan.folder]
    rows = []
    for plan in trained:
        state = Text(printable("; ".join(plan.problems), keep="\n"), "red") if plan.problems else Text("ready", "green")
        rows.append([Text(plan.entry.run_name), Text(plan.repo), Text(f"{plan.size / 1e6:.1f}"), state])
    ready = [plan for plan in trained if not plan.problems]
    total = sum(plan.size for plan in ready) / 1e6
    lines = [f"{len(ready)} ready, {total:.1f} MB; {len(trained) - len(ready)} not; {len(untrained)} not trained here"]
    lines += [f"  {plan.repo}: {shell.program(plan.entry.train_command)}" for plan in untrained]
    return Grid(COLUMNS, rows, caption=Text("\n".join(lines)))
