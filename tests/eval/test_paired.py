"""eval.stats.paired, seeds and gap_closed, against binomials by hand and by scipy, worked examples, simulations."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from dctkd_zoo.errors import ZooError
from eval import columns
from eval.stats import seeds
from eval.stats.bootstrap import Bootstrap, bootstrap
from eval.stats.gap_closed import bootstrapped_gap, gap_closed
from eval.stats.paired import align, bootstrap_p, corrected, difference, holm, mcnemar


def answers(right: list[bool] | np.ndarray, prefix: str = "") -> pd.DataFrame:
    """A table of images of class 0 of which some are right."""
    table = pd.DataFrame({"id": [f"{prefix}{index:04}" for index in range(len(right))], "label": 0})
    table["prediction"] = np.where(right, 0, 1)
    return table.assign(confidence=0.5, top1=100.0 * np.asarray(right))


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1.0),
        (3, 3, 1.0),
        (0, 1, 1.0),  # 2 · 1/2
        (1, 5, 2 * (1 + 6) / 2**6),
        (6, 0, 2 / 2**6),
        (2, 8, 2 * (1 + 10 + 45) / 2**10),
    ],
)
def test_mcnemar_is_the_binomial_by_hand(only_a, only_b, p):
    right_a = [True] * only_a + [False] * only_b + [True, False]
    right_b = [False] * only_a + [True] * only_b + [True, False]
    tables = answers(right_a), answers(right_b)
    assert mcnemar(*tables) == pytest.approx(p, rel=1e-12) == mcnemar(*tables[::-1])


def test_mcnemar_of_many_images_is_a_number():
    wrong, right = answers([False] * 3000), answers([True] * 3000)
    assert mcnemar(wrong, right) < 1e-300 and mcnemar(wrong, wrong) == 1


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_takes_no_account_of_what_was_not_compared():
    result = holm([0.01, np.nan, 0.04])
    assert result[0] == 0.02 and result[2] == 0.04 and np.isnan(result[1])


def test_holm_keeps_the_order_and_never_lowers_a_p():
    ps = np.random.default_rng(0).random(30)
    result = holm(list(ps))
    assert (np.array(result) >= ps).all()
    assert all(low <= high for low, high in pairwise(np.array(result)[np.argsort(ps)]))


def test_two_networks_that_answer_alike_do_not_differ():
    table = answers([True, False] * 50)
    one = bootstrap(table, {"top1": table["top1"].to_numpy()}, {}, count=100)
    result = difference("top1", one, one)
    assert (result.difference, result.low, result.high, result.p, result.significant) == (0, 0, 0, 1, False)


def test_a_paired_difference_is_that_of_the_images_differences():
    generator = np.random.default_rng(0)
    easy = generator.normal(size=400)
    a, b = easy + generator.normal(scale=0.1, size=400), easy + 0.05 + generator.normal(scale=0.1, size=400)
    table = pd.DataFrame({"id": np.arange(400)})
    first, second = (bootstrap(table, {"nll": side}, {}, seed=3) for side in (a, b))
    result = difference("nll", first, second)
    assert (result.low, result.high) == pytest.approx(bootstrap(table, {"d": b - a}, {}, seed=3).interval("d"))
    reach = 1.96 * (b - a).std() / 20
    assert (result.low, result.high) == pytest.approx((result.difference - reach, result.difference + reach), abs=0.002)
    assert result.significant and result.p == pytest.approx(2 / 2001)
    swapped = difference("nll", second, first)
    assert (swapped.low, swapped.high, swapped.p) == pytest.approx((-result.high, -result.low, result.p))


def test_resamples_of_other_seeds_are_not_paired():
    table = answers([True] * 30 + [False] * 70)
    first, second = (bootstrap(table, {"top1": table["top1"].to_numpy()}, {}, seed=s, count=200) for s in (0, 1))
    assert difference("top1", first, second).high > 5  # where the seed is the same it is 0


def test_where_there_is_no_difference_one_is_shown_1_time_in_20():
    generator, images, sets = np.random.default_rng(0), 200, 300
    table = pd.DataFrame({"id": np.arange(images)})

    def network() -> Bootstrap:
        columns = {str(item): generator.normal(size=images) for item in range(sets)}
        return bootstrap(table, columns, {}, count=1000)

    a, b = network(), network()
    result = [difference(str(item), a, b) for item in range(sets)]
    assert 0.02 <= np.mean([item.significant for item in result]) <= 0.09
    assert np.mean([item.significant for item in corrected(result)]) <= 0.01


@pytest.mark.parametrize("below", [0, 3, 24, 500])
def test_the_p_of_resamples_is_below_5_percent_where_the_interval_leaves_out_0(below):
    values = np.concatenate([np.full(below, -1.0), np.ones(1000 - below)])
    assert bootstrap_p(values) == pytest.approx(min(1, 2 * (1 + below) / 1001))
    one = Bootstrap({"d": 0.0}, {"d": np.zeros(1000)})
    result = difference("d", one, Bootstrap({"d": 1.0}, {"d": values}))
    assert result.significant == (result.low > 0) == (result.p < 0.05)


def test_shown_needs_both_the_interval_and_the_p():
    one = Bootstrap({"top1": 50.0}, {"top1": np.zeros(100)})
    apart = Bootstrap({"top1": 60.0}, {"top1": np.full(100, 10.0)})
    result = difference("top1", one, apart, p=0.04)
    assert result.significant
    assert not difference("top1", one, apart, p=0.06).significant
    first, second = corrected([result, replace(result, p=0.5)])
    assert (first.p, first.holm, first.significant, second.significant) == (0.04, 0.08, False, False)


def test_families_are_corrected_on_their_own():
    zero, apart = ({"top1": 50.0 + d} for d in (0, 10))
    one = difference("top1", Bootstrap(zero, {"top1": np.zeros(100)}), Bootstrap(apart, {"top1": np.full(100, 10.0)}))
    given = [("a", 0.01), ("b", 0.03), ("a", 0.04), ("b", 0.5), ("a", np.nan), ("c", 0.04)]
    result = corrected([replace(one, p=p, family=family) for family, p in given])
    assert [item.family for item in result] == [family for family, _ in given]
    assert [item.holm for item in result] == pytest.approx([0.02, 0.06, 0.04, 0.5, np.nan, 0.04], nan_ok=True)
    assert [item.significant for item in result] == [True, False, True, False, False, True]


def test_no_number_is_no_difference():
    gap = Bootstrap({"iou": np.nan}, {"iou": np.full(50, np.nan)})
    result = difference("iou", gap, gap)
    assert np.isnan([result.difference, result.low, result.p, result.holm]).all() and not result.significant


def test_tables_are_paired_by_id_not_by_row():
    a = answers([True, False, True])
    b = a.iloc[::-1]
    first, second = align(a, b)
    assert first["id"].tolist() == second["id"].tolist() == ["0000", "0001", "0002"]
    assert first["prediction"].tolist() == second["prediction"].tolist()


@pytest.mark.parametrize(
    ("b", "said"),
    [
        (answers([True] * 4), "not measured on the same images: only r20 has 0003"),
        (answers([True] * 2), "only r8 has 0002"),
        (answers([True] * 3, "x"), "only r8 has 0000, 0001, 0002; only r20 has x0000, x0001, x0002"),
        (answers([True] * 9, "x"), "x0000, x0001, x0002 and 6 more"),
        (answers([True] * 3).assign(label=[0, 7, 0]), r"different labels for the same images: 0001 \(0 and 7\)"),
        (answers([True] * 3).assign(id="0000"), "r20 has images twice: 0000, 0000"),
    ],
)
def test_tables_of_other_images_or_labels_are_refused(b, said):
    with pytest.raises(ZooError, match=said):
        align(answers([True] * 3), b, ("r8", "r20"))


def test_the_spread_over_seeds():
    result = seeds.spread([70.0, 72.0, 77.0])
    assert (result.mean, result.n) == (73.0, 3) and result.sd == pytest.approx(13**0.5)
    alone = seeds.spread([70.0])
    assert np.isnan(alone.sd) and (alone.mean, alone.n) == (70.0, 1)


def test_a_column_over_the_seeds_that_have_it():
    rows = [{"top1": "70.0", "nll": ""}, {"top1": "72.0", "nll": "nan"}, {"top1": "77.0", "nll": "0.5"}]
    assert seeds.over_seeds(rows, columns.get("top1")) == "73.00 ± 3.61"
    assert seeds.over_seeds(rows, columns.get("nll")) == "0.500"
    assert seeds.over_seeds(rows[:2], columns.get("nll")) == "–"


def test_the_share_of_a_gap_that_is_closed():
    assert gap_closed(60, 70, 80) == 0.5
    assert gap_closed(60, 55, 80) == -0.25
    assert gap_closed(60, 90, 80) == 1.5
    assert np.isnan(gap_closed(60, 70, 60))


def test_a_share_closed_has_an_interval_where_there_is_a_gap():
    luck = np.random.default_rng(0).random(1000)
    baseline, student, teacher = (answers(luck < share) for share in (0.5, 0.65, 0.8))
    result = bootstrapped_gap(baseline, student, teacher, count=500)
    assert result.share == pytest.approx(0.5, abs=0.05)
    assert result.low < result.share < result.high and result.high - result.low < 0.2
    assert bootstrapped_gap(baseline, baseline, teacher, count=100).share == 0
    whole = bootstrapped_gap(baseline, teacher, teacher, count=100)
    assert whole.share == 1, "of 1,000 images that both get alike: no more than 0.4 points apart, of some 30"
    assert 1 - whole.low == pytest.approx(whole.high - 1) and 0.012 < whole.high - 1 < 0.016


def test_a_share_of_a_gap_that_may_be_none_has_no_interval():
    generator = np.random.default_rng(0)
    baseline, student, teacher = (answers(generator.random(100) < 0.5) for _ in range(3))
    result = bootstrapped_gap(baseline, student, teacher, count=200)
    assert np.isnan([result.low, result.high]).all()
    with pytest.raises(ZooError, match="the baseline and the teacher were not measured on the same images"):
        bootstrapped_gap(baseline, student, answers([True]), count=20)
