"""A data set's kind and place to timm's reader of it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dctkd_zoo.data.tree import incomplete
from dctkd_zoo.errors import DatasetError, ZooError, reason_of

NEEDS = {"wds": "webdataset", "hfds": "datasets", "hfids": "datasets"}


def open_reader(kind: str, name: str, root: Path, split: str, **options: Any) -> Any:
    """What `timm.data.create_reader("<kind>/<name>")` gives; `ZooError` where the extra that it needs is missing.

    `DatasetMissing` where it finds nothing: without a `name` it is looked for in the folder `root`.
    """
    require(kind)
    from timm.data.readers.reader_factory import create_reader

    try:
        if kind != "wds":
            _refuse_tars(name or str(root))
        place = str(root) if kind == "wds" else None
        return create_reader(f"{kind}/{name or root}", root=place, split=split, **options)
    except (OSError, ValueError, RuntimeError, KeyError) as error:  # datasets' own errors are of these
        raise incomplete(
            root, f"timm's reader {kind} finds no split {split} of {name or root}: {reason_of(error)}"
        ) from error


def _refuse_tars(place: str) -> None:
    """`datasets` decodes whatever else lies in tar shards, and some kinds of that run code."""
    import datasets

    kinds = type(datasets.load_dataset_builder(place)).__mro__
    if any(kind.__name__ == "WebDataset" for kind in kinds):
        raise DatasetError(f"{place} consists of tar shards: fetch them, and read them with the source 'wds'")


def check_columns(names: Iterable[str], what: str) -> None:
    """`DatasetError` where a table has no columns `image` and `label`."""
    lacking = {"image", "label"} - set(names)
    if lacking:
        raise DatasetError(f"{what} has no column {' or '.join(sorted(lacking))}; it has {', '.join(names)}")


def require(kind: str) -> None:
    """`ZooError` where the package that reads this kind is not installed."""
    if find_spec(NEEDS[kind]) is None:
        raise ZooError(f"{kind} needs the package {NEEDS[kind]}: pip install 'dctkd-zoo[streaming]'")
