"""`verify`: weights fetched, hashed, evaluated and compared with their recorded metrics."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from dctkd_zoo import registry, weights
from dctkd_zoo.cli import shell
from dctkd_zoo.cli.arguments import NAMES
from dctkd_zoo.cli.common import Commands, add_command, add_places, where
from dctkd_zoo.errors import UsageError, ZooError


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the command."""
    text = "fetch weights, hash and evaluate them, and compare with the recorded metrics"
    command = add_command(commands, shared, "verify", text, ("--bundled", "r20_dctkd_synthscenes --device cpu"))
    command.add_argument("names", nargs="*", metavar="NAME", help=NAMES)
    command.add_argument("--bundled", action="store_true", help="every entry whose weights ship with the package")
    command.add_argument("--published", action="store_true", help="every entry whose weights are on the Hub")
    add_places(command)
    command.set_defaults(run=verify)


def verify(options: Namespace) -> int:
    """Print match or mismatch of every recorded value; return 1 if one does not match or could not be measured.

    The package ships without images and large teachers, so values of `--bundled` entries that need those are
    reported as not measured and do not count.
    """
    from eval.run import verify as verification
    from eval.run.evaluation import silent

    statuses = {name: weights.status(name) for name in registry.entries()}
    bundled = [name for name, status in statuses.items() if options.bundled and status == "bundled"]
    requested = list(registry.resolve(options.names)) if options.names else []
    requested += [name for name, status in statuses.items() if options.published and status == "published"]
    if not requested + bundled:
        raise UsageError(
            "nothing to verify: name entries, or use --bundled or --published if there are any such entries"
        )
    console, ok = shell.console(), True
    for name in dict.fromkeys(requested + bundled):
        entry = registry.get_entry(name).with_seed(options.seed)
        try:
            result = verification.verify(entry, where(options), silent)
        except ZooError as error:
            shell.complain(error, f"{entry.run_name} cannot be verified")
            ok = False
            continue
        shell.show(console, verification.render(result))
        ok &= not (result.wrong or (result.left and name in requested))
    return 0 if ok else 1
