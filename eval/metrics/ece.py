"""Expected calibration error (Guo et al., ICML 2017): the mean difference of confidence and accuracy, in percent."""

from __future__ import annotations

import numpy as np
import pandas as pd

from eval.metrics._base import TableMetric
from eval.stats import calibration


class ECE(TableMetric):
    """Mean over images of |accuracy - mean confidence| of their bin, with 15 bins of equal width."""

    def reduce(self, table: pd.DataFrame, num_classes: int) -> float:
        """Return percent."""
        return float(calibration.ece(table, np.ones((1, len(table))))[0])
