"""MiniPlaces, 100 scenes of Places2 at 128 px: the dataset; its entries train on a part (`miniplaces12k`)."""

from __future__ import annotations

from dctkd_zoo.spec import Dataset, Entry

DATASET = Dataset(
    name="miniplaces",
    title="MiniPlaces",
    source="miniplaces/all",
    num_classes=100,
    train=100_000,
    test=10_000,
    license="images of Places2, for non-commercial research and education",
    url="http://miniplaces.csail.mit.edu",
    overlaps=("scene15",),
    notes="The test set is the official validation set. The development kit's text is under a BSD-like licence.",
)

ENTRIES: tuple[Entry, ...] = ()
