"""`python -m benchmarks` on small work: what is compared, how, and what is told of it. No test looks at a timing."""

import json
import math
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch
from rich.console import Console

from benchmarks import growth, report
from benchmarks.__main__ import main
from benchmarks.cases import training
from benchmarks.fixtures import released, validate
from benchmarks.harness.measure import FASTER, MILLISECONDS, Comparison, Row, Target, compare, measure
from benchmarks.harness.setting import Setting, full, home, quick
from benchmarks.harness.sides import Command, Given, Timed, process
from benchmarks.suite import ROWS
from dctkd_zoo import losses
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.errors import ZooError
from dctkd_zoo.features import Output
from eval.run.results_csv import as_json

ROOT = Path(__file__).parents[2]
BY_NAME = {row.name: row for row in ROWS}
SIDES, CHANNELS = (28, 14, 7, 4), ((8, 16, 32, 64), (16, 32, 64, 128))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A setting in which every row takes about a second; its maps are of 16 to 2 px."""
    folder = tmp_path_factory.mktemp("benchmarks")
    with home(folder / "home"):
        yield Setting(folder, resize=72, crop=64, batch=4, images=8, built=6, rounds=2, slow_rounds=1, steps=0)


def test_the_released_loss_is_the_signed_transform():
    torch.manual_seed(0)
    student, teacher = (
        tuple(torch.rand(5, c, n, n) for c, n in zip(channels, SIDES, strict=True)) for channels in CHANNELS
    )
    logits, labels = torch.zeros(5, 3), torch.zeros(5, dtype=torch.long)
    term = losses.create("dctkd", transform="dft_signed", guided=False)
    ours = term(Output(logits, student, logits), Output(logits, teacher, logits), Batch(logits, labels, labels))
    torch.testing.assert_close(released.distance(student, teacher), ours, rtol=1e-5, atol=0)


def test_sides_are_measured_in_turns_after_one_round_that_does_not_count():
    turns = []
    student, teacher = Timed(lambda: turns.append("a")), Timed(lambda: turns.append("b"))
    pairs = compare(Comparison("", "", student, teacher, FASTER, MILLISECONDS, rounds=3))
    assert turns == list("ab" * 4)
    assert len(pairs) == 3


def test_the_ratio_says_how_much_longer_the_other_side_takes(tiny):
    @contextmanager
    def sleeping(setting):
        sides = Timed(lambda: time.sleep(0.05)), Timed(lambda: time.sleep(0.2))
        yield Comparison("short", "long", *sides, FASTER, MILLISECONDS, rounds=3)

    measured = measure(Row("sleep", Target(2), sleeping), tiny)
    assert 2 < median(measured.values) <= 4.1  # a busy machine makes both sleep longer
    assert measured.met
    assert min(measured.ours) >= 50
    assert min(measured.theirs) >= 200


def test_preparing_is_not_timed():
    assert Timed(lambda: None, prepare=lambda: time.sleep(0.2)).measure() < 0.1


def test_a_target_is_met_from_one_side():
    assert Target(3).met(3.0)
    assert not Target(3).met(2.9)
    assert Target(0.3, at_least=False).met(0.2)
    assert str(Target(0.3, at_least=False)) == "≤ 0.3"


def test_every_row_has_a_name_of_its_own_and_a_target_or_none():
    assert len(BY_NAME) == len(ROWS)
    assert all(row.target is None or row.target.limit > 0 for row in ROWS)


def test_both_sizes_measure_often_enough(tmp_path):
    for size, slow in ((full, 5), (quick, 3)):
        setting = size(tmp_path, None)
        assert setting.rounds >= 5
        assert setting.slow_rounds >= slow
        assert setting.images % setting.batch == 0  # a smaller last batch would count as a whole one


def test_the_home_is_another_for_a_while(tmp_path, monkeypatch):
    for before in ("elsewhere", None):
        monkeypatch.setattr(os, "environ", {} if before is None else {"DCTKD_ZOO_HOME": before})
        with home(tmp_path):
            assert os.environ["DCTKD_ZOO_HOME"] == str(tmp_path)
        assert os.environ.get("DCTKD_ZOO_HOME") == before


@pytest.mark.parametrize("name", ["term-eager", "spectra", "share", "loop", "eval", "store"])
def test_a_row_in_this_process(tiny, name):
    measured = measure(BY_NAME[name], tiny)
    assert measured.values and all(0 < value < math.inf for value in measured.values)
    assert len(measured.ours) == len(measured.theirs) == len(measured.values)


@pytest.mark.parametrize("make", [training.live, training.cached, training.bare])
def test_training_can_go_on(tiny, make):
    work = make(tiny)
    work(), work()


def test_the_released_style_trains(tiny):
    step = released.stepper(tiny)
    pixels, labels = torch.randn(4, 3, 64, 64), torch.arange(4)
    first, second = step(pixels, labels), step(pixels, labels)
    assert 0 < first < math.inf
    assert first != second < math.inf


@pytest.mark.slow
def test_the_released_style_loads_and_trains_in_a_process_of_its_own(tiny):
    with process(released.epochs, tiny, keep_memory=False) as remote:
        remote.warm_up()
        assert remote.measure() > 0


@pytest.mark.slow
def test_the_memory_of_a_store_is_measured_in_a_new_process(tiny):
    measured = measure(BY_NAME["store-memory"], tiny)
    assert len(measured.values) == tiny.slow_rounds
    assert measured.met


def test_growth_is_at_least_what_the_work_adds():
    code = "from benchmarks.harness import orders; print(orders.growth(lambda: b'x' * (50 * 2**20)))"
    # In a process of its own: this one may hold memory that is free and taken first.
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) > 49


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_rows_are_skipped(tiny, capsys):
    measured = measure(BY_NAME["gpu"], tiny)
    assert "GPU" in measured.skipped
    assert measured.met is None
    assert main(["--profile", "gpu"]) == 1
    assert "GPU" in capsys.readouterr().err


def test_a_row_is_told_whole_also_where_it_was_skipped(tiny):
    measured = [measure(BY_NAME[name], tiny) for name in ("spectra", "gpu")]
    document = json.loads(json.dumps(report.document(measured, tiny)))
    there, skipped = document["rows"]
    assert list(there) == list(skipped)
    assert there["median"] == pytest.approx(sum(there["values"]) / 2)
    assert {"device", "cores", "torch", "timm", "date", "commit"} <= set(document["machine"])
    assert document["setting"]["crop"] == 64


def test_the_table_says_whether_the_target_is_met(tiny):
    @contextmanager
    def given(setting):
        yield Comparison("one thing", "another", Given(1.0), Given(4.0), FASTER, MILLISECONDS, rounds=2)

    rows = [Row("met", Target(3), given), Row("missed", Target(5), given), Row("free", None, given)]
    console = Console(width=170)
    with console.capture() as capture:
        console.print(report.table([measure(row, tiny) for row in rows], tiny))
    met, missed, free = (next(line for line in capture.get().splitlines() if f"│ {row.name} " in line) for row in rows)
    assert "yes" in met
    assert "≥ 3 ×" in met
    assert "1,000 : 4,000 ms" in met
    assert " no " in missed
    assert "yes" not in free


@pytest.mark.parametrize("name", ["command", "command-again"])
def test_a_whole_evaluation_needs_real_images(tiny, name):
    assert measure(BY_NAME[name], tiny).skipped == "needs --data with scene15"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # timm leaves its files open
def test_a_whole_evaluation_is_compared_on_the_same_images(tiny, shared, capsys, monkeypatch):
    setting = replace(tiny, data=shared / "data")
    if not (setting.data / "scene15").is_dir():
        pytest.skip("needs the images of 15-Scene")
    with BY_NAME["command-again"].function(setting) as comparison:
        assert isinstance(comparison.ours, Command) and isinstance(comparison.theirs, Command)
        *_, name, folder, data = comparison.theirs.arguments
        assert name == "benchmarks.fixtures.validate"
        kept = sorted(Path(data).rglob("*.jpg"))
        assert len(kept) == 2_974
        for link in kept[:: len(kept) // 6]:  # a few of each, so that it is quick
            few = tiny.folder / "few" / link.parent.name / link.name
            few.parent.mkdir(parents=True, exist_ok=True)
            few.symlink_to(link.resolve())
        monkeypatch.setattr(validate, "WORKERS", 0)
        validate.main(folder, str(tiny.folder / "few"))
    assert "top-1 " in capsys.readouterr().out


def test_growth_is_told_as_a_power():
    assert growth.exponent((10, 100, 1000), (5.0, 1.0, 100.0)) == pytest.approx(2)
    assert math.isnan(growth.exponent((1, 2), (0.0, 1.0)))
    grown = growth.Grown(growth.COSTS[0], (0.1, 1.0, 10.0), (1.0, 2.0, 2.0))
    assert growth.cells(grown)[3:] == ("0.1 / 1 / 10 s", "1 / 2 / 2 MiB", "1.0", "0.0")


@pytest.mark.parametrize("cost", growth.COSTS, ids=lambda cost: f"{cost.name}, {cost.grows_with}")
def test_a_cost_that_grows_can_be_had_at_its_smallest_size(cost):
    cost.work(cost.sizes[0])()


def test_a_profile_names_operators():
    assert "aten::" in Timed(lambda: torch.ones(8) + 1).profile()


def test_a_command_is_told_by_its_imports(tmp_path):
    assert "imported package" in Command(("-c", "import json"), tmp_path).profile()


def test_the_command_writes_what_it_measured(tmp_path, capsys):
    path = tmp_path / "out.json"
    assert main(["--quick", "--only", "import", "--json", str(path)]) == 0
    (row,) = json.loads(path.read_text())["rows"]
    assert row["name"] == "import"
    assert row["unit"] == "s"
    assert len(row["values"]) == len(row["ours"]) == 5
    assert "import dctkd_zoo" in capsys.readouterr().out


def test_an_unknown_row_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--only", "speed"])
    assert "term-eager" in capsys.readouterr().err


def test_the_readme_shows_the_document(tiny):
    rows = [row for row in ROWS if row.name in ("help", "gpu")]
    document = json.loads(as_json(report.document([measure(row, tiny) for row in rows], tiny)))
    before = "# x\n<!-- benchmarks -->\nold\n<!-- /benchmarks -->\nend\n"
    text = report.filled(before, document)
    meta = next(row for row in document["rows"] if row["name"] == "help")
    assert f"| help | python -m train --help |  | ≤ 0.3 s | {report.figure(meta['median'])} s |" in text
    assert f"{document['machine']['date'][:10]}, {document['machine']['device']}" in text
    assert "old" not in text and text.endswith("end\n") and report.filled(text, document) == text
    assert ("Not measured: gpu (torch does not see a GPU)." in text) is not torch.cuda.is_available()
    with pytest.raises(ZooError, match="<!-- benchmarks -->"):
        report.filled("no markers", document)
