"""Expected calibration error (Guo et al., ICML 2017): by how much confidence and accuracy differ, in percent."""

from __future__ import annotations

import numpy as np
import pandas as pd

from eval.metrics._base import TableMetric
from eval.stats import calibration


class ECE(TableMetric):
    """Mean over the images of |accuracy - mean confidence| of their bin, of 15 equally wide ones."""

    def reduce(self, table: pd.DataFrame, num_classes: int) -> float:
        """Percent."""
        return float(calibration.ece(table, np.ones((1, len(table))))[0])
