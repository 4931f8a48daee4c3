"""Grid for `--catalog`: `vid`, `crd` and `ckd` with the level and the negatives that the release leaves out."""

from __future__ import annotations

from itertools import product

from dctkd_zoo.catalog._recipes import CORRECTED, SCRATCH, entry

DATASETS = ("ade20k", "sun397", "mit67")
PAIRS = (("r50", "r18"), ("r152", "r34"), ("r50", "mbv2"))
TERMS = ("vid", "vid_kd", "crd", "crd_kd", "ckd", "ckd_kd")

ENTRIES = tuple(
    entry(f"{student}_{terms}_{dataset}.corrected", SCRATCH, f"{teacher}_{dataset}", options=CORRECTED)
    for dataset, (teacher, student), terms in product(DATASETS, PAIRS, TERMS)
)
