"""eval.stats.compare: from tables of entries to what a reader is told of their differences."""

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy.stats import binomtest

from dctkd_zoo.errors import ZooError
from eval import columns
from eval.stats import compare
from eval.stats.compare import NO_DIFFERENCE, Comparison
from eval.stats.paired import Difference

IMAGES, CLASSES = 400, 4


def table(accuracy: float, seed: int, taught: bool = True, ssim: float = 0.5) -> pd.DataFrame:
    """The per-image table of a network that is right on so many images; its teacher is always the same."""
    images, own = np.random.default_rng(99), np.random.default_rng(seed)
    labels, luck = images.integers(CLASSES, size=IMAGES), images.random(IMAGES)
    right = luck + own.normal(scale=0.1, size=IMAGES) < accuracy
    result = pd.DataFrame({"id": [f"{index:04}" for index in range(IMAGES)], "label": labels})
    result["prediction"] = np.where(right, labels, (labels + 1) % CLASSES)
    result["confidence"] = own.uniform(0.4, 1, IMAGES)
    if taught:
        result["teacher_prediction"] = labels
    result["top1"] = result["top5"] = 100.0 * right
    result["nll"] = own.exponential(size=IMAGES)
    if taught:
        result["agreement"] = result["top1"]
        result["ssim.1"], result["ssim.2"] = (own.normal(ssim, 0.1, IMAGES) for _ in range(2))
    return result


def by_figure(comparison: Comparison) -> dict[str, Difference]:
    return {item.figure: item for item in comparison.differences}


def shown(comparisons: tuple[Comparison, ...]) -> list[str]:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(compare.render(comparisons))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_better_network_is_shown_to_be_better():
    a, b = table(0.5, 0), table(0.7, 1, ssim=0.8)
    (result,) = compare.compare({"r8": a, "r20": b})
    lines = by_figure(result)
    assert list(lines) == ["top1", "mca", "nll", "ece", "agreement", "ssim"]
    assert (result.a, result.b, result.images) == ("r8", "r20", IMAGES)
    top1 = lines["top1"]
    assert (top1.a, top1.b) == (a["top1"].mean(), b["top1"].mean())
    right_a, right_b = a["top1"] > 0, b["top1"] > 0
    assert top1.p == binomtest(int((right_a & ~right_b).sum()), int((right_a != right_b).sum())).pvalue
    assert top1.low < top1.difference < top1.high
    assert [name for name, item in lines.items() if item.significant] == ["top1", "mca", "ece", "agreement", "ssim"]


def test_a_network_does_not_differ_from_itself():
    both = table(0.6, 0)
    (result,) = compare.compare({"r8": both, "r20": both.sample(frac=1, random_state=0)})
    apart = 100 * 3.841459 / (IMAGES + 3.841459)  # of 400 images that two get alike, the most by which they may differ
    for item in result.differences:
        assert (item.difference, item.p, item.significant) == (0, 1, False)
        expected = apart if item.figure in ("top1", "agreement") else 0 if item.figure != "mca" else item.high
        assert (item.low, item.high) == pytest.approx((-expected, expected), abs=1e-4)
    assert by_figure(result)["mca"].high == pytest.approx(apart, rel=0.1)


def test_two_that_are_always_right_may_still_differ():
    both = table(2.0, 0)
    (result,) = compare.compare({"r8": both, "r20": both.copy()})
    assert (by_figure(result)["top1"].a, by_figure(result)["top1"].b) == (100, 100)
    assert all(by_figure(result)[name].high > 0.9 for name in ("top1", "mca", "agreement"))


def test_the_seed_decides_the_intervals():
    tables = {"r8": table(0.5, 0), "r20": table(0.52, 1)}
    first, again, other = (compare.compare(tables, seed=seed) for seed in (0, 0, 1))
    assert first == again and first != other
    assert first[0].differences[0].difference == other[0].differences[0].difference


def test_the_correction_is_over_all_that_is_compared():
    tables = {"r8": table(0.5, 0), **{f"r{n}": table(0.55, n) for n in range(20, 25)}}
    alone = compare.compare({name: tables[name] for name in ("r8", "r20")})
    among = compare.compare(tables)
    assert [c.b for c in among] == list(tables)[1:]
    a, b = (by_figure(result[0])["top1"] for result in (alone, among))
    assert (a.p, a.difference) == (b.p, b.difference) and a.holm < b.holm
    # the smallest p that resamples can give must be able to pass
    lines = sum(len(c.differences) for c in among)
    assert among[0].resamples > 2000 and 2 / (among[0].resamples + 1) * lines < 0.05
    assert alone[0].resamples == 2000


def test_what_only_one_has_is_not_compared_and_that_is_told():
    (result,) = compare.compare({"r8": table(0.5, 0), "r56": table(0.9, 1, taught=False)})
    assert list(by_figure(result)) == ["top1", "mca", "nll", "ece"]
    assert "Only one has a teacher" in result.note
    other = table(0.5, 2).assign(teacher_prediction=0)
    assert "different teachers" in compare.compare({"r8": table(0.5, 0), "r20": other})[0].note
    assert not compare.compare({"r8": table(0.5, 0), "r20": table(0.5, 1)})[0].note


def test_tables_of_other_images_are_refused_by_name():
    with pytest.raises(ZooError, match="r8 and r20 were not measured on the same images"):
        compare.compare({"r8": table(0.5, 0), "r20": table(0.5, 1)[:-1]})


def test_the_table_fits_100_columns_and_says_where_no_difference_is_shown():
    long = "r152_dctkd_kd_synthscenes.signed, seed 12"
    tables = {"r20_synthscenes": table(0.5, 0), long: table(0.5, 1, ssim=0.8), "r8_synthscenes": table(0.7, 2)}
    result = compare.compare(tables)
    lines = shown(result)
    assert max(map(len, lines)) <= 100 and not any("…" in line for line in lines)
    assert f"A r20_synthscenes, B {long}: 400 test images" in lines
    titles = tuple(columns.get(name).titled for name in by_figure(result[0]))
    meta = [line for line in lines if line.startswith(titles)]
    differences = [item for comparison in result for item in comparison.differences]
    for line, item in zip(meta, differences, strict=True):
        assert line.startswith(columns.get(item.figure).titled)
        assert line.endswith(("higher", "lower") if item.significant else NO_DIFFERENCE)
        assert f" {item.b:.1f}"[:-1] in line and columns.minus(f"{item.low:+.1f}"[:-1]) in line
    assert sum("≤" in line for line in meta) == sum(item.p == 2 / 2001 for item in differences) > 0
    assert any(item.significant for item in differences) and not all(item.significant for item in differences)
    text = " ".join(lines)
    assert "McNemar" in text and "Holm" in text and "excludes 0 and p is below 0.05" in text


def test_what_is_no_number_is_a_dash():
    a = table(0.5, 0).assign(**{"ssim.1": np.nan})
    (result,) = compare.compare({"r8": a, "r20": table(0.6, 1)})
    item = by_figure(result)["ssim"]
    assert compare.cells(item, 2000)[1:] == ("–", f"{item.b:.3f}", "–", "–", "–", NO_DIFFERENCE)
