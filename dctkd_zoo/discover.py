"""Package name -> the modules in it, so that adding a file is all it takes."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def modules(package: str) -> tuple[str, ...]:
    """Names of the public modules directly in `package`, sorted, without importing them."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ValueError(f"{package!r} is not a package")
    result = pkgutil.iter_modules(spec.submodule_search_locations)
    return tuple(sorted(module.name for module in result if not module.name.startswith("_")))


def load(package: str, name: str) -> ModuleType:
    """The module `<package>.<name>`, imported."""
    known = modules(package)
    if name not in known:
        close = difflib.get_close_matches(name, known)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(f"{package} has no {name!r}.{hint} There is: {', '.join(known) or 'nothing'}")
    return importlib.import_module(f"{package}.{name}")


def only(module: ModuleType, base: type[T]) -> type[T]:
    """The one subclass of `base` that `module` itself defines."""
    result = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and value is not base
        and value.__module__ == module.__name__
    ]
    names = ", ".join(cls.__name__ for cls in result) or "none"
    assert len(result) == 1, f"{module.__name__} must define one {base.__name__}, it defines {names}"
    return result[0]
