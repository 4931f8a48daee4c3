"""`python -m eval FILE.onnx`, and ONNX files of a folder that is published."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch

from dctkd_zoo import registry, weights
from dctkd_zoo.__main__ import main as zoo
from dctkd_zoo.cli.export import find
from dctkd_zoo.errors import ZooError
from eval import publish
from eval.__main__ import main
from eval.pages import readme
from eval.run import exported
from eval.run.config import EvalConfig
from eval.run.exported import Measured

onnx = pytest.importorskip("onnx", reason="of the extra dctkd-zoo[onnx]")
pytest.importorskip("onnxscript", reason="of the extra dctkd-zoo[onnx]")
pytest.importorskip("onnxruntime", reason="of the extra dctkd-zoo[onnx]")

from dctkd_zoo.onnx.export import Form, to_onnx  # noqa: E402  needs the extra

NAME = "r20_dctkd_synthscenes"
GOOD = Measured("", 100, 90.0, 100.0, 0.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file with maps, and one without."""
    folder = tmp_path_factory.mktemp("files")
    for maps in (True, False):
        to_onnx(find(NAME)[0], Form(maps=maps), folder / f"{'maps' if maps else 'logits'}.onnx")
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_a_file_has_the_row_of_its_network(files, tmp_path, capsys):
    assert main([NAME, "--limit", "240", "--json", "torch.json", "--teacher", NAME]) == 0
    paths = [str(files / "maps.onnx"), str(files / "logits.onnx")]
    capsys.readouterr()
    assert main([*paths, "--limit", "240", "--json", "onnx.json"]) == 0
    printed = capsys.readouterr().out
    (expected,) = (record["row"] for record in json.loads((tmp_path / "torch.json").read_text())["entries"])
    rows = [record["row"] for record in json.loads((tmp_path / "onnx.json").read_text())["entries"]]
    assert [row["name"] for row in rows] == paths
    for row in rows:
        assert row["n"] == 240 and row["agreement"] == 100 and row["kl"] < 1e-6 and row["teacher"] == NAME
        for name in ("top1", "top5", "mca", "nll", "ece", "parameters"):
            assert row[name] == pytest.approx(expected[name], rel=1e-4), name
        assert re.search(r"1\.\d\d MB, \d+\.\d\d ms per image on (1 thread|[2-9] threads)\b", row["note"])
    maps, logits = rows
    for name in ("ssim", "ssim.1", "ssim.3", "chance.ssim", "skill.ssim", "pearson"):
        assert maps[name] == pytest.approx(expected[name], abs=1e-3), name
    assert not any(name in row for row in rows for name in ("cka", "class_map"))
    assert "ssim" not in logits and "no metrics of maps: exported without --maps" in logits["note"]
    assert "SSIM" in printed


def test_without_the_torch_network_only_labels_are_compared(files, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "BUNDLED", tmp_path / "nowhere")
    assert main([str(files / "logits.onnx"), "--limit", "24", "--json", "onnx.json"]) == 0
    (row,) = (record["row"] for record in json.loads((tmp_path / "onnx.json").read_text())["entries"])
    assert row["n"] == 24 and "agreement" not in row and "not compared with its torch network" in row["note"]


def test_a_file_of_no_entry_is_refused(files, tmp_path, capsys):
    proto = onnx.load(files / "logits.onnx")
    facts = {item.key: item.value for item in proto.metadata_props}
    proto.ClearField("metadata_props")
    onnx.helper.set_model_props(proto, {**facts, "name": "r20_elsewhere"})
    onnx.save(proto, tmp_path / "model.onnx")
    assert main(["model.onnx"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: model.onnx: a network of r20_elsewhere, which is no entry")


@pytest.mark.parametrize("content", [None, b"no protobuf"])
def test_what_is_no_file_of_onnx_is_one_line(content, tmp_path, capsys):
    if content:
        (tmp_path / "model.onnx").write_bytes(content)
    assert main(["model.onnx"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: model.onnx: ")


@pytest.mark.parametrize("more", [["--write"], ["--sanity"], ["--report", "page"], [NAME], ["--protocol", "objects"]])
def test_options_that_files_are_evaluated_without(more, capsys):
    with pytest.raises(SystemExit) as end:
        main(["model.onnx", *more])
    assert end.value.code == 2 and f"leave out {' '.join(more[:1])}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"top1": 89.0}, ""),
        ({"top1": 88.9}, "1.10 points below the 90.00 % of the torch network; 1 are tolerated"),
        ({"top1": 99.0}, ""),
        ({"top1": None}, ""),
        ({"difference": float("nan")}, "its logits are not finite"),
        ({"difference": float("inf"), "top1": None}, "its logits are not finite"),
    ],
)
def test_what_a_file_may_lose(changes, wrong):
    result = exported.lost(replace(GOOD, **changes), GOOD, tolerance=1)
    assert result.endswith(wrong) and bool(result) == bool(wrong)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A run folder with ONNX files."""
    folder = tmp_path_factory.mktemp("run") / NAME
    shutil.copytree(weights.BUNDLED / NAME, folder)
    assert zoo(["export", str(folder), "--out", str(folder), "--limit", "48"]) == 0
    return folder


class TestPublishing:
    """Checks of a run folder with ONNX files, and what is uploaded."""

    @pytest.fixture
    def folder(self, original, tmp_path):
        shutil.copytree(original, tmp_path / "out" / NAME)
        return tmp_path / "out" / NAME

    def problems(self, folder):
        where = EvalConfig(None, torch.device("cpu"), folder.parent)
        return [
            problem for problem in publish.plan(registry.get_entry(NAME), "acme", where).problems if "onnx" in problem
        ]

    def change(self, folder, **facts):
        path = folder / "onnx" / "evaluation.json"
        content = json.loads(path.read_text())
        content["files"]["model.onnx"] |= facts
        path.write_text(json.dumps(content))

    def test_they_are_uploaded_and_on_the_card(self, folder, original):
        assert (folder / weights.CONFIG).read_bytes() == (weights.BUNDLED / NAME / weights.CONFIG).read_bytes()
        config = EvalConfig(None, torch.device("cpu"), folder.parent, limit=48)
        entry = registry.get_entry(NAME)
        with publish.assembled(publish.Plan(entry, "acme/r20", folder), config) as upload:
            for name in ("model.onnx", "model_fp16.onnx", "evaluation.json"):
                assert (upload / "onnx" / name).read_bytes() == (original / "onnx" / name).read_bytes()
            assert (upload / "preprocessor_config.json").is_file()
            assert json.loads((upload / weights.CONFIG).read_text())["id2label"]["0"] == "bars+crescent+cross"
            weights.from_folder(upload, "given folder")  # hashes are of what is uploaded
            card = (upload / "README.md").read_text(encoding="utf-8")
        assert re.search(r"^\| `onnx/model\.onnx` \| \d\d\.\d\d \| 100\.00 \| 1\.10 \|$", card, re.M)

    def test_good_ones_are_no_problem(self, folder):
        assert self.problems(folder) == []

    def test_another_file(self, folder):
        (folder / "onnx" / "model_quantized.onnx").write_bytes(b"another")
        (problem,) = self.problems(folder)
        assert "model_quantized.onnx: not the file that evaluation.json is about" in problem

    def test_other_weights(self, folder):
        (folder / weights.HASHES).write_text("0" * 64 + "  model.safetensors\n")
        with pytest.raises(ZooError, match="made of other weights"):
            exported.check(folder)

    @pytest.mark.parametrize(
        ("facts", "words"),
        [
            ({"top1": 20.0}, "top-1 is 20.00 % on 48 test images"),
            ({"top1": None}, "not evaluated on test images"),
            ({"more": 1}, "unexpected keyword argument 'more'"),
        ],
    )
    def test_an_evaluation_that_is_not_good(self, folder, facts, words):
        self.change(folder, **facts)
        (problem,) = self.problems(folder)
        assert words in problem

    def test_no_evaluation(self, folder):
        (folder / "onnx" / "evaluation.json").unlink()
        (problem,) = self.problems(folder)
        assert "no evaluation.json" in problem


def test_measurements_are_recorded_by_entry_and_shown_for_the_bundled_weights(tmp_path, monkeypatch):
    path = tmp_path / "exports.json"
    small = {"mb": 0.3301, "top1": 89.1667, "latency_ms": 0.44}
    files = {"model.onnx": {**small, "top1": 89.3333, "latency_ms": 0.88}, "model_quantized.onnx": small}
    sha256 = weights.read_hashes(weights.BUNDLED / "r20_dctkd_synthscenes")[weights.WEIGHTS]
    exported.record("r20_dctkd_synthscenes", {"weights_sha256": sha256, "files": files}, path)
    exported.record("r8_synthscenes", {"weights_sha256": "0", "files": {}}, path)
    exported.record("r20_synthscenes", {"weights_sha256": "of other weights", "files": files}, path)
    assert [*exported.recorded(path)] == ["r8_synthscenes", "r20_dctkd_synthscenes", "r20_synthscenes"]
    assert exported.recorded(tmp_path / "none.json") == {}
    known = exported.recorded(path)
    monkeypatch.setattr(exported, "recorded", lambda: known)
    lines = [[cell.strip(" `") for cell in line.split("|")] for line in str(readme.models([])).splitlines()]
    rows = {cells[1]: cells[6:9] for cells in lines}
    assert rows["r20_dctkd_synthscenes"] == ["0.3 MB", "89.17", "0.9, 0.4"]
    assert rows["r20_synthscenes"] == rows["r56_synthscenes"] == ["–", "–", "–"]
