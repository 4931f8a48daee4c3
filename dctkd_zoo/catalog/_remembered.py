"""Catalog files that entries were trained with on this machine, so that later commands find them without being told.

They are recorded in `catalogs.json` in the cache folder, by folder of runs, and not in these folders: a catalog is
code, and what comes with a network from elsewhere must not decide what is run. For the same reason a record counts only
if it belongs to this user and to this cache folder, and no file inside of a cache folder is a catalog.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dctkd_zoo._io import json_file, lock
from dctkd_zoo._io.paths import cache_home, checkpoints
from dctkd_zoo._io.typecheck import fits
from dctkd_zoo.errors import CatalogError, CorruptCache

FILE = "catalogs.json"
Record = dict[str, dict[str, str]]  # folder of runs -> entry -> catalog file

_PREFERRED: list[Path] = []  # the folder of runs that the current command was given


def prefer(out: Path | None) -> None:
    """Look for entries in the folder of runs `out` first; in that of this machine for None."""
    _PREFERRED[:] = [out] if out else []


def remember(names: Iterable[str], catalog: Path, out: Path) -> None:
    """Record that the runs of the entries `names` in the folder `out` are of a catalog file.

    In a read-only cache folder nothing is recorded, and later commands need `--catalog`.
    """
    path, folder = cache_home() / FILE, str(out.resolve())
    with suppress(OSError), lock.held(path):
        record = _read()
        new = {**record.get(folder, {}), **dict.fromkeys(names, str(catalog.resolve()))}
        if new != record.get(folder):
            json_file.write_sealed(path, {"home": _home(), "runs": {**record, folder: new}})


def files() -> dict[str, Path]:
    """Return the catalog file of each entry; of one in several folders of runs, that of the preferred folder."""
    record = _read()
    first = [str(folder.resolve()) for folder in (checkpoints(), *_PREFERRED)]
    tables = [*(record[name] for name in record if name not in first), *(record.get(name, {}) for name in first)]
    found = {name: Path(path) for table in tables for name, path in table.items()}
    return {name: path for name, path in found.items() if not path.is_relative_to(_home())}


def matching(pattern: str) -> list[Path]:
    """Return the catalog files of the entries that match a name or shell pattern; `CatalogError` if one is gone."""
    known = files()
    paths = {known[name]: name for name in fnmatch.filter(known, pattern)}
    for path, name in paths.items():
        if not path.is_file():
            way_on = "put it back, or name another with --catalog"
            raise CatalogError(f"{name} was trained with the catalog {path}, which is gone: {way_on}")
    return [*paths]


def _home() -> str:
    return str(cache_home().resolve())


def _read() -> Record:
    """Return what this user recorded for this cache folder; what another version or user wrote counts as nothing."""
    path = cache_home() / FILE
    try:
        is_mine = not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()
        content = json_file.read_sealed(path) if is_mine else None
    except (OSError, CorruptCache):  # without it, `--catalog` is needed
        return {}
    if not isinstance(content, dict) or content.get("home") != _home():
        return {}
    runs: Record = content.get("runs", {})
    return runs if fits(runs, dict[str, dict[str, str]]) else {}
