"""A dataclass whose fields must hold what they are annotated with: for facts that users write."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any


class Checked:
    """What a dataclass inherits from to refuse a value of another type than its field's with a `TypeError`."""

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, expected in _annotations(kind).items():
            value = getattr(self, name)
            if not fits(value, expected):
                meta = (
                    getattr(expected, "__name__", str(expected))
                    if isinstance(expected, type)
                    else str(expected).replace("typing.", "")
                )
                raise TypeError(f"{type(self).__name__}: {name} is {_brief(value)} but should be {meta}")

    def positive(self, *names: str) -> None:
        """Refuse a field that is not above 0 with a `ValueError`."""
        for name in names:
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{type(self).__name__}: {name} is {_brief(value)} but should be above 0")


@cache
def _annotations(kind: Any) -> dict[str, Any]:
    meta = typing.get_type_hints(kind)
    return {field.name: meta[field.name] for field in fields(kind)}


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def fits(value: object, expected: Any) -> bool:
    """Whether a value is of an annotated type; a whole number is a `float` too if it is finite, a bool is no number."""
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
