"""Grid for `--catalog`: CIFAR-100 as in the release's scripts, for 240 epochs and without the prediction guide."""

from __future__ import annotations

from itertools import product

from dctkd_zoo.catalog._recipes import ALPHA, entry
from dctkd_zoo.schedules import MultiStep
from dctkd_zoo.spec import Recipe

RECIPE = Recipe(
    epochs=240,
    batch_size=128,
    lr=0.05,
    schedule=MultiStep((150, 180, 210)),
    resize=32,
    pad=4,
    crop=32,
    weight_decay=5e-4,
)
# The other methods keep their defaults: there are no reported values to reproduce with the release's mistakes.
UNGUIDED = {"dctkd": {"transform": "dft_abs", "guided": False}}
PAIRS = (("r56", "r20", ""), ("r110", "r20", ".r110"), ("r110", "r32", ""), ("r32x4", "r8x4", ""))
TERMS = ("kd", *(method + kd for method in ALPHA if method != "kd" for kd in ("", "_kd")))

ENTRIES = (
    *(entry(f"{arch}_cifar100", RECIPE) for arch in ("r56", "r110", "r32x4", "r20", "r32", "r8x4")),
    *(
        entry(f"{student}_{terms}_cifar100{variant}", RECIPE, f"{teacher}_cifar100", options=UNGUIDED)
        for (teacher, student, variant), terms in product(PAIRS, TERMS)
    ),
)
