"""Where this package keeps its files on the user's machine."""

from __future__ import annotations

import os
from pathlib import Path


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
