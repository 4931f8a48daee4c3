"""eval.stats.per_class: against torchmetrics, scipy and counts by hand."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest
from torchmetrics.functional.classification import multiclass_confusion_matrix

from eval.stats.per_class import by_frequency, confusion, per_class, worst_pairs

CLASSES = ("ant", "bee", "cat", "dog")


def answers(pairs: dict[tuple[int, int], int]) -> pd.DataFrame:
    """A table with so many images per pair of label and prediction."""
    rows = [pair for pair, count in pairs.items() for _ in range(count)]
    return pd.DataFrame(rows, columns=["label", "prediction"])


def test_the_confusion_matrix_is_that_of_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    label, prediction = (torch.randint(7, (300,), generator=generator) for _ in range(2))
    expected = multiclass_confusion_matrix(prediction, label, num_classes=7)
    table = pd.DataFrame({"label": label.numpy(), "prediction": prediction.numpy()})
    assert confusion(table, 7).tolist() == expected.tolist()
    assert confusion(table.sample(frac=1, random_state=0), 7).tolist() == expected.tolist()


def test_a_class_has_its_share_and_the_interval_of_so_few_images():
    result = per_class(answers({(0, 0): 3, (0, 1): 1, (1, 1): 5, (3, 0): 2}), CLASSES)
    assert result["class"].tolist() == list(CLASSES)
    assert result["images"].tolist() == [4, 5, 0, 2]
    assert result["right"].tolist() == [3, 5, 0, 0]
    assert result["top1"].tolist() == pytest.approx([75, 100, np.nan, 0], nan_ok=True)
    expected = binomtest(3, 4).proportion_ci(method="wilson")
    assert (result["low"][0], result["high"][0]) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert result["high"][1] == 100 and result["low"][3] == 0 and np.isnan(result["low"][2])


def test_the_worst_pairs_come_first_and_name_what_is_taken_for_what():
    table = answers({(0, 0): 3, (0, 1): 1, (1, 0): 4, (1, 1): 4, (2, 3): 1, (3, 3): 9})
    result = worst_pairs(table, CLASSES)
    assert [(p.truth, p.prediction, p.images, p.share) for p in result] == [
        ("bee", "ant", 4, 50),
        ("ant", "bee", 1, 25),
        ("cat", "dog", 1, 100),
    ]
    assert worst_pairs(table, CLASSES, count=1) == result[:1]


def test_a_network_that_is_always_right_confuses_nothing():
    assert worst_pairs(answers({(0, 0): 3, (1, 1): 2}), CLASSES) == ()


def test_a_single_class():
    table = answers({(0, 0): 3})
    assert confusion(table, 1).tolist() == [[3]]
    assert per_class(table, ["only"])["top1"].tolist() == [100]
    assert worst_pairs(table, ["only"]) == ()


def test_top_1_by_thirds_of_the_classes():
    training = np.array([1, 20, 2, 1, 9, 5])
    table = answers({(0, 0): 1, (3, 2): 1, (2, 2): 3, (5, 1): 1, (1, 1): 5, (4, 4): 4, (4, 1): 1})
    result = by_frequency(table, training)
    assert [(b.fewest, b.most, b.classes, b.images) for b in result] == [(1, 1, 2, 2), (2, 5, 2, 4), (9, 20, 2, 10)]
    assert [b.top1 for b in result] == pytest.approx([50, 75, 90])
    expected = binomtest(9, 10).proportion_ci(method="wilson")
    assert (result[2].low, result[2].high) == pytest.approx((100 * expected.low, 100 * expected.high))


def test_a_balanced_training_set_is_a_single_band():
    (result,) = by_frequency(answers({(0, 0): 1, (1, 0): 1}), np.array([50, 50, 50]))
    assert (result.fewest, result.most, result.classes, result.images, result.top1) == (50, 50, 3, 2, 50)


def test_a_band_that_the_test_set_does_not_show_has_no_figure():
    result = by_frequency(answers({(0, 0): 2}), np.array([9, 3, 0]))
    assert [(b.fewest, b.images) for b in result] == [(0, 0), (3, 0), (9, 2)]
    assert np.isnan(result[0].top1) and result[2].top1 == 100


def test_ten_thousand_classes_take_no_matrix():
    """10,000 x 10,000 numbers would take 800 MB."""
    names = [f"class {number}" for number in range(10_000)]
    generator = np.random.default_rng(0)
    table = pd.DataFrame({name: generator.integers(10_000, size=20_000) for name in ("label", "prediction")})
    table.loc[:4, ["label", "prediction"]] = 9_999, 3
    tracemalloc.start()
    rows, pairs = per_class(table, names), worst_pairs(table, names)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6
    assert rows["images"].sum() == 20_000 and rows["right"].sum() == (table.label == table.prediction).sum()
    assert (pairs[0].truth, pairs[0].prediction, pairs[0].images) == ("class 9999", "class 3", 5)
