"""Which levels a term reads, by the name of its `levels` option."""

from __future__ import annotations

from dctkd_zoo.levels import Pairs

# As released, VID and CKD skip the first: their list was taken to begin with the stem (docs/method.md, D-12).
FIRST = {"all": 0, "released": 1}


def first_level(levels: str) -> int:
    """How many of the shallowest levels are left out; `ValueError` for a name that is none."""
    if levels not in FIRST:
        raise ValueError(f"levels {levels!r} is none of {sorted(FIRST)}")
    return FIRST[levels]


def chosen(pairs: Pairs, first: int) -> Pairs:
    """The pairs from level `first` on; `ValueError` where none is left."""
    if len(pairs) <= first:
        raise ValueError(f"{len(pairs)} levels are compared and the first is skipped: nothing is left")
    return pairs[first:]
