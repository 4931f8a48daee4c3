"""Lookup of entries, datasets and architectures by name or pattern."""

from __future__ import annotations

import difflib
import fnmatch
import importlib.util
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar

from dctkd_zoo import catalog, discover
from dctkd_zoo._io.typecheck import fits
from dctkd_zoo.catalog import _remembered
from dctkd_zoo.catalog._archs import ARCHS
from dctkd_zoo.cli import shell
from dctkd_zoo.errors import CatalogError, UnknownDataset, UnknownEntry, named
from dctkd_zoo.spec import EXTERNAL, NAME, OTHER, Arch, Dataset, Entry

T = TypeVar("T")

_MODULES: list[ModuleType] = []  # the package's catalog files, then the user's


def _modules() -> list[ModuleType]:
    if not _MODULES:
        _MODULES.extend(discover.load(catalog.__name__, name) for name in discover.modules(catalog.__name__))
    return _MODULES


def include(path: Path) -> tuple[str, ...]:
    """Add a user's catalog, a Python file like those in `dctkd_zoo/catalog`, and return the names of its entries.

    It defines `ENTRIES`, whose names must be new, and if they need them a `DATASET` and `ARCHS`, short names of timm
    networks.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise CatalogError(f"{path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        _check_types(module)
        _place(module, path)
        _check(_tables((*_modules(), module)), module.ENTRIES)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # user code may fail in any way, or call sys.exit
        raise CatalogError(f"{path}: {' '.join(named(error).split())}") from error
    _modules().append(module)
    _bundled_and_included.cache_clear()
    return tuple(entry.name for entry in module.ENTRIES)


def _place(module: ModuleType, path: Path) -> None:
    """Make the folders that the file's dataset names relative to the file independent of the current directory."""
    dataset = vars(module).get("DATASET")
    if dataset and dataset.folder:
        inside = {"folder": dataset.folder, "unlabelled": dataset.unlabelled}
        named = {field: name for field, name in inside.items() if name and not name.startswith(OTHER)}
        places = {field: str((path.parent / Path(name).expanduser()).resolve()) for field, name in named.items()}
        vars(module)["DATASET"] = replace(dataset, **places)


def own_catalog(name: str) -> tuple[Path, tuple[str, ...]] | None:
    """Return the user's file that an entry is in, and the names of its entries; None for an entry of the package."""
    for module in _modules()[len(discover.modules(catalog.__name__)) :]:
        names = tuple(entry.name for entry in module.ENTRIES)
        if name in names:
            return Path(str(module.__file__)), names
    return None


def knows(name: str) -> bool:
    """Return whether there is an entry of that name, in a catalog or in the file that it was trained with.

    `CatalogError` if that file is gone, or no longer has it.
    """
    if name in entries():
        return True
    for path in (recorded := _remembered.matching(name) if NAME.fullmatch(name) else []):
        include(path)
    if recorded and name not in entries():
        raise CatalogError(f"{name} was trained with the catalog {recorded[0]}, which no longer has it")
    return bool(recorded)


@dataclass(frozen=True)
class _Tables:
    """Architectures, datasets and entries of all catalog files, by name."""

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
            if archs.get(name) != ARCHS.get(name) or any(entry.arch == name for entry in entries.values()):
                _add(archs, "architectures", name, arch)
            else:  # a short name of the zoo that none of its entries has: a user's file may define it
                archs[name] = arch
        if parts.get("DATASET"):
            _add(datasets, "datasets", module.DATASET.name, module.DATASET)
        for entry in parts.get("ENTRIES", ()):
            _add(entries, "entries", entry.name, entry)
    return _Tables(MappingProxyType(archs), MappingProxyType(datasets), MappingProxyType(entries))


def _add(table: dict[str, T], what: str, name: str, value: T) -> None:
    if table.setdefault(name, value) is not value and table[name] != value:
        raise ValueError(f"two {what} are called {name!r}")


def _check_types(module: ModuleType) -> None:
    """Refuse a file whose variables have wrong types, such as a generator, which the check would exhaust."""
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
            raise TypeError(f"{name} is {parts.get(name)!r:.60} but should be {kind}")


def _check(tables: _Tables, entries: Iterable[Entry]) -> None:
    """Refuse entries that name unknown architectures, datasets, terms or teachers, or that depend on themselves."""
    terms = discover.modules("dctkd_zoo.losses")
    sources = discover.modules("dctkd_zoo.data.sources")
    checked: set[str] = set()
    for entry in entries:
        if entry.arch not in tables.archs:
            raise ValueError(f"{entry.name}: unknown architecture {entry.arch!r}; add it to ARCHS")
        if entry.dataset not in tables.datasets:
            raise ValueError(
                f"{entry.name}: unknown dataset {entry.dataset!r}; available: {', '.join(tables.datasets)}"
            )
        source = tables.datasets[entry.dataset].source.partition("/")[0]
        if source not in sources:
            raise ValueError(f"{entry.dataset}: unknown source {source!r}; available: {', '.join(sources)}")
        if not set(entry.terms) <= set(terms):
            unknown = ", ".join(sorted(set(entry.terms) - set(terms)))
            raise ValueError(f"{entry.name}: unknown loss term {unknown}; available: {', '.join(terms)}")
        if entry.teacher and not entry.teacher.startswith(EXTERNAL) and entry.teacher not in tables.entries:
            raise ValueError(
                f"{entry.name}: teacher {entry.teacher!r} is neither an entry nor starts with {' or '.join(EXTERNAL)}"
            )
        if entry.start is not None and (
            entry.start not in tables.entries or tables.entries[entry.start].arch != entry.arch
        ):
            raise ValueError(f"{entry.name}: starts from {entry.start!r}, which is not an entry of its architecture")
        _check_chain(entry.name, tables.entries, checked)
        _check_overlap(entry, tables)


def _check_overlap(entry: Entry, tables: _Tables) -> None:
    """Refuse an entry that depends on a network whose training images are also in the entry's dataset."""
    if not any(entry.dataset in dataset.overlaps for dataset in tables.datasets.values()):
        return
    for name in ancestors(entry.name, tables.entries)[1:]:
        if name not in tables.entries:  # a network from elsewhere
            continue
        data = tables.datasets[tables.entries[name].dataset]
        if entry.dataset in data.overlaps:
            raise ValueError(
                f"{entry.name} depends on {name}, whose training images are partly those of {entry.dataset}: train it "
                f"without them, on a dataset with source={data.source + '-' + entry.dataset!r}"
            )


def _check_chain(name: str, table: Mapping[str, Entry], checked: set[str]) -> None:
    """Refuse an entry that depends on itself; `checked` collects those that do not, to visit each once."""
    chain: dict[str, None] = {}
    while name in table and name not in checked:
        if name in chain:
            names = list(chain)
            raise ValueError(f"entries depend on each other: {' <- '.join([*names[names.index(name) :], name])}")
        chain[name] = None
        name = table[name].depends_on or ""
    checked.update(chain)


def archs() -> Mapping[str, Arch]:
    """Return all architectures by short name."""
    return _bundled_and_included().archs


def entries() -> Mapping[str, Entry]:
    """Return all entries by name, in catalog order."""
    return _bundled_and_included().entries


def datasets() -> Mapping[str, Dataset]:
    """Return all datasets by name."""
    return _bundled_and_included().datasets


def get_entry(name: str) -> Entry:
    """Return the entry of that name; `UnknownEntry`, with the closest names, if there is none."""
    if knows(name):
        return entries()[name]
    close = difflib.get_close_matches(name, entries(), n=3, cutoff=0.6)
    hint = f"; did you mean {', '.join(close)}?" if close else "."
    raise UnknownEntry(f"unknown entry {name!r}{hint} `{shell.program('list')}` shows all")


def get_dataset(name: str) -> Dataset:
    """Return the dataset of that name; `UnknownDataset`, with the names there are, if there is none."""
    try:
        return datasets()[name]
    except KeyError:
        raise UnknownDataset(f"unknown dataset {name!r}; available: {', '.join(datasets())}") from None


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts r8 before r18: numbers compare by their count of digits, then digit by digit."""
    return [(len(part) * (index % 2), part) for index, part in enumerate(re.split("([0-9]+)", name))]


def find(pattern: str = "*", dataset: str | None = None) -> list[str]:
    """Return the names that match a shell pattern, of one dataset if given, in natural order."""
    if dataset is not None:
        get_dataset(dataset)
    if not fnmatch.filter(entries(), pattern):
        for path in _remembered.matching(pattern):
            include(path)
    result = fnmatch.filter(entries(), pattern)
    return sorted((n for n in result if dataset in (None, entries()[n].dataset)), key=natural_key)


def distilled(name: str) -> list[str]:
    """Return the names of the entries whose teacher is `name`."""
    return [entry.name for entry in entries().values() if entry.teacher == name]


def baseline(entry: Entry) -> str | None:
    """Return the name of an entry's supervised baseline, that of the nearest number of epochs if there are several."""
    table, plain = entries(), f"{entry.arch}_{entry.dataset}"
    candidates = (name for name in table if name.partition(".")[0] == plain)
    return min(candidates, key=lambda name: abs(table[name].recipe.epochs - entry.recipe.epochs), default=None)


def resolve(patterns: Iterable[str]) -> list[str]:
    """Expand names and shell patterns to names, each once; `UnknownEntry` for one that matches nothing."""
    names: dict[str, None] = {}
    for pattern in patterns:
        result = find(pattern) or [get_entry(pattern).name]
        names.update(dict.fromkeys(result))
    return list(names)


def teachers_first(names: Iterable[str]) -> list[str]:
    """Sort names so that teachers and initial weights come before the entries that need them."""
    generations: dict[str, int] = {}
    return sorted(names, key=lambda name: _generation(name, generations))


def _generation(name: str, generations: dict[str, int]) -> int:
    """Return 0 for an entry that depends on no other, else one more than the generation of the one it depends on."""
    table, chain = entries(), []
    while name in table and name not in generations:
        chain.append(name)
        name = table[name].depends_on or ""
    for link in reversed(chain):
        needed = table[link].depends_on
        generations[link] = generations.get(needed, 0) + 1 if needed else 0
    return generations.get(chain[0] if chain else name, 0)


def ancestors(name: str, table: Mapping[str, Entry]) -> list[str]:
    """Return a name, the one it depends on, and so on, to one that depends on none or is already in the list."""
    chain, last = {name: None}, name
    while (entry := table.get(last)) and entry.depends_on:
        last = entry.depends_on
        if last in chain:
            return [*chain, last]
        chain[last] = None
    return list(chain)
