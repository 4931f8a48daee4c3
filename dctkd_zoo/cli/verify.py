"""`verify`: weights fetched, hashed and measured anew, beside what was recorded of them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from dctkd_zoo import registry, weights
from dctkd_zoo.cli import shell
from dctkd_zoo.cli.common import Commands, add_places, where
from dctkd_zoo.errors import ZooError


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the command."""
    command = commands.add_parser(
        "verify", parents=[shared], help="fetch weights, hash and evaluate them, and compare with the recorded figures"
    )
    command.add_argument("names", nargs="*", metavar="NAME", help="entries, or shell patterns of them")
    command.add_argument("--bundled", action="store_true", help="every entry whose weights come with the package")
    command.add_argument("--published", action="store_true", help="every entry whose weights are on the Hub")
    add_places(command)
    command.set_defaults(run=verify)


def verify(options: Namespace) -> int:
    """Print match or mismatch of every figure; 1 where one does not match or could not be measured.

    What comes with the package comes without images and large teachers: of `--bundled`, what these are needed for
    is told and does not count.
    """
    from eval.run import verify as verification
    from eval.run.evaluation import silent

    places = {name: weights.status(name) for name in registry.entries()}
    bundled = [name for name, path in places.items() if options.bundled and path == "bundled"]
    asked = list(registry.resolve(options.names)) if options.names else []
    asked += [name for name, path in places.items() if options.published and path == "published"]
    if not asked + bundled:
        raise ZooError("nothing to verify: name entries, or give --bundled or --published where there are such")
    console, ok = shell.console(), True
    for name in dict.fromkeys(asked + bundled):
        entry = registry.get_entry(name).with_seed(options.seed)
        try:
            result = verification.verify(entry, where(options), silent)
        except ZooError as error:
            shell.complain(error, f"{entry.run_name} cannot be verified")
            ok = False
            continue
        shell.show(console, verification.render(result))
        ok &= not (result.wrong or (result.left and name in asked))
    return 0 if ok else 1
