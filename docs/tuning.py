"""Catalog file for `--catalog`: candidate recipes for 15-Scene, tested on one in five of its training images."""

from __future__ import annotations

from dataclasses import replace

from dctkd_zoo.catalog._recipes import entry
from dctkd_zoo.catalog.scene15 import DATASET as WHOLE
from dctkd_zoo.catalog.scene15 import STUDENT, TEACHER

DATASET = replace(WHOLE, name="scene15dev", source="held/scene15", train=1_200, test=300, drop_leaked=False)
CANDIDATES = {
    ("r18", 8): (0.006, 0.0125, 0.025, 0.05),
    ("mbv2", 8): (0.0125, 0.025, 0.05, 0.1),
    ("r50", 10): (0.005, 0.02, 0.04),
}

ENTRIES = tuple(
    entry(
        f"{arch}_scene15dev.lr{lr:g}".replace("0.", "0p"),
        replace(TEACHER if arch == "r50" else STUDENT, epochs=epochs, lr=lr, test_every=2),
    )
    for (arch, epochs), learning_rates in CANDIDATES.items()
    for lr in learning_rates
)
