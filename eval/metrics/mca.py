"""Mean class accuracy (MCA): the mean of the accuracies of the classes in the test set."""

from __future__ import annotations

import pandas as pd

from eval.metrics._base import TableMetric


def class_accuracy(table: pd.DataFrame) -> pd.Series[float]:
    """Return the accuracy of each class in percent, by label; only of classes that have images."""
    return 100.0 * (table["prediction"] == table["label"]).groupby(table["label"]).mean()


class MCA(TableMetric):
    """Mean over the classes that have test images."""

    def reduce(self, table: pd.DataFrame, num_classes: int) -> float:
        """Return percent."""
        return float(class_accuracy(table).mean())
