"""Entries of the catalog by name or pattern."""

from __future__ import annotations

import difflib
import fnmatch
import importlib.util
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType, ModuleType

from dctkd_zoo import catalog, discover
from dctkd_zoo.errors import CatalogError, DatasetError, UnknownEntry
from dctkd_zoo.spec import Dataset, Entry

_MODULES: list[ModuleType] = []  # the catalog's, then those of files that the user named


def _modules() -> list[ModuleType]:
    if not _MODULES:
        _MODULES.extend(discover.load(catalog.__name__, name) for name in discover.modules(catalog.__name__))
    return _MODULES


def include(path: Path) -> None:
    """Add a user's catalog file, Python like those of `dctkd_zoo/catalog`; its names must be new."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise CatalogError(f"{path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        _tables((*_modules(), module))
    except Exception as error:  # it is the user's code, and may fail in any way
        raise CatalogError(f"{path}: {type(error).__name__}: {error}") from error
    _modules().append(module)
    _bundled_and_included.cache_clear()


@lru_cache(maxsize=1)
def _bundled_and_included() -> tuple[Mapping[str, Dataset], Mapping[str, Entry]]:
    return _tables(_modules())


def _tables(modules: Iterable[ModuleType]) -> tuple[Mapping[str, Dataset], Mapping[str, Entry]]:
    datasets: dict[str, Dataset] = {}
    entries: dict[str, Entry] = {}
    for module in modules:
        if datasets.setdefault(module.DATASET.name, module.DATASET) is not module.DATASET:
            raise ValueError(f"two datasets are called {module.DATASET.name!r}")
        for entry in module.ENTRIES:
            if entries.setdefault(entry.name, entry) is not entry:
                raise ValueError(f"two entries are called {entry.name!r}")
    return MappingProxyType(datasets), MappingProxyType(entries)


def entries() -> Mapping[str, Entry]:
    """All entries by name, in the order of the catalog."""
    return _bundled_and_included()[1]


def datasets() -> Mapping[str, Dataset]:
    """All datasets by name."""
    return _bundled_and_included()[0]


def get_entry(name: str) -> Entry:
    """The entry of that name; `UnknownEntry` with the closest names where there is none."""
    try:
        return entries()[name]
    except KeyError:
        close = difflib.get_close_matches(name, entries(), n=3, cutoff=0.6)
        hint = f"; did you mean {', '.join(close)}?" if close else "."
        raise UnknownEntry(f"unknown entry {name!r}{hint} `python -m dctkd_zoo list` shows all") from None


def get_dataset(name: str) -> Dataset:
    """The dataset of that name; `DatasetError` with the names there are where there is none."""
    try:
        return datasets()[name]
    except KeyError:
        raise DatasetError(f"unknown dataset {name!r}; there are {', '.join(datasets())}") from None


def natural(name: str) -> list[str | int]:
    """Sort key that puts r8 before r18."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def find(pattern: str = "*", dataset: str | None = None) -> list[str]:
    """Names that match a shell pattern, of one dataset if given, in natural order."""
    if dataset is not None:
        get_dataset(dataset)
    found = fnmatch.filter(entries(), pattern)
    return sorted((n for n in found if dataset in (None, entries()[n].dataset)), key=natural)


def distilled(name: str) -> list[str]:
    """Names of the entries whose teacher is `name`."""
    return [entry.name for entry in entries().values() if entry.teacher == name]


def resolve(patterns: Iterable[str]) -> list[str]:
    """Names and shell patterns to names, each once; `UnknownEntry` for one that matches nothing."""
    names: dict[str, None] = {}
    for pattern in patterns:
        found = find(pattern) or [get_entry(pattern).name]
        names.update(dict.fromkeys(found))
    return list(names)


def teachers_first(names: Iterable[str]) -> list[str]:
    """The same names, those that teach others of them before their students."""
    return sorted(names, key=_generation)


def _generation(name: str) -> int:
    """0 for an entry without a teacher of the catalog, else one more than its teacher's."""
    entry = entries().get(name)
    return 0 if entry is None or entry.teacher is None else 1 + _generation(entry.teacher)
