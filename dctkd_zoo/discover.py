"""Discovery of the modules in a package, so that adding a file is all it takes."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def modules(package: str) -> tuple[str, ...]:
    """Return the sorted names of the public modules directly in `package`, without importing them."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ValueError(f"{package!r} is not a package")
    result = pkgutil.iter_modules(spec.submodule_search_locations)
    return tuple(sorted(module.name for module in result if not module.name.startswith("_")))


def check(package: str, name: str) -> None:
    """Raise `ValueError`, with a suggestion, if there is no module `<package>.<name>`; import nothing."""
    available = modules(package)
    if name not in available:
        close = difflib.get_close_matches(name, available)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(f"{package} has no {name!r}.{hint} Available: {', '.join(available) or 'nothing'}")


def load(package: str, name: str) -> ModuleType:
    """Import and return the module `<package>.<name>`; `ValueError` if there is none."""
    check(package, name)
    return importlib.import_module(f"{package}.{name}")


def only(module: ModuleType, base: type[T]) -> type[T]:
    """Return the one subclass of `base` that `module` itself defines."""
    result = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and value is not base
        and value.__module__ == module.__name__
    ]
    names = ", ".join(cls.__name__ for cls in result) or "none"
    assert len(result) == 1, f"{module.__name__} must define one {base.__name__} but defines {names}"
    return result[0]
