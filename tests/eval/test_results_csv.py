"""eval.run.results_csv: no row is lost, torn files and bad cells are refused, files of earlier versions are read."""

import csv
import io
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dctkd_zoo._io import csv_rows
from dctkd_zoo.errors import CorruptFile
from eval.run import results_csv

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import sys
from pathlib import Path
from eval import results
for number in range(50):
    row = {"name": f"r{number}_{sys.argv[2]}", "dataset": sys.argv[2], "protocol": "exact", "seed": 0}
    row |= {"n": 3, "top1": 50.0}
    results.write([row], Path(sys.argv[1]))
"""


def row(name: str = "r8_synthscenes", **changes: object) -> dict[str, object]:
    known = {"name": name, "dataset": "synthscenes", "protocol": "exact", "seed": 0, "n": 1200, "top1": 63.1667}
    return {**known, "ssim": float("nan"), "limit": None, "note": 'a, "b"', **changes}


@pytest.fixture
def path(tmp_path):
    """A results file of three rows."""
    results_csv.write([row(), row(seed=1), row("r20_synthscenes")], tmp_path / "results.csv")
    return tmp_path / "results.csv"


def test_every_cut_within_a_row_is_found_and_the_file_stays(path):
    whole, before = path.read_bytes(), results_csv.read(path)
    for at in range(len(whole)):
        path.write_bytes(whole[:at])
        if at and whole[at - 1 : at] == b"\n":  # between two rows
            assert results_csv.read(path) == before[: whole[:at].count(b"\n") - 1]
            continue
        with pytest.raises(CorruptFile, match="line") as caught:
            results_csv.write([row("r32_synthscenes")], path)
        assert str(path) in str(caught.value) and "version control" in str(caught.value)
        assert path.read_bytes() == whole[:at]


def test_every_flipped_bit_leaves_rows_of_numbers_or_is_refused(path):
    whole, refused = path.read_bytes(), 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 7]) + whole[at + 1 :])
        try:
            result = results_csv.read(path)
        except CorruptFile:
            refused += 1
        else:
            assert [results_csv.fault(item) for item in result] == [""] * 3
            assert all(float(item["top1"]) < 1e3 and int(item["n"]) < 1e5 for item in result)
    assert refused > len(whole) / 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("63.1667", "63.l667"), "line 2: top1 is '63.l667', not a number"),
        (
            ("synthscenes,exact,0", "synthscenes,exact,1"),
            "line 3: duplicate of line 2: r8_synthscenes, protocol exact, seed '1'",
        ),
        (("name,", "nmae,"), "line 1: no column name"),
        (("top1,", "dataset,"), "line 1: repeated or empty column 'dataset'"),
        (("r20_synthscenes,", "r20_synthscenes"), "line 4: 31 fields, but the header has"),
        (("r20_synthscenes,", "<<<<<<< HEAD\nr20_synthscenes,"), "line 4: 1 fields"),
        (("63.1667", "\0"), "not CSV in UTF-8|not a number"),
    ],
)
def test_damage_is_refused_with_the_line_and_the_way_on(path, change, message):
    path.write_text(path.read_text().replace(*change, 1))
    before = path.read_bytes()
    with pytest.raises(CorruptFile, match=message) as caught:
        results_csv.write([row()], path)
    assert "restore the file from version control" in str(caught.value)
    assert path.read_bytes() == before


def text_of(*told: Mapping[str, object]) -> str:
    return results_csv.as_csv([results_csv.as_text(item) for item in told])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": "12.5"}, "line 2: n is '12.5', not a whole number"),
        ({"n": None}, "n is missing"),
        ({"name": None}, "name is missing"),
        ({"top1": None}, "top1 is missing"),
        ({"top1": "inf"}, "top1 is 'inf', not a number"),
        ({"top1": "1e999"}, "top1 is '1e999', not a number"),
        ({"top1": "63,1"}, "top1 is '63,1', not a number"),
        ({"ssim.1": "=1+1"}, "ssim.1 is '=1\\+1', not a number"),
        ({"seed": "9" * 5000}, "seed is '9{40}', not a whole number"),
        ({"latency_ms": "1_0"}, "latency_ms is '1_0'"),
    ],
)
def test_cells_of_another_type_are_refused(tmp_path, changes, message):
    path = tmp_path / "results.csv"
    path.write_text(text_of(row()))
    assert results_csv.read(path)[0]["top1"] == "63.1667"
    path.write_text(text_of(row(**changes)))
    with pytest.raises(CorruptFile, match=message):
        results_csv.read(path)


def test_two_rows_of_one_key_are_refused_for_one_would_be_lost(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(text_of(row(), row(top1=1.0)))
    with pytest.raises(CorruptFile, match="line 3: duplicate of line 2: r8_synthscenes, protocol exact, seed '0'"):
        results_csv.read(path)


def test_what_is_not_finite_is_written_so_that_it_can_be_read(tmp_path):
    path = tmp_path / "results.csv"
    results_csv.write([row(nll=float("inf"), note="in\udcff.png")], path)
    (result,) = results_csv.read(path)
    assert (result["nll"], result["ssim"], result["note"]) == ("nan", "nan", "in\\udcff.png")


WORDS = st.text(min_size=1).filter(str.strip)


@given(st.dictionaries(st.sampled_from(sorted(results_csv.WORDS)), WORDS, max_size=8))
def test_words_come_back_on_one_line(tmp_path, words):
    path = tmp_path / "results.csv"
    path.unlink(missing_ok=True)
    expected = results_csv.as_text(row(**words))
    results_csv.write([expected], path)
    (result,) = results_csv.read(path)
    assert {name: v for name, v in result.items() if v} == {
        name: " ".join(v.split()) for name, v in expected.items() if v
    }
    assert path.read_bytes().count(b"\n") == 2


EVIL = ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "'=1", "''@x", "'plain", "-", "=HYPERLINK(1)", "+1.5.2"]


@pytest.mark.parametrize("words", EVIL)
def test_words_of_others_are_no_formulas_and_come_back(tmp_path, words):
    path = tmp_path / "results.csv"
    results_csv.write([row(note=words)], path)
    (kept,) = csv.DictReader(io.StringIO(path.read_text()))
    assert not kept["note"].startswith(("=", "+", "-", "@"))
    assert results_csv.read(path)[0]["note"] == words


@pytest.mark.parametrize("number", ["-1.5", "+3", "-1e-05", "1e+10", "nan", "-0.0"])
def test_numbers_stay_numbers(number):
    assert csv_rows.as_csv(["a"], [{"a": number}]) == f"a\n{number}\n"


@given(st.lists(st.text(alphabet="'=+-@\t\r\n,\"a1. "), min_size=1, max_size=3))
def test_any_cells_come_back(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("rows") / "x.csv"
    meta = {"id": "x", **{f"c{place}": cell for place, cell in enumerate(cells)}}
    path.write_bytes(csv_rows.as_csv([*meta], [meta]).encode())
    ((_, result),) = csv_rows.read(path, ["id"], "")
    assert list(result.values())[1:] == cells


def test_two_processes_that_write_lose_no_row(tmp_path):
    path = tmp_path / "results.csv"
    command = [sys.executable, "-c", WRITER, str(path)]
    running = [subprocess.Popen([*command, who], cwd=ROOT) for who in ("here", "there")]
    assert [process.wait(120) for process in running] == [0, 0]
    assert {item["name"] for item in results_csv.read(path)} == {
        f"r{n}_{w}" for n in range(50) for w in ("here", "there")
    }


def test_a_file_of_an_earlier_version_keeps_its_rows_and_scores(tmp_path):
    """It had scores that are measured no more, and a hash of each row, which is not kept."""
    path, figures = tmp_path / "results.csv", {"cosine": "0.9", "cosine.1": "0.8", "top1_ten_crop": "64.0"}
    earlier = [results_csv.as_text(row(seed=seed, **figures)) for seed in (0, 1)]
    heading, *lines = text_of(*earlier).splitlines()
    path.write_text("".join(f"{line}\n" for line in (f"{heading},sha256", *(f"{line},92a985cdeb5b" for line in lines))))
    results_csv.write([row("r20_synthscenes")], path)
    assert "sha256," not in path.read_text().replace("weights_sha256,", "").replace("teacher_sha256,", "")
    result = results_csv.read(path)
    assert [{k: v for k, v in item.items() if v} for item in result[:2]] == [
        {k: v for k, v in item.items() if v} for item in earlier
    ]
    assert len(result) == 3 and "sha256" not in result[0]


def test_the_committed_file_is_as_it_would_be_written(tmp_path):
    path = tmp_path / "results.csv"
    path.write_bytes(results_csv.RESULTS.read_bytes())
    results_csv.write([], path)
    assert path.read_bytes() == results_csv.RESULTS.read_bytes()
