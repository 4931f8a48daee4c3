"""Folders of caches, checkpoints and data, and a guard for the installed package."""

from __future__ import annotations

import os
from pathlib import Path

from dctkd_zoo.errors import ZooError

ROOT = Path(__file__).resolve().parents[2]  # the checkout, or site-packages for an installed package
PROJECT = "dctkd-zoo"


def cache_home() -> Path:
    """Return the cache folder: `$DCTKD_ZOO_HOME`, or `~/.cache/dctkd_zoo`."""
    return Path(os.environ.get("DCTKD_ZOO_HOME") or "~/.cache/dctkd_zoo").expanduser()


def checkpoints() -> Path:
    """Return the default output folder of training, `checkpoints` in `cache_home()`."""
    return cache_home() / "checkpoints"


def data_root(data: Path | None = None) -> Path:
    """Return the folder with one subfolder per dataset: `data`, `$DCTKD_ZOO_DATA`, or `data` in `cache_home()`."""
    if data is not None:
        return data
    configured = os.environ.get("DCTKD_ZOO_DATA")
    return Path(configured).expanduser() if configured else cache_home() / "data"


def is_checkout(root: Path) -> bool:
    """Return whether a folder is a checkout of this project, by the name in its `pyproject.toml`."""
    import tomllib

    try:
        pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(pyproject.get("project", {}).get("name") == PROJECT)


def refuse_installed(path: Path, way_on: str) -> None:
    """Raise `ZooError` if a file to be written belongs to the installed package, which no command changes."""
    if path.resolve().is_relative_to(ROOT) and not is_checkout(ROOT):
        raise ZooError(f"{path} is part of the installed package, not of a checkout: {way_on}")
