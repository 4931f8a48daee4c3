"""eval.columns: how numbers of tables are formatted, and which columns a table has."""

import math
import re
from dataclasses import replace

import pytest

from dctkd_zoo import discover, registry
from eval import columns, metrics
from eval.metrics import _objects
from eval.run.results_csv import RESULTS, read

ROWS = read(RESULTS)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", "–"),
        (None, "–"),
        ("nan", "–"),
        (math.inf, "–"),
        ("73", "73.00"),
        (-0.256, "\N{MINUS SIGN}0.26"),
        (0, "0.00"),
    ],
)
def test_a_value_has_the_digits_of_its_column(value, text):
    assert columns.get("top1").text(value) == text


def test_differences_intervals_and_deviations():
    nll = columns.get("nll")
    assert (nll.signed(0.25), nll.signed(-0.25)) == ("+0.250", "\N{MINUS SIGN}0.250")
    assert columns.interval(1, 2.345, 2) == "1.00 to 2.35" or columns.interval(1, 2.345, 2) == "1.00 to 2.34"
    assert columns.interval(math.nan, 2, 2) == "–"
    assert columns.get("top1").spread(73, 13**0.5) == "73.00 ± 3.61"
    assert columns.get("top1").spread(73, math.nan) == "73.00"
    assert columns.thousands("1200") == "1,200" and columns.thousands("") == "–"


@pytest.mark.parametrize(("p", "text"), [(math.nan, "–"), (0.0004, "<0.001"), (0.25, "0.250"), (1.0, "1.000")])
def test_p(p, text):
    assert columns.p_value(p) == text
    assert columns.p_value(0.05, bound=True) == "≤0.050"


def test_a_level_and_an_end_of_an_interval_are_as_the_whole():
    assert columns.get("skill.ssim.2") is columns.get("skill.ssim")
    assert columns.get("top1.high") is columns.get("top1")


def test_names_and_titles_are_unique():
    for named in ([c.name for c in columns.COLUMNS], [c.title for c in columns.COLUMNS]):
        assert len(set(named)) == len(named)
    for table in columns.TABLES:
        headings = [c.heading or c.title for c in columns.of(table)]
        assert headings and len(set(headings)) == len(headings)


def test_every_metric_and_every_measured_score_has_a_column():
    known = {column.name for column in columns.COLUMNS}
    assert set(discover.modules(metrics.__name__)) <= known
    skills = {name for row in ROWS for name in row if re.fullmatch(r"skill\.[a-z_]+", name) and "teacher" not in name}
    assert skills <= known


def test_what_is_compared_belongs_to_a_family():
    families = {c.name: c.family for c in columns.COLUMNS}
    assert {families[name] for name in ("top5", "mca", "nll", "ece")} == {"accuracy"} and families["top1"] == "top-1"
    assert {families[f"skill.{name}"] for name in _objects.SCORES} == {"objects"}
    skills = {name for name in families if name.startswith("skill.")} - {f"skill.{name}" for name in _objects.SCORES}
    assert {families[name] for name in (*skills, "agreement", "agreement_wrong", "kl")} == {"alignment"}
    assert all(column.family for column in columns.COLUMNS)


def test_scores_on_objects_are_those_that_rows_have():
    row = {"dataset": "miniplaces12k", "energy": "0.1", "chance.energy": "0.1", "auc": "", "top1": "50"}
    assert [column.name for column in columns.scores_on_objects([row])] == ["energy"]
    assert [column.name for column in columns.scores_on_objects([row, row | {"auc": "0.6"}])] == ["energy", "auc"]


def test_a_table_has_the_columns_that_rows_have_values_for():
    rows = [row for row in ROWS if row["dataset"] == "synthscenes"]
    names = [column.name for column in columns.of("card", rows)]
    fidelity = ("agreement", "agreement5", "agreement_wrong", "kl", "skill.class_map")
    assert names == [n for n in ("top1", "top5", "mca", "nll", *fidelity) if any(row[n] for row in rows)]
    assert "top5" not in [c.name for c in columns.of("card", [{"dataset": "few", **rows[0]} | {"top5": ""}])]


def test_a_dataset_of_few_classes_has_no_top5(monkeypatch):
    few = {name: replace(known, num_classes=5) for name, known in registry.datasets().items()}
    monkeypatch.setattr(columns, "datasets", lambda: few)
    rows = [row | {"agreement5": "100"} for row in ROWS]
    assert not {"top5", "agreement5"} & {column.name for column in columns.of("card", rows)}
