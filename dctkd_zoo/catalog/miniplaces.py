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
    license="non-commercial research and education (images of Places2)",
    url="http://miniplaces.csail.mit.edu",
    overlaps=("scene15",),
    notes="The test set is the official validation set. The development kit's text is under a BSD-like licence.",
    limits="It has seen photographs from the web at 128 px. Labels of Places are noisy, and it confuses scenes that "
    "look alike, such as a bar and a restaurant. It is not for commercial use, because its training images are not, "
    "and not for close-ups, people or single objects.",
)

ENTRIES: tuple[Entry, ...] = ()
