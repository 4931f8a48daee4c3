"""An entry to the licence that its weights may be given: what is stated, or what their start and images allow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dctkd_zoo import registry, weights
from dctkd_zoo.errors import ZooError
from dctkd_zoo.spec import EXTERNAL, Entry

OURS = "apache-2.0"  # of weights that began from nothing
FREE = frozenset(  # which ask for no more than to be named
    {"apache-2.0", "mit", "isc", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "unlicense"}
)
WAY_ON = "state the weights' licence, `license=` of the entry or `publish --license`"


def normal(licence: str) -> str:
    """A licence as the Hub writes it: `CC BY 4.0` -> `cc-by-4.0`."""
    return "-".join(licence.lower().replace("_", " ").split())


def of_weights(entry: Entry, started: str | None = None) -> str:
    """The licence that an entry's weights are given; `started` is that of its start, if training noted it.

    `ZooError` where none is stated and none follows, or the weights it starts from forbid the one that is stated.
    """
    meta = normal(entry.license or "")
    expected = _of_start(entry, started, meta) if entry.recipe.pretrained else OURS
    if meta:
        return meta
    item: Entry | None = entry
    while item:
        data = registry.get_dataset(item.dataset)
        if normal(data.license) not in FREE:
            learnt = f"the licence of {data.title}, which {item.name} was trained on,"
            if data.license == "unknown":
                raise ZooError(f"{learnt} is not known: its catalog file has to say, or {WAY_ON}")
            raise ZooError(f"{learnt} is {data.license!r}, from which none follows for weights: {WAY_ON}")
        item = registry.get_entry(item.start) if item.start else None
    return expected


def _of_start(entry: Entry, started: str | None, told: str) -> str:
    """What the weights that an entry starts from ask of its own: their licence."""
    begins = f"{entry.name} starts from {weights.portable(entry.recipe.pretrained)}"
    result = started or of_start(entry)
    if result is None:
        if told:
            return told
        if entry.start:
            return of_weights(registry.get_entry(entry.start))  # which says why none follows
        raise ZooError(f"{begins}, whose licence is not known: {WAY_ON}")
    if "nd" in result.split("-"):
        raise ZooError(f"{begins} under {result}, which forbids to pass on what was made from them")
    if result not in FREE and told != result:
        raise ZooError(f"{begins} under {result}, which does not allow {told or OURS}: {WAY_ON}, as {result}")
    return result


def of_start(entry: Entry) -> str | None:
    """The licence of the weights that an entry starts from; None where there are none, or nothing tells it."""
    source = entry.recipe.pretrained
    if source is None:
        return None
    try:
        if entry.start:
            return of_weights(registry.get_entry(entry.start))
        if source.startswith(EXTERNAL):
            return of_config(weights.read_config(weights.locate(source).folder))
    except ZooError:  # none follows; or they are not to be had any more
        return None
    import timm  # knows the licence of each of its tags

    try:
        known = timm.get_pretrained_cfg(f"{registry.archs()[entry.arch].timm_name}.{source}")
    except RuntimeError:  # no tag of timm's
        return None
    return normal(known.license) if known and known.license else None


def of_config(config: Mapping[str, Any]) -> str | None:
    """The licence that a `config.json` tells of its weights."""
    meta = (config.get("pretrained_cfg") or {}).get("license")
    return normal(meta) if isinstance(meta, str) and meta.strip() else None
