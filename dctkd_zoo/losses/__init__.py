"""One file per term of the objective; `create` finds a term by its file's name."""

from __future__ import annotations

from typing import Any

from dctkd_zoo import discover
from dctkd_zoo.losses.term import Term


def create(name: str, **options: Any) -> Term:
    """The term of `losses/<name>.py` with the given options; `ValueError` for a name or an option it does not have."""
    term = discover.only(discover.load(__name__, name), Term)
    try:
        return term(**options)
    except TypeError as error:
        raise ValueError(f"loss {name!r} does not take {options}: {error}") from error


def names() -> tuple[str, ...]:
    """The names of all terms."""
    return tuple(name for name in discover.modules(__name__) if name != "term")
