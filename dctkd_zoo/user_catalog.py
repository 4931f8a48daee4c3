"""Catalog files of the user on the command line: included, and remembered for later commands."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dctkd_zoo import registry
from dctkd_zoo.catalog import _remembered
from dctkd_zoo.errors import UsageError, ZooError

SUFFIX = ".py"


def open_catalog(options: Namespace) -> tuple[str, ...]:
    """Include the catalog file of `--catalog`, or the one among the names, `train my.py`, and return its entries.

    If there are no other names, all of its entries are meant. Entries of no such file are looked up in those that were
    trained here, in the folder `--out` first. `UsageError` for several files, `ZooError` for one without entries.
    """
    _remembered.prefer(getattr(options, "out", None))
    given = [*(getattr(options, "names", None) or ())]
    files = [Path(word) for word in given if word.endswith(SUFFIX)]
    catalogs = [*files, *([options.catalog] if options.catalog else [])]
    if len(catalogs) > 1:
        raise UsageError(f"one catalog file at a time: {', '.join(map(str, catalogs))}")
    names = registry.include(catalogs[0]) if catalogs else ()
    if files and not names:
        raise ZooError(f"{files[0]} has no entries")
    if files:
        options.catalog = files[0]
        options.names = [word for word in given if not word.endswith(SUFFIX)] or [*names]
    return names


def remember(name: str, out: Path) -> None:
    """Record which file of the user's an entry with a run in the folder `out` is in, for later commands."""
    found = registry.own_catalog(name)
    if found:
        path, names = found
        _remembered.remember(names, path, out)
