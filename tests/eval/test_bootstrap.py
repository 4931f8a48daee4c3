"""eval.stats.bootstrap and eval.stats.intervals, against plain loops, scipy, and simulated test sets."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, binomtest

from eval.metrics import _base
from eval.metrics._base import TableMetric
from eval.stats import calibration, intervals
from eval.stats.bootstrap import CHUNK, Bootstrap, Reducer, Share, bootstrap, interval, means, resamples, tango, wilson
from eval.stats.per_class import MCA, mean_class_accuracy


def measured(images: int = 90, classes: int = 5, seed: int = 0) -> pd.DataFrame:
    """A per-image table of a network that is right about three times in four."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=images)
    predictions = np.where(generator.random(images) < 0.7, labels, generator.integers(classes, size=images))
    table = pd.DataFrame({"id": [f"test/{i}.png" for i in range(images)], "label": labels, "prediction": predictions})
    table["confidence"] = generator.uniform(0.3, 1, images)
    table["top1"] = 100.0 * (labels == predictions)
    table["nll"] = generator.exponential(size=images)
    for level in (1, 2):
        table[f"ssim.{level}"] = generator.random(images)
    return table


def same(a: Bootstrap, b: Bootstrap) -> bool:
    return a.figures == b.figures and all(np.array_equal(a.values[name], b.values[name]) for name in a.values)


def test_a_resample_draws_as_many_images_as_there_are():
    counts = np.concatenate(list(resamples(40, seed=0, count=500)))
    assert counts.shape == (500, 40)
    assert (counts.sum(axis=1) == 40).all() and (counts >= 0).all()
    assert counts.var() == pytest.approx(1 - 1 / 40, rel=0.05)  # binomial


def test_resamples_do_not_depend_on_how_many_fit_into_memory(monkeypatch):
    whole = np.concatenate(list(resamples(30, seed=3, count=50)))
    monkeypatch.setattr("eval.stats.bootstrap.CHUNK", 30 * 7)
    parts = list(resamples(30, seed=3, count=50))
    assert [len(part) for part in parts] == [7] * 7 + [1]
    assert np.array_equal(np.concatenate(parts), whole)
    monkeypatch.setattr("eval.stats.bootstrap.CHUNK", 1)
    assert np.array_equal(np.concatenate(list(resamples(30, seed=3, count=50))), whole)


def test_a_chunk_is_of_bounded_size():
    assert next(resamples(40_000, seed=0)).size <= CHUNK


def test_means_leave_out_images_without_a_value():
    columns = np.array([[1.0, 5.0, np.nan], [2.0, np.nan, np.nan], [6.0, 7.0, 3.0]])
    counts = np.array([[1.0, 1, 1], [3, 0, 0], [0, 1, 2]])
    expected = np.array([[3.0, 6.0, 3.0], [1.0, 5.0, np.nan], [14 / 3, 7.0, 3.0]])
    assert means(columns, counts) == pytest.approx(expected, nan_ok=True)


def test_every_figure_is_what_a_plain_loop_makes_of_the_repeated_images():
    table = measured()
    result = intervals.bootstrapped(table, seed=5, count=40)
    assert list(result.figures) == ["top1", "nll", "ssim", "ssim.1", "ssim.2", "mca", "ece"]
    (mca,) = _base.load(["mca"])
    assert isinstance(mca, TableMetric)
    rows = table.sort_values("id", ignore_index=True)
    for number, counts in enumerate(np.concatenate(list(resamples(len(table), 5, 40)))):
        drawn = rows.loc[np.repeat(rows.index, counts.astype(int))]
        assert result.values["top1"][number] == pytest.approx(drawn["top1"].mean())
        assert result.values["ssim"][number] == pytest.approx((drawn["ssim.1"].mean() + drawn["ssim.2"].mean()) / 2)
        assert result.values["mca"][number] == pytest.approx(mca.reduce(drawn, 5))
    assert result.figures["mca"] == pytest.approx(mca.reduce(table, 5))
    assert result.figures["nll"] == pytest.approx(table["nll"].mean())


def test_mca_is_over_the_classes_that_were_drawn():
    table = pd.DataFrame({"label": [0, 0, 4, 2], "prediction": [0, 1, 4, 0]})
    counts = np.array([[1.0, 1, 1, 1], [3, 1, 0, 0], [0, 0, 2, 2]])
    assert mean_class_accuracy(table, counts) == pytest.approx([50, 75, 50])


def test_the_same_seed_gives_the_same_values_and_another_seed_others():
    table = measured()
    first, again, other = (intervals.bootstrapped(table, seed=seed, count=50) for seed in (1, 1, 2))
    assert same(first, again)
    assert not np.array_equal(first.values["top1"], other.values["top1"])
    assert first.figures == other.figures


def test_the_order_of_the_rows_changes_nothing():
    table = measured()
    shuffled = table.sample(frac=1, random_state=0)
    assert same(*(intervals.bootstrapped(item, count=50) for item in (table, shuffled)))


def test_figures_asked_for_are_as_they_are_among_all():
    table = measured()
    every, some = (intervals.bootstrapped(table, names, count=50) for names in (None, frozenset({"nll", "mca"})))
    assert list(some.figures) == ["nll", "mca"]
    for name, values in some.values.items():
        assert values == pytest.approx(every.values[name], rel=1e-12)


def test_tables_of_the_same_images_see_the_same_resamples():
    a = measured()
    b = a.assign(top1=a["top1"] + 1, nll=2 * a["nll"])
    first, second = (intervals.bootstrapped(table, count=50) for table in (a, b))
    assert second.values["top1"] - first.values["top1"] == pytest.approx(np.ones(50))
    assert second.values["nll"] == pytest.approx(2 * first.values["nll"])


def test_a_subset_is_a_column_with_gaps():
    table = measured()
    mask = (table["label"] == 2).to_numpy()
    column = np.where(mask, table["nll"], np.nan)
    result = bootstrap(table, {"some": column}, {}, count=400)
    assert result.figures["some"] == pytest.approx(table["nll"][mask].mean())
    spread = table["nll"][mask].std(ddof=0) / np.sqrt(mask.sum())
    assert result.values["some"].std() == pytest.approx(spread, rel=0.2)


def test_a_figure_of_no_image_is_no_number():
    table = measured()
    result = bootstrap(table, {"none": np.full(len(table), np.nan)}, {}, count=20)
    assert np.isnan(result.figures["none"]) and np.isnan(result.interval("none")).all()
    assert interval(np.array([np.nan, 1.0, 3.0]), level=0.5) == (1.5, 2.5)


def test_one_image_says_next_to_nothing():
    table = measured(images=1).assign(prediction=lambda t: t["label"], top1=100.0)
    result = intervals.intervals(table, count=20)
    assert result["mca"] == result["top1"] == pytest.approx((20.65, 100), abs=0.01)
    assert all(np.isfinite(ends).all() for ends in result.values())


@pytest.mark.parametrize("right", [0, 3, 597, 600])
def test_shares_at_the_edge_have_the_interval_of_wilson(right):
    """Resamples of images that are all right, or all but a few, say that none is ever wrong."""
    table = measured(images=600, classes=1)
    hits = np.arange(600) < right
    table["prediction"], table["teacher_prediction"] = np.where(hits, 0, 1), 0
    for name in ("top1", "top5", "agreement"):
        table[name] = 100.0 * hits
    table["confidence"] = 1.0
    result = intervals.intervals(table.sample(frac=1, random_state=0), count=200)
    expected = binomtest(right, 600).proportion_ci(0.95, method="wilson")
    for name in ("top1", "top5", "agreement", "mca"):
        assert result[name] == pytest.approx((100 * expected.low, 100 * expected.high)), name
    # All are in one bin, so that the error is the share of the wrong ones.
    low, high = result["ece"]
    assert low <= 100 * (1 - expected.high) + 1e-9 and high >= 100 * (1 - expected.low) - 1e-9


def test_shares_away_from_the_edge_have_that_of_their_resamples():
    table = measured()
    result = intervals.bootstrapped(table, count=50)
    assert result.shares.keys() == {"top1", "mca"}
    assert all(result.interval(name) == interval(result.values[name]) for name in result.figures)


def test_mca_is_as_sure_as_its_smallest_classes_let_it_be():
    label = np.repeat([0, 1, 2], [2, 100, 100])
    table = pd.DataFrame({"id": np.arange(202), "label": label, "prediction": label, "confidence": 0.9})
    low, high = intervals.intervals(table, count=50)["mca"]
    n = 9 / (1 / 2 + 1 / 100 + 1 / 100)  # the variance of the mean of three shares of p is p (1 - p) / n
    assert (low, high) == pytest.approx((100 * wilson(1, n)[0], 100))


def coverage(p, n, ends):
    """How often the intervals (n + 1, 2) of 0 ... n hits hold a share p."""
    chances = binom.pmf(np.arange(n + 1), n, p)
    return chances[(ends[:, 0] <= p) & (p <= ends[:, 1])].sum()


def test_fewer_than_five_is_where_percentiles_stop_to_hold():
    """Exactly, by the distributions that resamples are drawn from."""
    n = 400
    hits = np.arange(n + 1)
    percentiles = np.stack([binom.ppf(q, n, hits / n) / n for q in (0.025, 0.975)], axis=1)
    chosen = percentiles.copy()
    for k in hits:
        share = Share((np.arange(n) < k).astype(float), np.full(n, 1 / n), full=1.0)
        chosen[k] = share.interval() or percentiles[k]
    shares = np.linspace(0.5, 20, 40) / n
    assert min(coverage(p, n, percentiles) for p in shares) < 0.5
    assert min(coverage(p, n, chosen) for p in shares) > 0.9
    assert np.mean([coverage(p, n, chosen) for p in shares]) > 0.95


def rejected(difference, only_a, only_b, n):
    """The score statistic of a difference of paired shares, by likelihood over a grid."""
    a = np.linspace(max(0, -difference), min(1, (1 - difference) / 2), 20_001)
    b, both = a + difference, 1 - 2 * a - difference
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [k * np.log(q) if k else 0 * q for k, q in ((only_a, a), (only_b, b), (n - only_a - only_b, both))]
        likelihood = np.nan_to_num(sum(parts), nan=-np.inf)
    best = a[np.argmax(likelihood)]
    variance = (2 * best + difference - difference**2) / n
    return abs((only_b - only_a) / n - difference) / np.sqrt(variance)


@pytest.mark.parametrize(
    ("only_a", "only_b", "n"), [(0, 0, 54), (0, 3, 30), (1, 3, 400), (2, 12, 50), (4, 0, 5), (0, 1, 1), (2, 2, 100)]
)
def test_tango_is_what_a_score_test_does_not_reject(only_a, only_b, n):
    low, high = tango(only_a, only_b, n)
    assert -1 <= low < high <= 1 and low <= (only_b - only_a) / n <= high
    for end in (low, high):
        if abs(end) < 1:
            assert rejected(end, only_a, only_b, n) == pytest.approx(1.959964, rel=2e-3)
    assert tango(only_b, only_a, n) == pytest.approx((-high, -low))


def test_tango_of_two_that_are_never_apart():
    assert tango(0, 0, 54) == pytest.approx((-0.0664143, 0.0664143), abs=1e-6)  # z² / (n + z²)


def test_a_table_without_columns_of_metrics_has_the_figures_that_need_none():
    table = measured()[["id", "label", "prediction", "confidence"]]
    assert set(intervals.intervals(table, count=20)) == {"mca", "ece"}


def test_the_interval_of_a_share_holds_it_19_times_in_20():
    share, images, sets = 0.7, 250, 500
    right = np.random.default_rng(0).random((images, sets)) < share
    table = pd.DataFrame({"id": np.arange(images)})
    result = bootstrap(table, {str(item): np.where(right[:, item], 100.0, 0.0) for item in range(sets)}, {}, count=1000)
    ends = np.array([result.interval(name) for name in result.figures])
    held = np.mean((ends[:, 0] <= 100 * share) & (100 * share <= ends[:, 1]))
    assert 0.93 <= held <= 0.97


def test_the_interval_of_mca_holds_it_19_times_in_20():
    generator, images, sets = np.random.default_rng(1), 400, 200
    accuracy = np.linspace(0.4, 0.9, 8)
    held = 0
    counts = np.concatenate(list(resamples(images, 0, 300)))
    for _ in range(sets):
        labels = generator.integers(8, size=images)
        predictions = np.where(generator.random(images) < accuracy[labels], labels, 8)
        values = MCA.of(pd.DataFrame({"label": labels, "prediction": predictions}), counts)
        low, high = interval(values)
        held += low <= 100 * accuracy.mean() <= high
    assert 0.90 <= held / sets <= 0.99


def test_a_biased_figure_is_moved_back_to_what_the_table_has():
    table = measured(images=600)
    right = np.random.default_rng(0).random(600) < table["confidence"]  # as sure as it should be
    table["prediction"] = np.where(right, table["label"], table["label"] + 1)
    moved = bootstrap(table, {}, {"ece": calibration.ECE}, count=300)
    plain = bootstrap(table, {}, {"ece": Reducer(calibration.ece)}, count=300)
    assert plain.values["ece"].mean() > 1.1 * plain.figures["ece"]
    assert moved.values["ece"].mean() == pytest.approx(moved.figures["ece"])
    low, high = moved.interval("ece")
    assert low < moved.figures["ece"] < high


@pytest.mark.parametrize(("right", "n"), [(0, 10), (3, 10), (10, 10), (1400, 2000), (1, 1)])
def test_wilson_is_that_of_scipy(right, n):
    expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_share_of_nothing_has_no_interval():
    assert np.isnan(wilson(np.nan, 0)).all()
