"""A data set's kind and place to timm's reader of it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dctkd_zoo.data.tree import incomplete
from dctkd_zoo.errors import ZooError

NEEDS = {"wds": "webdataset", "hfds": "datasets", "hfids": "datasets"}


def open_reader(kind: str, name: str, root: Path, split: str, **options: Any) -> Any:
    """What `timm.data.create_reader("<kind>/<name>")` gives; `ZooError` where the extra that it needs is missing.

    `DatasetMissing` where it finds nothing: without a `name` it is looked for in the folder `root`.
    """
    require(kind)
    from timm.data.readers.reader_factory import create_reader

    try:
        return create_reader(
            f"{kind}/{name or root}", root=str(root) if kind == "wds" else None, split=split, **options
        )
    except (OSError, ValueError, RuntimeError) as error:  # datasets' own errors are of these
        raise incomplete(root, f"timm's reader {kind} finds no split {split} of {name or root}: {error}") from error


def require(kind: str) -> None:
    """`ZooError` where the package that reads this kind is not installed."""
    if find_spec(NEEDS[kind]) is None:
        raise ZooError(f"{kind} needs the package {NEEDS[kind]}: pip install 'dctkd-zoo[streaming]'")
