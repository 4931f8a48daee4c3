"""Mean class accuracy as released: over all classes, those without a test image counting zero (docs/method.md, D-5)."""

from __future__ import annotations

import pandas as pd

from eval.metrics._base import TableMetric
from eval.metrics.mca import class_accuracy


class MCAAll(TableMetric):
    """On ADE20K, where 383 of 1,055 classes have no test image, even a perfect network has 63.70 %."""

    def reduce(self, table: pd.DataFrame, num_classes: int) -> float:
        """Percent."""
        return float(class_accuracy(table).sum() / num_classes)
