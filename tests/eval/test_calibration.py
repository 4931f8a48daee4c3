"""eval.stats.calibration and the metric `ece`: against a plain loop, torchmetrics and answers known beforehand."""

import numpy as np
import pandas as pd
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from eval.metrics import _base
from eval.metrics._base import TableMetric
from eval.stats.bootstrap import resamples
from eval.stats.calibration import binned, calibration_error, ece, equal_mass, equal_width, reliability


def answers(images: int = 500, classes: int = 6, seed: int = 0) -> tuple[pd.DataFrame, torch.Tensor]:
    """A per-image table and the probabilities (n, K) that it is of."""
    generator = torch.Generator().manual_seed(seed)
    probabilities = (2 * torch.randn(images, classes, generator=generator, dtype=torch.float64)).softmax(dim=1)
    confidence, prediction = probabilities.max(dim=1)
    label = torch.where(torch.rand(images, generator=generator) < 0.6, prediction, (prediction + 1) % classes)
    table = pd.DataFrame({"label": label.numpy(), "prediction": prediction.numpy(), "confidence": confidence.numpy()})
    return table, probabilities


def plain(table: pd.DataFrame, bins: int = 15) -> float:
    """ECE as its definition reads, with bins from above (m - 1) / M to m / M."""
    images = list(zip(*(table[name].tolist() for name in ("label", "prediction", "confidence")), strict=True))
    error = 0.0
    for m in range(1, bins + 1):
        rows = [row for row in images if (m - 1) / bins < row[2] <= m / bins]
        if rows:
            accuracy = sum(label == prediction for label, prediction, _ in rows) / len(rows)
            confidence = sum(row[2] for row in rows) / len(rows)
            error += len(rows) / len(images) * abs(accuracy - confidence)
    return 100 * error


def reduced(table: pd.DataFrame) -> float:
    (result,) = _base.load(["ece"])
    assert isinstance(result, TableMetric)
    return result.reduce(table, 6)


def test_ece_is_that_of_a_plain_loop_and_of_torchmetrics():
    table, probabilities = answers()
    assert reduced(table) == pytest.approx(plain(table))
    labels = torch.tensor(table["label"].tolist())
    expected = multiclass_calibration_error(probabilities, labels, num_classes=6, n_bins=15, norm="l1")
    assert reduced(table) == pytest.approx(100 * expected.item(), rel=1e-5)


def test_ece_of_resamples_is_that_of_the_repeated_images():
    table, _ = answers(80)
    counts = next(resamples(80, 0, 20))
    expected = [plain(table.loc[np.repeat(table.index, row.astype(int))]) for row in counts]
    assert ece(table, counts) == pytest.approx(expected)


def test_the_order_of_the_rows_changes_nothing():
    table, _ = answers()
    table["confidence"] = table["confidence"].round(1)  # many are equal
    shuffled = table.sample(frac=1, random_state=0)
    assert reduced(shuffled) == pytest.approx(reduced(table), rel=1e-12)
    for edges in (equal_width, equal_mass):
        one, other = (reliability(item, edges(item["confidence"].to_numpy())) for item in (table, shuffled))
        pd.testing.assert_frame_equal(one, other)


def test_a_network_that_is_as_sure_as_it_is_right_has_no_error():
    table = pd.DataFrame({"label": [0] * 8, "prediction": [0, 0, 0, 1, 0, 1, 1, 1]})
    table["confidence"] = [0.75] * 4 + [0.25] * 4
    assert reduced(table) == 0
    assert reduced(table.assign(confidence=1.0)) == 50
    assert reduced(table.assign(confidence=0.0)) == 50


def test_a_bin_holds_its_upper_edge():
    edges = equal_width(np.empty(0), 4)
    confidence = np.array([0, 0.1, 0.25, 0.2500001, 0.5, 1.0])
    assert binned(confidence, edges).tolist() == [0, 0, 0, 1, 1, 3]


def test_reliability_counts_every_image_once_and_adds_up_to_the_error():
    table, _ = answers()
    for edges in (equal_width(table["confidence"].to_numpy()), equal_mass(table["confidence"].to_numpy())):
        result = reliability(table, edges)
        assert result["images"].sum() == len(table)
        gaps = (result["accuracy"] - result["confidence"]).abs() * result["images"]
        expected = calibration_error(table, edges, np.ones((1, len(table))))[0]
        assert gaps.sum() / len(table) == pytest.approx(expected)
        known = result.dropna()
        assert known["confidence"].between(100 * known["low"], 100 * known["high"]).all()
        assert (result["images"] == 0).equals(result["accuracy"].isna())


def test_bins_of_equal_mass_hold_equally_many_images():
    table, _ = answers(300)
    assert reliability(table, equal_mass(table["confidence"].to_numpy()))["images"].tolist() == [20] * 15


def test_equal_confidences_are_in_one_bin_of_equal_mass():
    table, _ = answers(100)
    table["confidence"] = 1.0
    result = reliability(table, equal_mass(table["confidence"].to_numpy()))
    assert sorted(result["images"]) == [0] * 14 + [100]
    assert reduced(table) == pytest.approx(100 - 100 * (table["label"] == table["prediction"]).mean())


def test_a_single_image():
    table = pd.DataFrame({"label": [0], "prediction": [0], "confidence": [0.7]})
    assert reduced(table) == pytest.approx(30)
