"""Where this package keeps its files on the user's machine, and where it keeps its hands off."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from dctkd_zoo.errors import ZooError

ROOT = Path(__file__).resolve().parents[2]  # of a checkout; of an installed package, the folder of all packages
PROJECT = "dctkd-zoo"


def cache_home() -> Path:
    """What this package keeps: `$DCTKD_ZOO_HOME`, or `~/.cache/dctkd_zoo`."""
    return Path(os.environ.get("DCTKD_ZOO_HOME") or "~/.cache/dctkd_zoo").expanduser()


def checkpoints() -> Path:
    """Where training writes unless told: `checkpoints` in `cache_home()`."""
    return cache_home() / "checkpoints"


def data_root(data: Path | None = None) -> Path:
    """The folder that holds a folder per dataset: `data`, `$DCTKD_ZOO_DATA`, or `data` in `cache_home()`."""
    if data is not None:
        return data
    named = os.environ.get("DCTKD_ZOO_DATA")
    return Path(named).expanduser() if named else cache_home() / "data"


def is_checkout(root: Path) -> bool:
    """Whether a folder is a checkout of this project, by the name in its `pyproject.toml`."""
    try:
        meta = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(meta.get("project", {}).get("name") == PROJECT)


def refuse_installed(path: Path, way_on: str) -> None:
    """`ZooError` where a file to be written belongs to the installed package, which no command changes."""
    if path.resolve().is_relative_to(ROOT) and not is_checkout(ROOT):
        raise ZooError(f"{path} is part of the installed package, not of a checkout: {way_on}")
