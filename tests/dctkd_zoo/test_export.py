"""dctkd_zoo.models.export: what an export holds, and what plain timm makes of it."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch import nn

from dctkd_zoo import models, registry, spec, weights
from dctkd_zoo.device import to_device
from dctkd_zoo.errors import WeightsNotFound
from dctkd_zoo.models import export

ENTRIES = ("r20_synthscenes", "r18_scene15", "mbv2_mit67")
BY_SIZE = sorted(registry.entries().values(), key=lambda e: registry.natural_key(e.arch), reverse=True)
GEOMETRIES = {(e.recipe.resize, e.recipe.crop): e.name for e in BY_SIZE}  # of each the smallest network
ODD = ((300, 200), (201, 333), (257, 257), (131, 400), (90, 91), (640, 427), (41, 40), (32, 33), (500, 129))


def trained(entry):
    """A network whose batch norms have seen something, in training mode and channels last as training leaves it."""
    torch.manual_seed(0)
    model = models.create(entry.arch, registry.get_dataset(entry.dataset).num_classes)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.5, 0.5)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    return to_device(model, torch.device("cpu"))


def export_untrained(name, folder, model=None):
    """Export the entry `name` into a folder, and give the folder back."""
    entry = registry.get_entry(name)
    dataset = registry.get_dataset(entry.dataset)
    classes = tuple(f"class {index}" for index in range(dataset.num_classes))
    export.write(model or trained(entry), entry, dataset, classes, folder)
    return folder


def plain(folder):
    """The network of a folder, as someone with timm alone loads it."""
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


@pytest.fixture(scope="module", params=ENTRIES)
def exported(request, tmp_path_factory):
    """An entry, the network that was exported, and the folder; not to be written to."""
    entry = registry.get_entry(request.param)
    model = trained(entry)
    return entry, model, export_untrained(entry.name, tmp_path_factory.mktemp("exported") / entry.name, model)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with an exported `r8_synthscenes`; not to be written to."""
    return export_untrained("r8_synthscenes", tmp_path_factory.mktemp("small") / "r8")


class TestRoundTrip:
    def test_same_logits_bit_for_bit(self, exported):
        entry, model, folder = exported
        images = torch.randn(2, 3, entry.recipe.crop, entry.recipe.crop, generator=torch.Generator().manual_seed(1))
        again, expected = plain(folder), model.state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in again.state_dict().items())
        images = images.to(memory_format=torch.channels_last)
        with torch.inference_mode():
            assert torch.equal(to_device(again, torch.device("cpu"))(images), model.eval()(images))

    def test_the_exported_network_is_left_as_it_was(self, small, tmp_path):
        model = trained(registry.get_entry("r8_synthscenes"))
        export_untrained("r8_synthscenes", tmp_path, model)
        assert model.training and model.conv1.weight.is_contiguous(memory_format=torch.channels_last)
        assert not model.conv1.weight.is_contiguous() and all(p.requires_grad for p in model.parameters())

    def test_same_network_by_our_own_way(self, exported):
        entry, _, folder = exported
        student = models.create_model(entry.name, pretrained=str(folder))
        teacher = plain(folder).state_dict()
        assert type(student) is type(plain(folder))
        assert all(torch.equal(value, teacher[key]) for key, value in student.state_dict().items())

    @pytest.mark.parametrize("use_test_size", [False, True])
    def test_timm_resolves_the_recipe_s_preprocessing(self, exported, use_test_size):
        entry, _, folder = exported
        dataset, crop = registry.get_dataset(entry.dataset), entry.recipe.crop
        result = resolve_model_data_config(plain(folder), use_test_size=use_test_size)
        assert result == {
            "input_size": (3, crop, crop),
            "interpolation": "bilinear",
            "mean": list(dataset.mean),
            "std": list(dataset.std),
            "crop_pct": crop / entry.recipe.resize,
            "crop_mode": "center",
        }

    def test_features(self, exported):
        _, _, folder = exported
        maps = timm.create_model(f"local-dir:{folder}", pretrained=True, features_only=True)(torch.ones(1, 3, 64, 64))
        assert len(maps) in (3, 5)


class TestPreprocessing:
    @pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
    def test_timm_s_transform_equals_ours(self, tmp_path, geometry):
        name = GEOMETRIES[geometry]
        model = plain(export_untrained(name, tmp_path))
        for use_test_size in (False, True):
            config = resolve_model_data_config(model, use_test_size=use_test_size)
            teacher, student = create_transform(**config), models.create_transform(name)
            for size in ODD:
                image = Image.effect_noise(size, 90).convert("RGB")
                assert torch.equal(teacher(image), student(image)), size

    def test_every_geometry_of_the_catalog_is_among_them(self):
        assert {(256, 224), (128, 112), (40, 40)} <= set(GEOMETRIES)

    def test_timm_gets_any_resize_back(self):
        sides = [(crop, resize) for crop in range(8, 400, 8) for resize in range(crop, 600)]
        assert all(math.floor(crop / spec.crop_pct(crop, resize)) == resize for crop, resize in sides)
        assert math.floor(40 / (40 / 53)) == 52  # why that is not a matter of course

    def test_a_resize_that_floating_point_would_miss(self, tmp_path, monkeypatch):
        entry = registry.get_entry("r8_synthscenes")
        entry = replace(entry, recipe=replace(entry.recipe, resize=53, crop=40))
        monkeypatch.setattr(registry, "get_entry", lambda name: entry)
        teacher = create_transform(**resolve_model_data_config(plain(export_untrained(entry.name, tmp_path))))
        image = Image.effect_noise((300, 201), 90).convert("RGB")
        assert torch.equal(teacher(image), models.create_transform(entry.name)(image))


class TestConfig:
    def test_says_what_the_network_is(self, exported):
        entry, _, folder = exported
        config = json.loads((folder / "config.json").read_text())
        count = registry.get_dataset(entry.dataset).num_classes
        assert config["architecture"] == registry.archs()[entry.arch].timm_name
        assert config["label_names"] == [f"class {index}" for index in range(count)]
        assert config["num_classes"] == config["pretrained_cfg"]["num_classes"] == count
        assert config["dctkd"] == {"name": entry.name, "teacher": entry.teacher, "weights": dict(entry.weights)}
        assert plain(folder).pretrained_cfg["label_names"] == config["label_names"]

    def test_inherits_nothing_from_timm_s_own_weights(self, exported):
        entry, _, folder = exported
        config = json.loads((folder / "config.json").read_text())
        meta = config["pretrained_cfg"]
        assert meta["tag"] == entry.name and meta["paper_ids"] == "arXiv:2205.01997"
        assert not meta.get("origin_url") and not [key for key in meta if key.startswith(("test_", "hf_hub", "url"))]
        text = json.dumps(config)
        assert not [word for word in ("a1_in1k", "ra_in1k", "2110.00476", "0.95", "bicubic", "288") if word in text]

    def test_teacher_and_weights_of_the_terms(self, tmp_path):
        folder = export_untrained("r8_dctkd_synthscenes", tmp_path)
        assert json.loads((folder / "config.json").read_text())["dctkd"]["teacher"] == "r56_synthscenes"


class TestFiles:
    def test_nothing_but_safetensors(self, exported):
        _, model, folder = exported
        assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", "config.json", "model.safetensors"]
        assert load_file(folder / "model.safetensors").keys() == model.state_dict().keys()

    def test_hashes(self, exported):
        _, _, folder = exported
        lines = (folder / "SHA256SUMS").read_text().splitlines()
        assert lines == [
            f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}"
            for name in ("config.json", "model.safetensors")
        ]
        assert weights.is_complete(folder)

    def test_what_lies_beside_stays(self, tmp_path):
        (tmp_path / "recipe.json").write_text("{}")
        export_untrained("r8_synthscenes", tmp_path)
        assert (tmp_path / "recipe.json").read_text() == "{}"


def failing(model: nn.Module, folder: str, **told: object) -> None:
    """A `save_for_hf` that meets a full disk."""
    (Path(folder) / "model.safetensors").write_bytes(b"half of it")
    raise OSError(28, "No space left on device")


class TestCrash:
    def test_previous_files_stay_whole(self, tmp_path, monkeypatch):
        export_untrained("r8_synthscenes", tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
            patched.setattr(export, "save_for_hf", failing)
            export_untrained("r8_synthscenes", tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
        models.create_model("r8_synthscenes", pretrained=str(tmp_path))
        export_untrained("r8_synthscenes", tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(before)

    @pytest.mark.parametrize("step", ["save_for_hf", "write_hashes"])
    def test_first_export_that_fails_is_no_network(self, tmp_path, monkeypatch, step):
        def fail(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(export, step, fail)
        with pytest.raises(OSError, match="No space left"):
            export_untrained("r8_synthscenes", tmp_path / "r8_synthscenes")
        assert not weights.is_complete(tmp_path / "r8_synthscenes")
        monkeypatch.setattr(weights, "BUNDLED", tmp_path / "nowhere")
        with pytest.raises(WeightsNotFound):
            weights.find(registry.get_entry("r8_synthscenes"), tmp_path)
