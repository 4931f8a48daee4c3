"""Grid for `--catalog`: the DCT loss on the paper's scene datasets with a true DCT and with other transforms."""

from __future__ import annotations

from itertools import product

from dctkd_zoo.catalog._recipes import SCRATCH, entry

DATASETS = ("ade20k", "sun397", "mit67")
PAIRS = (("r50", "r18"), ("r152", "r34"), ("r50", "mbv2"))

# A true DCT, the transform of the release's current main branch, and two ablations (docs/method.md, Fact 5).
GRID = (
    *product(DATASETS, PAIRS, ("dctkd", "dctkd_kd"), [("dct2", "dct2")]),
    *product(DATASETS, PAIRS[:1], ["dctkd"], [("signed", "dft_signed")]),
    *product(DATASETS[:1], PAIRS[:1], ["dctkd"], [("l2", "l2_minmax"), ("raw", "dct2_raw")]),
)

ENTRIES = tuple(
    entry(
        f"{student}_{terms}_{dataset}.{variant}",
        SCRATCH,
        f"{teacher}_{dataset}",
        options={"dctkd": {"transform": transform, "guided": True}},
    )
    for dataset, (teacher, student), terms, (variant, transform) in GRID
)
