"""Agreement where the teacher is wrong: the share of those images for which both predict the same class, in percent."""

from __future__ import annotations

import numpy as np
import pandas as pd

from eval.metrics._base import TableMetric
from eval.stats import fidelity


class AgreementWrong(TableMetric):
    """Share of the teacher's mistakes that the student makes too, with the same class; NaN if there are none."""

    needs_teacher = True

    def reduce(self, table: pd.DataFrame, num_classes: int) -> float:
        """Return percent."""
        return float(fidelity.agreement_wrong(table, np.ones((1, len(table))))[0])
