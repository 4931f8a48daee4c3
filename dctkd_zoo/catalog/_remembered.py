"""Catalog files that entries were trained with on this machine, so that later commands find them without being told.

They are kept in `catalogs.json` in the cache folder, not in the folders of runs: a catalog is code, and what comes with
a network from elsewhere must not decide what is run.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import Path

from dctkd_zoo._io import json_file
from dctkd_zoo._io.paths import cache_home
from dctkd_zoo.errors import CorruptCache

FILE = "catalogs.json"


def _read() -> dict[str, str]:
    try:
        data = json_file.read_sealed(cache_home() / FILE)
    except (OSError, CorruptCache):  # without it, `--catalog` is needed
        return {}
    return {name: path for name, path in data.items() if isinstance(path, str)} if isinstance(data, dict) else {}


def remember(names: Iterable[str], path: Path) -> None:
    """Keep that the entries `names` are in the catalog file `path`; a read-only cache folder forgets it."""
    known = _read()
    new = dict.fromkeys(names, str(path.resolve()))
    if not new.items() <= known.items():
        try:
            json_file.write_sealed(cache_home() / FILE, {**known, **new})
        except OSError:
            return


def of(pattern: str) -> list[Path]:
    """Return the catalog files of the entries that match a name or shell pattern."""
    known = _read()
    return [*dict.fromkeys(Path(known[name]) for name in fnmatch.filter(known, pattern))]
