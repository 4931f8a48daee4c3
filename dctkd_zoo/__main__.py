"""Look the zoo up, try it, fetch what it needs, publish it: `python -m dctkd_zoo list`."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from dctkd_zoo import registry
from dctkd_zoo.cli import cards, common, data, listing, predict, publish, verify
from dctkd_zoo.errors import ZooError, printable, reason_of

COMMANDS = (listing, predict, data, verify, publish, cards)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dctkd_zoo", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = common.shared()
    for command in COMMANDS:
        command.add(commands, shared)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status."""
    options = parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("dctkd_zoo").setLevel(logging.INFO)
    try:
        if options.catalog:
            registry.include(options.catalog)
        status: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ZooError, OSError) as error:  # an OSError: a disk that is full, a folder that is not ours
        print(f"error: {printable(reason_of(error), keep=chr(10))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
