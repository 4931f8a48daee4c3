"""Licence of an entry's weights: the stated one, or what follows from the initial weights and the images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dctkd_zoo import registry, weights
from dctkd_zoo.errors import ZooError
from dctkd_zoo.spec import EXTERNAL, Entry

OURS = "apache-2.0"  # of weights trained from scratch
FREE = frozenset(  # licences that ask for attribution at most
    {"apache-2.0", "mit", "isc", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "unlicense"}
)
WAY_ON = "state the licence of the weights, with `license=` of the entry or `publish --license`"


def normal(licence: str) -> str:
    """Return a licence as the Hub writes it: `CC BY 4.0` -> `cc-by-4.0`."""
    return "-".join(licence.lower().replace("_", " ").split())


def of_weights(entry: Entry, started: str | None = None) -> str:
    """Return the licence of an entry's weights; `started` is that of its initial weights, if training recorded it.

    `ZooError` if none is stated and none follows, or if the initial weights forbid the stated one.
    """
    stated = normal(entry.license or "")
    inherited = _of_start(entry, started, stated) if entry.recipe.pretrained else OURS
    if stated:
        return stated
    current: Entry | None = entry
    while current:
        data = registry.get_dataset(current.dataset)
        if normal(data.license) not in FREE:
            subject = f"the licence of {data.title}, which {current.name} was trained on,"
            if data.license == "unknown":
                raise ZooError(f"{subject} is unknown: add it to the dataset's catalog file, or {WAY_ON}")
            raise ZooError(f"{subject} is {data.license!r}, which says nothing about weights: {WAY_ON}")
        current = registry.get_entry(current.start) if current.start else None
    return inherited


def _of_start(entry: Entry, started: str | None, stated: str) -> str:
    """Return the licence of the initial weights, after checking that it allows the stated one."""
    subject = f"{entry.name} starts from {weights.portable(entry.recipe.pretrained)}"
    result = started or of_start(entry)
    if result is None:
        if stated:
            return stated
        if entry.start:
            return of_weights(registry.get_entry(entry.start))  # which says why none follows
        raise ZooError(f"{subject}, whose licence is unknown: {WAY_ON}")
    if "nd" in result.split("-"):
        raise ZooError(f"{subject} under {result}, which forbids distributing derived weights")
    if result not in FREE and stated != result:
        raise ZooError(f"{subject} under {result}, which does not allow {stated or OURS}: {WAY_ON}, as {result}")
    return result


def of_start(entry: Entry) -> str | None:
    """Return the licence of the weights that an entry starts from; None if there are none, or it is unknown."""
    source = entry.recipe.pretrained
    if source is None:
        return None
    try:
        if entry.start:
            return of_weights(registry.get_entry(entry.start))
        if source.startswith(EXTERNAL):
            return of_config(weights.read_config(weights.locate(source).folder))
    except ZooError:  # none follows, or the weights are no longer available
        return None
    name = f"{registry.archs()[entry.arch].timm_name}.{source}"
    if ((folder := weights.pretrained_folder(name)) / weights.CONFIG).is_file():
        return of_config(weights.read_config(folder))
    import timm  # it has the licence of each of its tags

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # not a tag of timm
        return None
    return normal(config.license) if config and config.license else None


def of_config(config: Mapping[str, Any]) -> str | None:
    """Return the licence that a `config.json` states for its weights, if any."""
    stated = (config.get("pretrained_cfg") or {}).get("license")
    return normal(stated) if isinstance(stated, str) and stated.strip() else None
