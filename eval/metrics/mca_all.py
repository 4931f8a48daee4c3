"""Mean class accuracy as released: over all classes, with 0 for those without test images (docs/method.md, D-5)."""

from __future__ import annotations

import pandas as pd

from eval.metrics._base import TableMetric
from eval.metrics.mca import class_accuracy


class MCAAll(TableMetric):
    """Mean over all classes; at most 63.70 % on ADE20K, where 383 of 1,055 classes have no test image."""

    protocols = ("released",)

    def reduce(self, table: pd.DataFrame, num_classes: int) -> float:
        """Return percent."""
        return float(class_accuracy(table).sum() / num_classes)
