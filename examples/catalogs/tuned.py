"""Grid for `--catalog`: other methods with the loss weights from the authors' search on the test set."""

from __future__ import annotations

from itertools import product

from dctkd_zoo.catalog._recipes import SCRATCH, SCRATCH_REVIEW, TUNED, entry

DATASETS = ("ade20k", "sun397", "mit67")
PAIRS = (("r50", "r18"), ("r152", "r34"), ("r50", "mbv2"))

ENTRIES = tuple(
    entry(
        f"{student}_{method}{kd}_{dataset}.tuned",
        SCRATCH_REVIEW if method == "review" and dataset != "ade20k" else SCRATCH,
        f"{teacher}_{dataset}",
        alpha=TUNED,
    )
    for dataset, (teacher, student), method, kd in product(DATASETS, PAIRS, TUNED, ("", "_kd"))
)
