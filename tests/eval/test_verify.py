"""eval.run.verify and its command: what is compared, and what is told where the teacher or the images are missing."""

import shutil

import pytest

from dctkd_zoo import registry, weights
from dctkd_zoo.__main__ import main
from eval.__main__ import main as evaluate
from eval.run import results_csv
from eval.run import verify as verification
from eval.run.verify import against_teacher, compare, render
from eval.stats.skill import score_of
from tests.world import make, options
from train.__main__ import main as train

RENDERED: list[verification.Verified] = []
TEACHER, NAME = "r14_stripes", "r8_dctkd_kd_stripes"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A world in which a student was trained and its row recorded."""
    world = make(tmp_path_factory.mktemp("world"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCTKD_ZOO_HOME", str(world / "home"))
        patch.setattr(results_csv, "RESULTS", world / "results.csv")
        for command, *named in ((train, TEACHER, NAME), (evaluate, NAME, "--write")):
            patch.setattr(registry, "_MODULES", [])
            registry._bundled_and_included.cache_clear()
            assert command([*named, *options(world, world / "out")]) == 0
    return world


def recorded_render(verified):
    RENDERED.append(verified)
    return render(verified)


@pytest.fixture
def world(recorded, tmp_path, monkeypatch):
    """A copy of it whose student comes with the package."""
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(registry, "_MODULES", [])
    monkeypatch.setattr(weights, "BUNDLED", tmp_path / "bundled")
    monkeypatch.setattr("eval.run.verify.verify.__defaults__", (tmp_path / "results.csv",))
    monkeypatch.setattr(verification, "render", recorded_render)
    RENDERED.clear()
    shutil.copytree(tmp_path / "out" / NAME, tmp_path / "bundled" / NAME)
    registry._bundled_and_included.cache_clear()
    yield tmp_path
    registry._bundled_and_included.cache_clear()


def verify(world, capsys, *named):
    """Status and lines of the command."""
    status = main(["verify", *named, *options(world, world / "out")])
    return status, [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def checks(verdict):
    """Names of the last rendered checks that match (True), do not (False) or were not made (None)."""
    return {check.name for check in RENDERED[-1].checks if check.ok is verdict}


def shown(lines):
    """Names in the table below the summary."""
    return {line.split()[0] for line in lines if "± " in line or line.endswith(" none")}


def test_everything_matches(world, capsys):
    status, lines = verify(world, capsys, "--bundled")
    assert status == 0 and lines[0].startswith(f"{NAME}: all ") and lines[0].endswith(" match") and len(lines) == 1
    assert {"weights_sha256", "teacher_sha256", "top1", "skill.ssim"} <= checks(True)


@pytest.mark.parametrize(("named", "status"), [("--bundled", 0), (NAME, 1)])
def test_without_the_teacher_all_else_is_compared(world, capsys, named, status):
    shutil.rmtree(world / "out" / TEACHER)
    result, lines = verify(world, capsys, named)
    assert result == status, "a name asks for all of it"
    assert f"not compared with its teacher {TEACHER}" in " ".join(lines)
    assert {"weights_sha256", "dataset_digest", "top1", "nll"} <= checks(True)
    unchecked = checks(None)
    assert {"teacher_sha256", "agreement", "ssim", "skill.ssim"} <= unchecked and not unchecked & {"top1", "mca", "ece"}


@pytest.mark.parametrize(("named", "status"), [("--bundled", 0), (NAME, 1)])
def test_without_the_images_the_weights_are_compared(world, capsys, named, status):
    shutil.rmtree(world / "data")
    result, lines = verify(world, capsys, named)
    assert result == status and checks(True) == {"weights_sha256"}
    assert "stripes" in lines[0] and {"n", "top1", "skill.ssim"} <= checks(None)


@pytest.mark.parametrize("lost", ["teacher", "images"])
def test_other_weights_are_a_mismatch_all_the_same(world, capsys, lost):
    shutil.rmtree(world / "out" / TEACHER if lost == "teacher" else world / "data")
    shutil.rmtree(world / "out" / NAME)
    rows = [{**row, "weights_sha256": "0" * 64} for row in results_csv.read(world / "results.csv")]
    (world / "results.csv").write_text(results_csv.as_csv(rows))
    status, lines = verify(world, capsys, "--bundled")
    assert status == 1 and checks(False) == shown(lines) == {"weights_sha256"}


def test_of_several_rows_the_one_of_the_weights_is_compared(world, capsys):
    """Also where only config and weights lie there, as the Hub brings them."""
    rows = results_csv.read(world / "results.csv")
    other = {**rows[0], "teacher_cache": "2", "weights_sha256": "0" * 64, "top1": "1.0"}
    (world / "results.csv").write_text(results_csv.as_csv([other, *rows]))
    shutil.rmtree(world / "out" / NAME)
    for file in (world / "bundled" / NAME).iterdir():
        if file.name not in (weights.CONFIG, weights.WEIGHTS, weights.HASHES):
            file.unlink()
    status, _ = verify(world, capsys, "--bundled")
    assert status == 0 and not checks(False)


def test_a_figure_that_is_gone_is_a_mismatch_unless_it_could_not_be_had():
    row = {"weights_sha256": "a", "top1": "50.0", "skill.ssim.2": "0.5", "cka": "0.5", "skill.energy": "0.1"}
    row |= {"teacher_energy": "0.2", "agreement": "60"}
    found = {"weights_sha256": "a", "top1": "50.1"}

    def verdicts(found, *more):
        return {check.name: check.ok for check in compare(row, found, *more) if check.name in row}

    gone = {"skill.ssim.2", "cka", "skill.energy", "teacher_energy", "agreement"}
    assert verdicts(found) == {"weights_sha256": True, "top1": True, **dict.fromkeys(gone, False)}
    lacking = verdicts(found, against_teacher)
    assert lacking == {**verdicts(found), **dict.fromkeys(gone - {"skill.energy"}, None)}, "energy needs no teacher"
    assert verdicts({**found, "top1": "51"}, against_teacher)["top1"] is False


def test_scores_that_a_row_was_recorded_without_are_not_compared(world, capsys):
    """They came after it. What the row has of a score is compared in full."""
    rows = results_csv.read(world / "results.csv")
    later = [name for name in rows[0] if score_of(name) in ("kl", "agreement_wrong", "iou")]
    assert {"kl", "kl.low", "agreement_wrong", "iou.1", "skill.iou", "skill.iou.low"} <= {*later}
    for gone, status in ((later, 0), (["skill.pearson"], 1)):
        kept = [{name: "" if name in gone else value for name, value in row.items()} for row in rows]
        (world / "results.csv").write_text(results_csv.as_csv(kept))
        assert verify(world, capsys, NAME)[0] == status
        assert checks(None) == set() and checks(False) == (set(gone) if status else set())
        assert not checks(True) & set(gone)


def test_scores_that_an_earlier_version_measured_are_not_checked_and_named(world, capsys):
    rows = results_csv.read(world / "results.csv")
    earlier = {"cosine": "0.9", "skill.cosine.1": "0.5", "chance.centre": "0.1", "top1_ten_crop": "50.0"}
    (world / "results.csv").write_text(results_csv.as_csv([row | earlier for row in rows]))
    status, lines = verify(world, capsys, "--bundled")
    assert status == 0 and lines[0].endswith(
        "4 not checked: this version does not measure centre, cosine, top1_ten_crop"
    )
    assert checks(None) == set(earlier) and not checks(False)


def test_a_note_of_several_lines_is_shown_in_lines():
    """What is missing and how to get it are two lines of an error."""
    entry = registry.get_entry("r20_synthscenes")
    check = verification.Check("top1", "1", "", "", None)
    title = render(verification.Verified(entry, [check], "no folder\x1b\nput it there")).title
    assert str(title).endswith("1 not checked: no folder\\x1b\nput it there")
