"""train.bundle: a finished run becomes a network of the package, in half the bytes where asked."""

import json
import shutil

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from dctkd_zoo import models, registry, weights
from dctkd_zoo.errors import ZooError
from tests.world import make
from train import bundle, checkpoint
from train.__main__ import main as train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    world = make(tmp_path_factory.mktemp("world"))
    where = ["--data", str(world / "data"), "--out", str(world / "out"), "--device", "cpu"]
    assert train(["mbv2_stripes", "--catalog", str(world / "catalog.py"), *where]) == 0
    yield world / "out" / "mbv2_stripes"
    registry._MODULES.pop()
    registry._bundled_and_included.cache_clear()


def test_what_it_is_and_how_it_was_made_comes_along_and_nothing_else(run, tmp_path):
    place = bundle.bundle(run, tmp_path / "mbv2_stripes")
    assert {file.name for file in place.iterdir()} == {*bundle.COPIED, weights.WEIGHTS, weights.HASHES}
    assert weights.from_folder(place, "bundled").sha256 == weights.from_folder(run, "").sha256
    assert [path.name for path in tmp_path.iterdir()] == ["mbv2_stripes"]


def test_half_is_half_as_large_and_loads_as_float32(run, tmp_path):
    path = bundle.bundle(run, tmp_path / "mbv2_stripes", half=True)
    size, whole = ((folder / weights.WEIGHTS).stat().st_size for folder in (path, run))
    assert size < 0.55 * whole
    before, after = (json.loads((folder / "environment.json").read_text()) for folder in (run, path))
    assert after == {**before, "stored": "float16"}
    student = models.load("mbv2", weights.from_folder(path, "bundled"))
    plain = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert {value.dtype for value in student.state_dict().values()} <= {torch.float32, torch.int64}
    with torch.no_grad():
        assert torch.equal(student(images), plain(images))
    kept = load_file(path / weights.WEIGHTS)
    for name, value in load_file(run / weights.WEIGHTS).items():
        if value.ndim < 2:
            assert torch.equal(kept[name], value)
        else:
            assert kept[name].dtype == torch.float16
            assert torch.allclose(kept[name].float(), value, rtol=2**-11, atol=2**-25), "rounded to the nearest"


def test_a_bundled_network_is_replaced(run, tmp_path):
    first = bundle.bundle(run, tmp_path / "mbv2_stripes")
    (first / "old").touch()
    assert not (bundle.bundle(run, tmp_path / "mbv2_stripes", half=True) / "old").exists()


def test_what_float16_cannot_hold_and_what_has_not_ended_is_refused(run, tmp_path, monkeypatch):
    folder = shutil.copytree(run, tmp_path / "run")
    tensors = load_file(folder / weights.WEIGHTS)
    tensors["classifier.weight"][0, 0] = 1e6
    save_file(tensors, folder / weights.WEIGHTS, metadata={"format": "pt"})
    weights.write_hashes(folder)
    with pytest.raises(ZooError, match=r"classifier.weight has values outside the float16 range.*without --half"):
        bundle.bundle(folder, tmp_path / "place", half=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    (folder / checkpoint.STATE).touch()
    with pytest.raises(ZooError, match="does not hold a finished run"):
        bundle.bundle(folder, tmp_path / "place")


def test_the_command_names_the_size_or_what_is_missing(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(weights, "BUNDLED", tmp_path / "bundled")
    assert bundle.main(["mbv2_stripes", "--half", "--out", str(run.parent)]) == 0
    assert capsys.readouterr().out.startswith("mbv2_stripes: 4.")
    assert json.loads((tmp_path / "bundled" / "mbv2_stripes" / "recipe.json").read_text())["name"] == "mbv2_stripes"
    assert bundle.main(["r8_stripes", "--out", str(run.parent)]) == 1
    assert "r8_stripes does not hold a finished run" in capsys.readouterr().err
