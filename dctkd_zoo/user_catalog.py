"""Catalog files of the user on the command line: included, and remembered for later commands."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dctkd_zoo import registry
from dctkd_zoo.catalog import _remembered
from dctkd_zoo.errors import ZooError


def open_catalog(options: Namespace) -> None:
    """Include the catalog file of `--catalog`, or the one among the names: `train my.py`.

    If there are no other names, all entries of that file are meant. `ZooError` for several files.
    """
    given = list(getattr(options, "names", None) or [])
    files = [word for word in given if word.endswith(".py")]
    if len(files) + bool(options.catalog) > 1:
        everything = [*files, *([str(options.catalog)] if options.catalog else [])]
        raise ZooError(f"one catalog file at a time: {', '.join(everything)}")
    if files:
        options.catalog = Path(files[0])
    names = registry.include(options.catalog) if options.catalog else ()
    if files:
        rest = [word for word in given if word != files[0]]
        options.names = rest or [*names]


def remember(name: str) -> None:
    """Keep which file of the user's an entry is in, so that later commands know it without `--catalog`."""
    found = registry.own_catalog(name)
    if found:
        path, names = found
        _remembered.remember(names, path)
