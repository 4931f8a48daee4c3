"""A JSON file to the object in it, or to an error that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dctkd_zoo.errors import ZooError


def read(path: Path, refused: type[ZooError], way_on: str = "") -> dict[str, Any]:
    """The object in a JSON file; the error `refused`, with the `way_on`, where it holds something else."""
    end = f": {way_on}" if way_on else ""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise refused(f"{path}: {error}{end}") from error
    if not isinstance(found, dict):
        raise refused(f"{path}: it is {found!r:.60}, not an object{end}")
    return found
