"""Mean class accuracy: the mean over the classes of the test set of the share of their images that is right."""

from __future__ import annotations

import pandas as pd

from eval.metrics._base import TableMetric


def class_accuracy(table: pd.DataFrame) -> pd.Series[float]:
    """Percent of each class's images whose prediction is right, by label; of the classes that have images."""
    return 100.0 * (table["prediction"] == table["label"]).groupby(table["label"]).mean()


class MCA(TableMetric):
    """Classes without a test image do not count: nothing was measured of them."""

    def reduce(self, table: pd.DataFrame, num_classes: int) -> float:
        """Percent."""
        return float(class_accuracy(table).mean())
