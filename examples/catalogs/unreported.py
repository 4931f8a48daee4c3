"""Grid for `--catalog`: `ckd` and `review` where neither the authors nor this project have a result."""

from __future__ import annotations

from itertools import product

from dctkd_zoo.catalog import scene15
from dctkd_zoo.catalog._recipes import REPORTED, SCRATCH, SCRATCH_REVIEW, entry

PAIRS = (("r50", "r18"), ("r152", "r34"), ("r50", "mbv2"))
PAPER = (*product(("sun397", "mit67"), PAIRS, ("ckd", "review")), *product(["ade20k"], PAIRS, ["review"]))

ENTRIES = (
    *(
        entry(
            f"{student}_{method}{kd}_{dataset}",
            SCRATCH_REVIEW if method == "review" and dataset != "ade20k" else SCRATCH,
            f"{teacher}_{dataset}",
        )
        for (dataset, (teacher, student), method), kd in product(PAPER, ("", "_kd"))
        if f"{student}_{method}{kd}_{dataset}" not in REPORTED
    ),
    *(scene15.student(f"r18_{terms}_scene15") for terms in ("ckd", "ckd_kd")),
    *(scene15.mobile(f"mbv2_{terms}_scene15") for terms in ("ckd", "ckd_kd")),
)
