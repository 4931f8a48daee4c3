"""Type checks of dataclass fields, for values that users write."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any


class Checked:
    """Base class of dataclasses that raise `TypeError` for a value of another type than its field's annotation."""

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, expected in _annotations(kind).items():
            value = getattr(self, name)
            if not fits(value, expected):
                type_name = (
                    getattr(expected, "__name__", str(expected))
                    if isinstance(expected, type)
                    else str(expected).replace("typing.", "")
                )
                raise TypeError(f"{type(self).__name__}: {name} is {_brief(value)} but should be {type_name}")

    def positive(self, *names: str) -> None:
        """Raise `ValueError` for a field that is not above 0."""
        for name in names:
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{type(self).__name__}: {name} is {_brief(value)} but should be above 0")


@cache
def _annotations(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def fits(value: object, expected: Any) -> bool:
    """Return whether a value has an annotated type; an int is a `float` too if finite, a bool is not a number."""
    origin, parts = typing.get_origin(expected), typing.get_args(expected)
    if expected is Any:
        return True
    if origin in (types.UnionType, typing.Union):
        return any(fits(value, part) for part in parts)
    if origin is tuple:
        if not isinstance(value, tuple) or (parts[-1] is not ... and len(value) != len(parts)):
            return False
        kinds = [parts[0]] * len(value) if parts[-1] is ... else parts
        return all(fits(item, kind) for item, kind in zip(value, kinds, strict=True))
    if origin is list:
        return isinstance(value, list) and all(fits(item, parts[0]) for item in value)
    if origin in (Mapping, dict):
        return isinstance(value, origin) and all(fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items())
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    return isinstance(value, expected) and not (expected is int and isinstance(value, bool))
