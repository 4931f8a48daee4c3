"""Protocols, result files, the README's tables, and the command line, without a network."""

import difflib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import dctkd_zoo
from dctkd_zoo import registry
from eval.__main__ import main
from eval.pages import readme
from eval.run import results_csv, terminal
from eval.run.attempt import Status
from eval.run.protocol import figures
from eval.run.results_csv import Row
from eval.stats import intervals

ROOT = Path(__file__).parents[2]
LEVELS = range(1, 5)


def images(count: int, right: list[bool], taught: list[bool] | None = None) -> pd.DataFrame:
    """A per-image table of two classes: the first half label 0, the second 1."""
    labels = (np.arange(count) >= count / 2).astype(int)
    hit = np.resize(right, count)
    table = pd.DataFrame({"label": labels, "prediction": np.where(hit, labels, 1 - labels)})
    table["top1"] = table["top5"] = 100.0 * hit
    table["nll"] = np.arange(count, dtype=float)
    table["confidence"] = 1.0
    if taught is not None:
        table["teacher_prediction"] = np.where(np.resize(taught, count), labels, 1 - labels)
        table["agreement"] = 100.0 * (table["prediction"] == table["teacher_prediction"])
        for level in LEVELS:
            for name in ("ssim", "ssim_zeropad", "pearson", "spectral"):
                table[f"{name}.{level}"] = level * np.arange(count, dtype=float)
    return table


def test_exact_counts_each_image_once_and_leaves_absent_classes_out():
    result = figures(images(300, [True, False, False]), "exact", num_classes=4)
    assert result == {
        "top1": pytest.approx(100 / 3),
        "top5": pytest.approx(100 / 3),
        "mca": pytest.approx(100 / 3),
        "nll": 149.5,
        "ece": pytest.approx(200 / 3),
    }


def test_a_figure_per_level_comes_with_their_mean():
    result = figures(images(4, [True], [True]), "exact", num_classes=2)
    assert {name: result[name] for name in result if name.startswith("ssim")} == {
        "ssim": 1.5 * 2.5,
        **{f"ssim.{level}": 1.5 * level for level in LEVELS},
    }
    assert {"top1", "top5", "mca", "nll", "ece"} <= result.keys()


def test_a_score_with_a_level_of_chance_has_a_skill():
    table = images(4, [True], [True]).assign(id=list("abcd"))
    for level in LEVELS:
        table[f"ssim.{level}"], table[f"chance.ssim.{level}"] = 0.7, 0.4
        table[f"spectral.{level}"], table[f"chance.spectral.{level}"] = 1.0, 4.0
    table["energy.1"], table["chance.energy.1"] = [0.6, 0.6, np.nan, 0.6], 0.2
    together = {"cka.1": 0.5, "cka.2": 0.9, "chance.cka.1": 0.0, "chance.cka.2": 0.5}
    result = figures(table, "exact", 2, together)
    expected = {"ssim": 0.5, "ssim.3": 0.5, "spectral": 0.75, "energy": 0.5, "cka": 0.65, "cka.1": 0.5, "cka.2": 0.8}
    assert {name: result[f"skill.{name}"] for name in expected} == pytest.approx(expected)
    assert result["chance.ssim"] == pytest.approx(0.4) and result["cka"] == pytest.approx(0.7)
    assert result["energy"] == pytest.approx(0.6) and "skill.pearson" not in result
    ends = intervals.intervals(table)
    assert ends["skill.ssim"] == pytest.approx((0.5, 0.5)) and ends["energy"] == pytest.approx((0.6, 0.6))


def test_released_weighs_the_last_batch_like_a_full_one():
    table = images(300, [False])  # D-4: 44 images of the second batch count as 256
    table.loc[256:, "top1"] = 100.0
    result = figures(table, "released", num_classes=2)
    assert result["top1"] == pytest.approx((256 * 0 + 256 * 100) / (2 * 256))
    assert figures(table, "exact", num_classes=2)["top1"] == pytest.approx(100 * 44 / 300)


def test_released_divides_by_classes_that_have_no_image():
    table = images(300, [True])
    assert figures(table, "released", num_classes=8)["mca_all"] == pytest.approx(100 * 2 / 8)  # D-5
    assert figures(table, "exact", num_classes=8)["mca"] == 100


def test_released_ssim_is_of_images_that_the_teacher_gets_right():
    table = images(300, [True], [True, False])  # D-9: the even ones
    expected = (np.arange(0, 256, 2).mean() + np.arange(256, 300, 2).mean()) / 2
    result = figures(table, "released", num_classes=2)
    assert result["ssim_zeropad.1"] == pytest.approx(expected)
    assert result["ssim_zeropad"] == pytest.approx(2.5 * expected)
    assert result["nll"] == pytest.approx((np.arange(256).mean() + np.arange(256, 300).mean()) / 2)


def test_released_ssim_is_not_a_number_when_a_batch_has_no_such_image():
    table = images(300, [True], [True])
    table.loc[256:, "teacher_prediction"] = 0  # these are of class 1
    result = figures(table, "released", num_classes=2)
    assert np.isnan(result["ssim_zeropad"]) and np.isfinite(result["top1"])


def row(name: str, top1: float = 50.0, **changes: object) -> dict[str, object]:
    dataset = name.partition(".")[0].rpartition("_")[2]
    known = {
        "name": name,
        "dataset": dataset,
        "protocol": "exact",
        "seed": 0,
        "n": 1200,
        "failed": 0,
        "top1": top1,
        "top5": 100.0,
        "mca": top1,
        "nll": 0.123457,
        "parameters": 278_324,
        "weights_sha256": "0" * 64,
        "weights_origin": "bundled",
        "teacher": "r56_synthscenes",
        "teacher_sha256": "1" * 64,
        "trained_on": "one NVIDIA H200",
        "device": "cpu (AVX2, 2 threads)",
        "limit": None,
        "note": None,
    }
    return {**known, **changes}


def record(name: str, status: Status, reason: str = "", **changes: object) -> dict[str, object]:
    done = status is Status.EVALUATED
    dataset = name.partition(".")[0].rpartition("_")[2]
    measured = row(name, **changes) if done else None  # type: ignore[arg-type]
    return {"name": name, "dataset": dataset, "status": status, "reason": reason, "row": measured, "undecodable": []}


def test_results_read_back_as_they_were_written(tmp_path):
    path = tmp_path / "results.csv"
    rows: list[Row] = [row("r20_synthscenes", 63.1667, **{"ssim.1": 0.5, "ssim": float("nan")}), row("r8_synthscenes")]
    results_csv.write(rows, path)
    back = results_csv.read(path)
    assert [r["name"] for r in back] == ["r8_synthscenes", "r20_synthscenes"]
    for read, written in zip(reversed(back), rows, strict=True):
        assert {name: value for name, value in read.items() if value} == {
            name: str(value) for name, value in written.items() if value is not None
        }
    before = path.read_bytes()
    results_csv.write(back, path)
    assert path.read_bytes() == before


def test_a_new_row_replaces_that_of_the_same_name_protocol_and_seed(tmp_path):
    path = tmp_path / "results.csv"
    old: list[Row] = [row("r8_synthscenes", seed=s, protocol=p) for s in (0, 1, None) for p in ("exact", "released")]
    results_csv.write(old, path)
    results_csv.write([row("r8_synthscenes", 99.0, seed=None), row("r20_synthscenes", 98.0, seed=1)], path)
    result = [(r["name"], r["protocol"], r["seed"], r["top1"]) for r in results_csv.read(path)]
    assert result == [
        ("r8_synthscenes", "exact", "", "99.0"),
        ("r8_synthscenes", "exact", "0", "50.0"),
        ("r8_synthscenes", "exact", "1", "50.0"),
        ("r8_synthscenes", "released", "", "50.0"),
        ("r8_synthscenes", "released", "0", "50.0"),
        ("r8_synthscenes", "released", "1", "50.0"),
        ("r20_synthscenes", "exact", "1", "98.0"),
    ]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    results_csv.write([row("r8_synthscenes")], path)
    before = path.read_bytes()

    def full(self, data):
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        results_csv.write([row("r20_synthscenes")], path)
    left = sorted(p.name for p in tmp_path.iterdir())
    assert path.read_bytes() == before and left == [".results.csv.lock", "results.csv"]


def test_json_has_null_for_what_is_not_a_number():
    text = results_csv.as_json({"a": [float("nan"), 1.5], "b": {"c": float("inf"), "d": "σ"}})
    assert json.loads(text) == {"a": [None, 1.5], "b": {"c": None, "d": "σ"}}


def shown(records: list[dict[str, object]]) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(terminal.render(records))
    return capture.get()


def test_the_leaderboard_fits_100_columns_and_sorts_by_accuracy():
    figures: dict[str, Any] = {
        "agreement": 99.9,
        "ssim": 0.999,
        "pearson": -0.999,
        "spectral": 12.345,
        "parameters": 60_000_000,
    }
    names = sorted(registry.entries(), key=len)[-3:]
    records = [
        record(n, Status.EVALUATED, top1=t, dataset="d", **figures)
        for n, t in zip(names, (10.0, 99.9, 40.0), strict=True)
    ]
    lines = shown(records).splitlines()
    assert max(map(len, lines)) <= 100 and not any("…" in line for line in lines)
    first = [line.split()[0] for line in lines if line.startswith(tuple(names))]
    assert first == [names[1], names[2], names[0]]


def test_the_best_student_is_bold_and_the_teacher_is_not():
    rows: list[Row] = [
        row("r56_synthscenes", 90.0, teacher=None, teacher_sha256=None),
        row("r20_synthscenes", 70.0),
        row("r8_synthscenes", 60.0),
    ]
    assert [r[0].style for r in terminal.board(rows).rows] == ["", "bold", ""]


def test_seeds_of_an_entry_are_averaged():
    records = [record("r20_synthscenes", Status.EVALUATED, top1=top1, seed=s) for s, top1 in enumerate((60.0, 62.0), 1)]
    records.append(record("r8_synthscenes", Status.EVALUATED, top1=50.0, seed=1))
    text = shown(records)
    (line,) = (line for line in text.splitlines() if line.startswith("r20_synthscenes"))
    assert line.startswith("r20_synthscenes, 2 seeds") and "61.00 ± 1.41" in line
    assert "r8_synthscenes, seed 1 " in text and "Mean ± sd over training seeds 1, 2" in text


def test_absent_entries_are_grouped_with_the_command_that_gets_them():
    records = [record(f"r{n}_ade20k", Status.NO_WEIGHTS, "no weights of it") for n in range(1, 30)]
    records += [
        record(
            f"r{n}_mit67",
            Status.NO_DATA,
            "/data/mit67: not there\nTo fetch the dataset: python -m dctkd_zoo data fetch mit67",
        )
        for n in (18, 34)
    ]
    records += [record("r8_synthscenes", Status.NO_WEIGHTS, "no weights: python -m train r8_synthscenes")]
    lines = [line.strip() for line in shown(records).splitlines()]
    assert "ade20k: 29 entries have no weights: python -m train NAME" in lines
    assert "r8_synthscenes: no weights: python -m train r8_synthscenes" in lines
    data = lines.index("mit67: r18_mit67, r34_mit67 have no data. /data/mit67: not there")
    assert lines[data + 1] == "To fetch the dataset: python -m dctkd_zoo data fetch mit67"
    assert len(lines) < 8


def test_what_a_reader_must_know_stands_under_the_table():
    text = shown([record("r8_synthscenes", Status.EVALUATED, failed=3, note="not compared [with] its teacher")])
    assert "against r56_synthscenes" in " ".join(text.split()) and "Weights: bundled." in text
    assert "3 test images do not decode" in text and "not compared [with] its teacher" in text


BEFORE = """# Title
<!-- findings -->
old
<!-- /findings -->
between
<!-- teachers -->
<!-- /teachers -->
<!-- models -->
<!-- /models -->
after
"""


def test_the_readme_gets_tables_between_its_markers():
    rows = [results_csv.as_text(row("r20_synthscenes", top1, seed=seed)) for seed, top1 in enumerate((60.0, 61.0))]
    rows += [results_csv.as_text(row("r20_dctkd_synthscenes", top1, seed=s)) for s, top1 in enumerate((70.0, 72.0))]
    rows.append(results_csv.as_text(row("r20_synthscenes", 99.0, protocol="released")))
    text = readme.filled(BEFORE, rows)
    lines = text.splitlines()
    (difference,) = (line for line in lines if "supervised baseline" in line and "top-1" in line)
    assert re.search(r"\+10\.50\S* \(\S+ to \S+\), n 2, p ", difference.replace("\N{NO-BREAK SPACE}", " "))
    assert sum(line.startswith("| top-1") or line.startswith("| SSIM") for line in lines) == len(readme.FINDINGS)
    models = [line.split("|")[1:6] for line in lines if line.startswith("| `")]
    assert [cells[0].strip(" `") for cells in models] == [*dctkd_zoo.list_models("*", pretrained=True)]
    sizes = {cells[0].strip(" `"): cells[2].strip() for cells in models}
    assert sizes["r20_synthscenes"] == "278,324", "as measured"
    assert "old" not in text and [lines[0], lines[-1]] == ["# Title", "after"] and "between" in lines
    assert readme.filled(text, rows) == text


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A README and a results file of their own."""
    monkeypatch.setattr(readme, "README", tmp_path / "README.md")
    monkeypatch.setattr(results_csv, "RESULTS", tmp_path / "results.csv")
    (tmp_path / "README.md").write_text(BEFORE)
    results_csv.write([row("r8_synthscenes")], tmp_path / "results.csv")
    return tmp_path


def test_readme_check_fails_with_a_diff_until_it_is_made_anew(files, capsys):
    assert readme.main(["--check"]) == 1
    assert "-old" in capsys.readouterr().out
    assert (files / "README.md").read_text() == BEFORE
    assert readme.main([]) == 0
    assert readme.main(["--check"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# Title\n", "one <!-- findings --> with one <!-- /findings --> after it is needed"),
        (BEFORE.replace("<!-- /models -->", ""), "one <!-- models -->"),
        (f"{BEFORE}<!-- models -->\n", "one <!-- models -->"),
        (
            BEFORE.replace("<!-- findings -->\nold\n", "old\n<!-- /findings -->\n<!-- findings -->\n"),
            "<!-- findings -->",
        ),
    ],
)
def test_readme_with_wrong_markers_is_an_error(files, capsys, text, said):
    (files / "README.md").write_text(text)
    assert readme.main([]) == 1
    assert said in capsys.readouterr().err


def test_a_readme_that_is_not_there_is_an_error(files, capsys):
    (files / "README.md").unlink()
    assert readme.main(["--check"]) == 1 and readme.main([]) == 1
    assert "README.md" in capsys.readouterr().err


def test_readme_differs_in_no_other_line(files):
    readme.main([])
    changed = difflib.ndiff(BEFORE.splitlines(), (files / "README.md").read_text().splitlines())
    assert [line for line in changed if line.startswith("- ")] == ["- old"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either names of entries or --all"),
        (["r8_synthscenes", "--all"], "either names of entries or --all"),
        (["--all", "--limit", "0"], "'0' is not a number of images"),
        (["--all", "--limit", "-3"], "'-3' is not a number of images"),
        (["--all", "--limit", "many"], "'many' is not a number of images"),
        (["--all", "--write", "--limit", "8"], "leave out --limit"),
        (["--all", "--no-images"], "give both"),
        (["--all", "--results", "x.csv"], "give both"),
        (["--all", "--device", "abacus"], "device 'abacus'"),
        (["--all", "--protocol", "mine"], "invalid choice: 'mine'"),
        (["r8_synthscenes", "--seed", "0-4", "--report", "x"], "--report shows networks of one seed"),
        (["r8_synthscenes", "--seed", "4-0"], "'4-0' is not a list of seeds"),
        (["r8_synthscene"], "did you mean r8_synthscenes"),
        (["z*"], "unknown entry 'z*'"),
    ],
)
def test_wrong_usage_is_told_and_has_status_2(arguments, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert said in capsys.readouterr().err.replace("\n", " ")


def test_help_needs_no_torch_and_the_flags_say_where():
    code = (
        "import sys\nfrom eval.__main__ import main\ntry: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    flags = [word for word in done.stdout.replace("[", " ").replace("]", " ").split() if re.fullmatch("--[a-z]+", word)]
    assert set(flags) == {
        "--help",
        "--version",
        "--all",
        "--data",
        "--device",
        "--out",
        "--seed",
        "--catalog",
        "--fresh",
        "--cost",
        "--limit",
        "--protocol",
        "--report",
        "--sanity",
        "--faithfulness",
        "--teacher",
        "--results",
        "--json",
        "--write",
    }
