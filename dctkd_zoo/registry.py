"""Entries of the catalog by name or pattern."""

from __future__ import annotations

import difflib
import fnmatch
import importlib.util
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar

from dctkd_zoo import catalog, discover
from dctkd_zoo._io.typecheck import fits
from dctkd_zoo.catalog._archs import ARCHS
from dctkd_zoo.errors import CatalogError, DatasetError, UnknownEntry, named
from dctkd_zoo.spec import EXTERNAL, Arch, Dataset, Entry

T = TypeVar("T")

_MODULES: list[ModuleType] = []  # the catalog's, then those of files that the user named


def _modules() -> list[ModuleType]:
    if not _MODULES:
        _MODULES.extend(discover.load(catalog.__name__, name) for name in discover.modules(catalog.__name__))
    return _MODULES


def include(path: Path) -> None:
    """Add a user's catalog file, Python like those of `dctkd_zoo/catalog`; its names must be new.

    It has `ENTRIES`, and where they need them a `DATASET` and `ARCHS`, short names of timm networks.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise CatalogError(f"{path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        _check_types(module)
        _check(_tables((*_modules(), module)), module.ENTRIES)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # it is the user's code, and may fail in any way, or call sys.exit
        raise CatalogError(f"{path}: {' '.join(named(error).split())}") from error
    _modules().append(module)
    _bundled_and_included.cache_clear()


@dataclass(frozen=True)
class _Tables:
    """What the catalog's files hold, by name."""

    archs: Mapping[str, Arch]
    datasets: Mapping[str, Dataset]
    entries: Mapping[str, Entry]


@lru_cache(maxsize=1)
def _bundled_and_included() -> _Tables:
    return _tables(_modules())


def _tables(modules: Iterable[ModuleType]) -> _Tables:
    archs, datasets, entries = dict(ARCHS), dict[str, Dataset](), dict[str, Entry]()
    for module in modules:
        parts = vars(module)
        for name, arch in (parts.get("ARCHS") or {}).items():
            _add(archs, "architectures", name, arch)
        if parts.get("DATASET"):
            _add(datasets, "datasets", module.DATASET.name, module.DATASET)
        for entry in module.ENTRIES:
            _add(entries, "entries", entry.name, entry)
    return _Tables(MappingProxyType(archs), MappingProxyType(datasets), MappingProxyType(entries))


def _add(table: dict[str, T], what: str, name: str, value: T) -> None:
    if table.setdefault(name, value) is not value:
        raise ValueError(f"two {what} are called {name!r}")


def _check_types(module: ModuleType) -> None:
    """Refuse a file whose names hold something else than they should; a generator would be used up by the check."""
    parts = vars(module)
    expected: Mapping[str, Any] = {
        "ENTRIES": tuple[Entry, ...],
        "DATASET": Dataset | None,
        "ARCHS": Mapping[str, Arch] | None,
    }
    if isinstance(parts.get("ENTRIES"), list):
        parts["ENTRIES"] = tuple(parts["ENTRIES"])
    for name, kind in expected.items():
        if not fits(parts.get(name), kind):
            raise TypeError(f"{name} is {parts.get(name)!r:.60}, it should be {kind}")


def _check(tables: _Tables, entries: Iterable[Entry]) -> None:
    """Refuse entries that name what there is not, and what rests on itself."""
    terms = discover.modules("dctkd_zoo.losses")
    sources = discover.modules("dctkd_zoo.data.sources")
    ends: set[str] = set()
    for entry in entries:
        if entry.arch not in tables.archs:
            raise ValueError(f"{entry.name}: no architecture {entry.arch!r}; ARCHS gives a timm network a short name")
        if entry.dataset not in tables.datasets:
            raise ValueError(f"{entry.name}: no dataset {entry.dataset!r}; there are {', '.join(tables.datasets)}")
        source = tables.datasets[entry.dataset].source.partition("/")[0]
        if source not in sources:
            raise ValueError(f"{entry.dataset}: no source {source!r}; there are {', '.join(sources)}")
        if not set(entry.terms) <= set(terms):
            unknown = ", ".join(sorted(set(entry.terms) - set(terms)))
            raise ValueError(f"{entry.name}: no loss term {unknown}; there are {', '.join(terms)}")
        if entry.teacher and not entry.teacher.startswith(EXTERNAL) and entry.teacher not in tables.entries:
            raise ValueError(
                f"{entry.name}: its teacher {entry.teacher!r} is neither an entry nor {' or '.join(EXTERNAL)}"
            )
        if entry.start is not None and (
            entry.start not in tables.entries or tables.entries[entry.start].arch != entry.arch
        ):
            raise ValueError(f"{entry.name}: it starts from {entry.start!r}, which is no entry of its architecture")
        _check_line(entry.name, tables.entries, ends)


def _check_line(name: str, known: Mapping[str, Entry], ends: set[str]) -> None:
    """Refuse an entry that rests on itself; `ends` are those known not to, of which each is walked from once."""
    line: dict[str, None] = {}
    while name in known and name not in ends:
        if name in line:
            names = list(line)
            raise ValueError(f"entries that rest on each other: {' <- '.join([*names[names.index(name) :], name])}")
        line[name] = None
        name = known[name].depends_on or ""
    ends.update(line)


def archs() -> Mapping[str, Arch]:
    """All architectures by their short name."""
    return _bundled_and_included().archs


def entries() -> Mapping[str, Entry]:
    """All entries by name, in the order of the catalog."""
    return _bundled_and_included().entries


def datasets() -> Mapping[str, Dataset]:
    """All datasets by name."""
    return _bundled_and_included().datasets


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


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key that puts r8 before r18: of a number, how many digits it has, then these."""
    return [(len(part) * (path % 2), part) for path, part in enumerate(re.split("([0-9]+)", name))]


def find(pattern: str = "*", dataset: str | None = None) -> list[str]:
    """Names that match a shell pattern, of one dataset if given, in natural order."""
    if dataset is not None:
        get_dataset(dataset)
    result = fnmatch.filter(entries(), pattern)
    return sorted((n for n in result if dataset in (None, entries()[n].dataset)), key=natural_key)


def distilled(name: str) -> list[str]:
    """Names of the entries whose teacher is `name`."""
    return [entry.name for entry in entries().values() if entry.teacher == name]


def baseline(entry: Entry) -> str | None:
    """Name of the entry that is the same network trained on labels alone, for as many epochs if there is such a one."""
    known, plain = entries(), f"{entry.arch}_{entry.dataset}"
    alike = (name for name in known if name.partition(".")[0] == plain)
    return max(alike, key=lambda name: known[name].recipe.epochs == entry.recipe.epochs, default=None)


def resolve(patterns: Iterable[str]) -> list[str]:
    """Names and shell patterns to names, each once; `UnknownEntry` for one that matches nothing."""
    names: dict[str, None] = {}
    for pattern in patterns:
        result = find(pattern) or [get_entry(pattern).name]
        names.update(dict.fromkeys(result))
    return list(names)


def teachers_first(names: Iterable[str]) -> list[str]:
    """The same names, those that others of them learn or start from before these."""
    generations: dict[str, int] = {}
    return sorted(names, key=lambda name: _generation(name, generations))


def _generation(name: str, found: dict[str, int]) -> int:
    """0 for an entry that rests on none of the catalog, else one more than that of the one it rests on."""
    known, line = entries(), []
    while name in known and name not in found:
        line.append(name)
        name = known[name].depends_on or ""
    for item in reversed(line):
        below = known[item].depends_on
        found[item] = found.get(below, 0) + 1 if below else 0
    return found.get(line[0] if line else name, 0)


def ancestors(name: str, known: Mapping[str, Entry]) -> list[str]:
    """A name, what it learns or starts from, what that does and so on, to the first that does not or came before."""
    line, last = {name: None}, name
    while (entry := known.get(last)) and entry.depends_on:
        last = entry.depends_on
        if last in line:
            return [*line, last]
        line[last] = None
    return list(line)
