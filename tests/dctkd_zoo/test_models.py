"""dctkd_zoo.models: sizes, starting points, loading and what is refused."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

import dctkd_zoo
from dctkd_zoo import models, registry, weights
from dctkd_zoo.errors import CorruptWeights, UnknownEntry, WeightsNotFound
from dctkd_zoo.models import export

# As counted in the released code.
SCENES = {
    "r18": {"ade20k": 11_717_727, "sun397": 11_380_173, "mit67": 11_210_883},
    "r34": {"ade20k": 21_825_887, "sun397": 21_488_333, "mit67": 21_319_043},
    "r50": {"ade20k": 25_669_727, "sun397": 24_321_485, "mit67": 23_645_315},
    "r152": {"ade20k": 60_305_503, "sun397": 58_957_261, "mit67": 58_281_091},
    "mbv2": {"ade20k": 3_575_327, "sun397": 2_732_429, "mit67": 2_309_699},
}
CIFAR = {
    "r8": 83_892,
    "r14": 181_108,
    "r20": 278_324,
    "r32": 472_756,
    "r44": 667_188,
    "r56": 861_620,
    "r110": 1_736_564,
    "r8x4": 1_233_540,
    "r32x4": 7_433_860,
}
META = torch.device("meta")
CIFAR100 = Path(__file__).resolve().parents[2] / "examples" / "catalogs" / "cifar100.py"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache of its own for each test, and no weights anywhere."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(weights, "BUNDLED", tmp_path / "bundled")
    return tmp_path / "home"


@pytest.fixture(scope="module")
def r20(tmp_path_factory):
    """A folder with an exported `r20_synthscenes`; not to be written to."""
    return exported("r20_synthscenes", tmp_path_factory.mktemp("r20"))


@pytest.fixture
def copy(r20, tmp_path):
    """A folder with an exported `r20_synthscenes`, without the hashes that would betray damage."""
    shutil.copytree(r20, tmp_path / "copy")
    (tmp_path / "copy" / weights.HASHES).unlink()
    return tmp_path / "copy"


def exported(name, folder):
    entry = registry.get_entry(name)
    dataset = registry.get_dataset(entry.dataset)
    classes = tuple(f"class {index}" for index in range(dataset.num_classes))
    export.write(models.create(entry.arch, dataset.num_classes), entry, dataset, classes, folder)
    return folder


class TestSize:
    @pytest.mark.parametrize(("arch", "dataset"), [(arch, name) for arch in SCENES for name in SCENES[arch]])
    def test_scene_networks(self, arch, dataset):
        with META:
            model = dctkd_zoo.create_model(f"{arch}_{dataset}")
        assert models.parameters(model) == SCENES[arch][dataset]

    @pytest.mark.parametrize("arch", CIFAR)
    def test_cifar_networks(self, arch):
        with META:
            assert models.parameters(models.create(arch, 100)) == CIFAR[arch]

    @pytest.mark.usefixtures("fresh_registry")
    def test_cifar_entries(self):
        registry.include(CIFAR100)
        names = [name for name in dctkd_zoo.list_models(dataset="cifar100") if registry.get_entry(name).terms == ()]
        assert len(names) > 4
        for name in names:
            with META:
                assert models.parameters(dctkd_zoo.create_model(name)) == CIFAR[registry.get_entry(name).arch]

    def test_issue(self):
        assert models.parameters(dctkd_zoo.create_model("r18_dctkd_ade20k")) == 11_717_727

    def test_every_entry_has_an_architecture(self):
        assert {entry.arch for entry in registry.entries().values()} <= set(registry.archs())


class TestStart:
    @pytest.mark.parametrize(
        ("name", "kind"), [("r18_ade20k", "ResNet"), ("mbv2_mit67", "EfficientNet"), ("r20_synthscenes", "ResNetCifar")]
    )
    def test_plain_timm_in_eval_mode(self, name, kind):
        model = dctkd_zoo.create_model(name)
        assert type(model).__name__ == kind and not any(module.training for module in model.modules())
        assert type(model) is type(timm.create_model(registry.archs()[registry.get_entry(name).arch].timm_name))

    @pytest.mark.parametrize(("arch", "last"), [("r18", "bn2"), ("r50", "bn3")])
    def test_no_branch_starts_at_zero(self, arch, last):
        model = models.create(arch, 5)
        norms = [module for name, module in model.named_modules() if name.endswith(f".{last}")]
        assert len(norms) in (8, 16)
        assert all((norm.weight == 1).all() for norm in norms)
        own = timm.create_model(registry.archs()[arch].timm_name, num_classes=5).state_dict()
        assert (own[f"layer1.0.{last}.weight"] == 0).all()  # timm's way, were it not told

    def test_mobilenet_drops_out_in_training(self):
        with META:
            model = models.create("mbv2", 5)
        assert model.drop_rate == 0.2 and model.training

    def test_another_number_of_classes(self):
        with META:
            model = dctkd_zoo.create_model("r18_ade20k", num_classes=3)
        assert model.num_classes == len(model.state_dict()["fc.weight"]) == 3

    def test_from_timm_weights(self, monkeypatch):
        asked: list[tuple[str, str]] = []

        def from_hub(*path: str) -> None:
            asked.append((path[0], path[1]))

        monkeypatch.setattr(weights, "from_hub", from_hub)
        models.start(registry.get_entry("r50_ade20k"))
        assert asked == [("timm/resnet50.tv_in1k", "main")]
        assert models.start(registry.get_entry("r18_ade20k")) is None and len(asked) == 1

    def test_a_tag_that_timm_does_not_have(self):
        entry = registry.get_entry("r50_ade20k")
        wrong = replace(entry, recipe=replace(entry.recipe, pretrained="tv_in2k"))
        with pytest.raises(
            WeightsNotFound, match=r"starts from 'tv_in2k', but timm's weights for resnet50 are .*tv_in1k"
        ):
            models.start(wrong)

    @pytest.mark.parametrize("name", ["el0_scene15.px224", "el2_scene15", "el0_miniplaces12k", "mnv4_miniplaces12k"])
    def test_networks_that_start_from_imagenet_are_plain_timm(self, name):
        entry = registry.get_entry(name)
        model = dctkd_zoo.create_model(name).eval()
        own = timm.create_model(registry.archs()[entry.arch].timm_name, num_classes=model.num_classes)
        assert type(model) is type(own) and model.state_dict().keys() == own.state_dict().keys()
        assert model.num_classes == registry.get_dataset(entry.dataset).num_classes
        with torch.no_grad():
            assert model(torch.zeros(1, 3, entry.recipe.crop, entry.recipe.crop)).shape == (1, model.num_classes)
        assert dctkd_zoo.create_transform(name)(Image.new("RGB", (300, 260))).shape == (3,) + (entry.recipe.crop,) * 2

    def test_the_classifier_for_photographs_sees_224_px(self):
        recipe = registry.get_entry("el0_scene15.px224").recipe
        assert (recipe.resize, recipe.crop, recipe.pretrained) == (256, 224, "in1k")

    @pytest.mark.parametrize("crop", [112, 224])
    def test_a_vit_is_built_for_the_size_of_its_recipe(self, crop):
        with torch.no_grad():
            assert models.create("vit", 5, crop).eval()(torch.zeros(1, 3, crop, crop)).shape == (1, 5)

    def test_unknown_name(self):
        with pytest.raises(UnknownEntry, match="did you mean r18_dctkd_ade20k"):
            dctkd_zoo.create_model("r18_dctdk_ade20k")


class TestTransform:
    def test_recipe_of_the_paper(self):
        dataset = registry.get_dataset("ade20k")
        expected = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize(dataset.mean, dataset.std),
            ]
        )
        transform = dctkd_zoo.create_transform("r18_dctkd_ade20k")
        for size in ((300, 201), (201, 300), (257, 500), (99, 98)):
            image = Image.radial_gradient("L").resize(size).convert("RGB")
            assert torch.equal(transform(image), expected(image))

    def test_grey_image(self):
        assert dctkd_zoo.create_transform("r18_scene15")(Image.new("L", (200, 150))).shape == (3, 112, 112)


class TestPretrained:
    def test_nothing_anywhere(self, home):
        with pytest.raises(WeightsNotFound, match="`python -m train r18_dctkd_ade20k`") as caught:
            dctkd_zoo.create_model("r18_dctkd_ade20k", pretrained=True)
        assert "DCTKD_ZOO_HOME" in str(caught.value) and "publish" in str(caught.value)
        assert str(home / "checkpoints") in str(caught.value)

    def test_trained_on_this_machine(self, r20, home, caplog):
        shutil.copytree(r20, home / "checkpoints" / "r20_synthscenes")
        with caplog.at_level(logging.INFO, "dctkd_zoo"):
            model = dctkd_zoo.create_model("r20_synthscenes", pretrained=True)
        assert "trained on this machine" in caplog.text
        assert not any(module.training for module in model.modules())
        assert same(model, dctkd_zoo.create_model("r20_synthscenes", pretrained=str(r20)))
        assert not same(model, dctkd_zoo.create_model("r20_synthscenes"))

    def test_another_number_of_classes_is_said(self, r20, caplog):
        model = dctkd_zoo.create_model("r20_synthscenes", pretrained=str(r20), num_classes=7)
        assert "7 classes instead of 12, the new head is untrained" in caplog.text
        assert model.num_classes == len(model.state_dict()["fc.weight"]) == 7
        assert not any(module.training for module in model.modules())
        body = dctkd_zoo.create_model("r20_synthscenes", pretrained=str(r20))
        key = "layer3.0.conv1.weight"
        assert torch.equal(model.state_dict()[key], body.state_dict()[key])

    def test_own_number_of_classes_keeps_the_head(self, r20, caplog):
        model = dctkd_zoo.create_model("r20_synthscenes", pretrained=str(r20), num_classes=12)
        assert caplog.text == ""
        assert same(model, dctkd_zoo.create_model("r20_synthscenes", pretrained=str(r20)))

    @pytest.mark.usefixtures("fresh_registry")
    def test_weights_of_another_number_of_classes_have_to_be_asked_for(self, r20):
        registry.include(CIFAR100)
        with pytest.raises(WeightsNotFound, match=r"r20_cifar100 has 100 classes, .* 12: pass num_classes"):
            dctkd_zoo.create_model("r20_cifar100", pretrained=str(r20))
        model = dctkd_zoo.create_model("r20_cifar100", pretrained=str(r20), num_classes=12)
        assert same(model, dctkd_zoo.create_model("r20_synthscenes", pretrained=str(r20)))

    def test_wrong_architecture(self, r20):
        with pytest.raises(CorruptWeights, match="holds a resnet20_cifar, not a resnet56_cifar"):
            dctkd_zoo.create_model("r56_synthscenes", pretrained=str(r20))

    def test_no_such_folder(self, tmp_path):
        with pytest.raises(WeightsNotFound, match=r"nowhere: no config\.json and model\.safetensors there"):
            dctkd_zoo.create_model("r20_synthscenes", pretrained=str(tmp_path / "nowhere"))

    @pytest.mark.parametrize("damage", [b"\0" * 100, b"", b"random bytes that are no header" * 99])
    def test_no_safetensors(self, copy, damage):
        (copy / weights.WEIGHTS).write_bytes(damage)
        with pytest.raises(CorruptWeights, match=r"model\.safetensors"):
            dctkd_zoo.create_model("r20_synthscenes", pretrained=str(copy))

    def test_truncated(self, copy):
        path = copy / weights.WEIGHTS
        path.write_bytes(path.read_bytes()[:-8])
        with pytest.raises(CorruptWeights, match=r"model\.safetensors"):
            dctkd_zoo.create_model("r20_synthscenes", pretrained=str(copy))

    def test_weights_of_another_network_under_this_config(self, copy, tmp_path):
        shutil.copy(exported("r8_synthscenes", tmp_path / "r8") / weights.WEIGHTS, copy)
        with pytest.raises(CorruptWeights, match=r"(?s)model\.safetensors.*Missing key"):
            dctkd_zoo.create_model("r20_synthscenes", pretrained=str(copy))

    def test_damaged_config(self, copy):
        (copy / weights.CONFIG).write_text('{"architecture": "resnet20_ci')
        with pytest.raises(CorruptWeights, match=r"config\.json"):
            dctkd_zoo.create_model("r20_synthscenes", pretrained=str(copy))

    def test_nothing_is_unpickled(self, copy, monkeypatch):
        torch.save(models.create("r20", 12).state_dict(), copy / "pytorch_model.bin")
        monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
        dctkd_zoo.create_model("r20_synthscenes", pretrained=str(copy))
        (copy / weights.WEIGHTS).unlink()
        with pytest.raises(WeightsNotFound, match="only safetensors can be loaded"):
            dctkd_zoo.create_model("r20_synthscenes", pretrained=str(copy))


class TestArguments:
    def test_a_path_is_a_folder(self, r20):
        assert same(
            dctkd_zoo.create_model("r20_synthscenes", pretrained=r20),
            dctkd_zoo.create_model("r20_synthscenes", pretrained=f"local-dir:{r20}"),
        )

    def test_none_is_no_weights(self):
        torch.manual_seed(0)
        one = dctkd_zoo.create_model("r20_synthscenes", pretrained=None)
        torch.manual_seed(0)
        assert same(one, dctkd_zoo.create_model("r20_synthscenes"))

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("", "give a folder, or hf-hub:ORG/NAME"),
            ("me/net", "no such folder; for a repository on the Hub, write hf-hub:me/net"),
            ("a\0b", "only safetensors can be loaded"),
            ("x" * 5000, "only a folder of safetensors can be loaded"),
            ("~nobody-of-that-name/net", "only a folder of safetensors can be loaded"),
            (weights.BUNDLED / "r20_synthscenes" / "model.safetensors", "is a file: give the folder"),
            (weights.BUNDLED, r"no config\.json and model\.safetensors there"),
            ("hf-hub:me/net@a b", "'a b' is not a branch, tag or commit"),
            ("hf_hub:me/net@a b", "'a b' is not a branch, tag or commit"),
        ],
    )
    def test_sources_that_are_none(self, source, words):
        with pytest.raises(WeightsNotFound, match=words):
            dctkd_zoo.create_model("r20_synthscenes", pretrained=source)

    @pytest.mark.parametrize("value", [1, b"folder", 2.0, ["folder"]])
    def test_other_kinds_of_source(self, value):
        with pytest.raises(
            TypeError, match=r"pretrained is .* but should be True, False, a folder or 'hf-hub:ORG/NAME'"
        ):
            dctkd_zoo.create_model("r20_synthscenes", pretrained=value)

    @pytest.mark.parametrize("pretrained", [True, False])
    def test_no_head(self, r20, pretrained, caplog):
        source = r20 if pretrained else False
        model = dctkd_zoo.create_model("r20_synthscenes", pretrained=source, num_classes=0)
        images = torch.randn(2, 3, 40, 40)
        with torch.no_grad():
            assert torch.equal(model(images), model.forward_head(model.forward_features(images), pre_logits=True))  # type: ignore[operator]
        assert ("the head is removed" in caplog.text) is pretrained

    @pytest.mark.parametrize("pretrained", [True, False])
    def test_numbers_of_classes_that_are_none(self, pretrained):
        for value in (-1, 10**9):
            with pytest.raises(
                ValueError, match=f"num_classes is {value:,} but should be from 0 \\(no head\\) to 1,000,000"
            ):
                dctkd_zoo.create_model("r20_synthscenes", pretrained=pretrained, num_classes=value)
        for wrong in (True, 3.0, "3"):
            with pytest.raises(TypeError, match=r"num_classes is .* but should be a whole number"):
                dctkd_zoo.create_model("r20_synthscenes", pretrained=pretrained, num_classes=wrong)  # type: ignore[arg-type]


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same tensors, bit for bit."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
