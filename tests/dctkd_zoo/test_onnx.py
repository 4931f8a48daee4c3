"""`export`: the files against the torch network they are made of, what they say of themselves, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import dctkd_zoo
from dctkd_zoo import models, registry, weights
from dctkd_zoo.__main__ import main
from dctkd_zoo.attention import activation_map
from dctkd_zoo.cli.export import find
from dctkd_zoo.device import fp32_inference
from dctkd_zoo.errors import CorruptFile, UnsupportedNetwork, ZooError
from dctkd_zoo.features import FeatureExtractor
from dctkd_zoo.models.export import write
from dctkd_zoo.onnx import session
from dctkd_zoo.onnx.export import Form, Network, read_program, to_int8, to_onnx, to_program, with_labels
from dctkd_zoo.weights import Weights

onnx = pytest.importorskip("onnx", reason="of the extra dctkd-zoo[onnx]")
pytest.importorskip("onnxscript", reason="of the extra dctkd-zoo[onnx]")
runtime = pytest.importorskip("onnxruntime", reason="of the extra dctkd-zoo[onnx]")

ROOT = Path(__file__).resolve().parents[2]
NAME = "r20_dctkd_synthscenes"
PHOTOS = sorted((ROOT / "examples").glob("*.jpg"))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def network_of(name: str, folder: Path) -> Network:
    """An entry with its bundled weights, or with untrained ones in a folder."""
    if weights.is_complete(weights.BUNDLED / name):
        return find(name)[0]
    entry = registry.get_entry(name)
    dataset = registry.get_dataset(entry.dataset)
    torch.manual_seed(0)
    model = models.create(entry.arch, dataset.num_classes).eval()
    write(model, entry, dataset, tuple(f"class {k}" for k in range(dataset.num_classes)), folder / name)
    return find(str(folder / name))[0]


def photographs(network: Network, count: int) -> torch.Tensor:
    """Crops of the photographs in examples/, as the network takes them."""
    return crops(network, count, normalize=True)


def crops(network: Network, count: int, normalize: bool) -> torch.Tensor:
    transform = timm.data.create_transform(
        **timm.data.resolve_model_data_config(network.model), is_training=False, normalize=normalize
    )
    pictures = (Image.open(PHOTOS[k % len(PHOTOS)]).convert("RGB").rotate(7 * k) for k in range(count))
    return torch.stack([transform(picture) for picture in pictures])


@pytest.fixture(scope="module")
def r20(tmp_path_factory):
    """The float32 file of a bundled network, with maps."""
    network, path = find(NAME)[0], tmp_path_factory.mktemp("r20") / "model.onnx"
    to_onnx(network, Form(maps=True), path)
    return network, path


@pytest.mark.parametrize("name", [NAME, "mbv2_dctkd_kd_scene15", "el0_scene15.px224", "r18_dctkd_kd_scene15"])
def test_an_onnx_file_has_the_logits_and_maps_of_the_torch_network(name, tmp_path):
    network = network_of(name, tmp_path)
    to_onnx(network, Form(maps=True), tmp_path / "model.onnx")
    file, extractor = session.load(tmp_path / "model.onnx"), FeatureExtractor(network.model)
    images = photographs(network, 17)
    for batch in (images[:1], images):
        with fp32_inference():
            expected = extractor(batch)
        logits, *maps = file.run(batch)
        np.testing.assert_allclose(logits, expected.logits.numpy(), atol=1e-4)
        assert len(maps) == len(expected.maps) > 2
        for own, features in zip(maps, expected.maps, strict=True):
            answer = activation_map(features).numpy()
            assert own.shape == answer.shape
            np.testing.assert_allclose(own, answer, atol=1e-5 * answer.max())
        output = file(batch)
        for root, features in zip(output.maps, expected.maps, strict=True):
            torch.testing.assert_close(activation_map(root), activation_map(features), rtol=1e-4, atol=1e-5)


def test_names_shapes_and_types_are_those_that_others_build_on(r20):
    _, path = r20
    file = runtime.InferenceSession(path)
    (pixel_values,) = file.get_inputs()
    assert (pixel_values.name, pixel_values.type, pixel_values.shape[1:]) == (
        "pixel_values",
        "tensor(float)",
        [3, 40, 40],
    )
    assert isinstance(pixel_values.shape[0], str)  # batches of any size
    assert [output.name for output in file.get_outputs()] == ["logits", "map_1", "map_2", "map_3"]
    assert {output.type for output in file.get_outputs()} == {"tensor(float)"}
    assert [output.shape[1:] for output in file.get_outputs()] == [[12], [40, 40], [20, 20], [10, 10]]


def test_metadata_are_those_of_the_weights(r20):
    _, path = r20
    facts = runtime.InferenceSession(path).get_modelmeta().custom_metadata_map
    config = timm.data.resolve_model_data_config(models.create_model(NAME, pretrained=True))
    assert facts["name"] == NAME and facts["license"] == "apache-2.0" and facts["interpolation"] == "bilinear"
    assert json.loads(facts["class_names"]) == weights.read_config(weights.BUNDLED / NAME)["label_names"]
    for name in ("mean", "std", "input_size"):
        assert tuple(json.loads(facts[name])) == tuple(config[name])
    assert json.loads(facts["crop_pct"]) == config["crop_pct"] and json.loads(facts["resize"]) == 40
    assert facts["weights_sha256"] == weights.find(registry.get_entry(NAME)).sha256
    assert json.loads(facts["parameters"]) == 272_604


def test_no_path_of_this_machine_is_in_a_file(r20, tmp_path):
    network, path = r20
    to_program(network, Form(), tmp_path / "model.pt2")
    for file in (path, tmp_path / "model.pt2"):
        content = file.read_bytes()
        assert not any(str(folder).encode() in content for folder in (ROOT, Path(torch.__file__).parents[1], tmp_path))


def test_pixels_are_normalised_in_the_graph(r20, tmp_path):
    network, path = r20
    to_onnx(network, Form(uint8=True), tmp_path / "image.onnx")
    images = photographs(network, 5)
    file = session.load(tmp_path / "image.onnx")
    pixels = crops(network, 5, normalize=False).permute(0, 2, 3, 1).contiguous()
    assert file.input == "image" and not file.has_maps and pixels.dtype == torch.uint8
    assert torch.equal(file.feed(images), pixels)
    (logits,) = file.run(pixels)
    np.testing.assert_allclose(logits, session.load(path).run(images)[0], atol=1e-4)


def test_float16_is_inside_only(r20, tmp_path):
    network, path = r20
    half = tmp_path / "half.onnx"
    to_onnx(network, Form(maps=True, half=True), half)
    assert half.stat().st_size < 0.55 * path.stat().st_size
    images = photographs(network, 5)
    for own, expected in zip(session.load(half).run(images), session.load(path).run(images), strict=True):
        assert own.dtype == np.float32
        np.testing.assert_allclose(own, expected, atol=0.01 * np.abs(expected).max())
    assert next(network.model.parameters()).dtype == torch.float32  # the network itself is as before


def test_int8_is_per_channel_and_keeps_names_and_metadata(r20, tmp_path):
    network, path = r20
    to_int8(path, tmp_path / "int8.onnx", [photographs(network, 8)])
    graph = onnx.load(tmp_path / "int8.onnx").graph
    values = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    kernels = [
        n for n in graph.node if n.op_type == "DequantizeLinear" and values.get(n.input[0], np.zeros(())).ndim == 4
    ]
    assert len(kernels) == 21
    assert all(values[n.input[0]].dtype == np.int8 for n in kernels)
    assert all(values[n.input[1]].shape == values[n.input[0]].shape[:1] for n in kernels)
    own, exact = session.load(tmp_path / "int8.onnx"), session.load(path)
    assert own.facts == exact.facts and own.path.stat().st_size < 0.35 * path.stat().st_size
    images = photographs(network, 5)
    for quantised, expected in zip(own.run(images), exact.run(images), strict=True):
        assert quantised.shape == expected.shape
        assert 0 < np.abs(quantised - expected).max() < 0.2 * np.abs(expected).max()


@pytest.mark.parametrize("uint8", [False, True])
def test_a_program_of_torch_export_is_the_network(uint8, tmp_path):
    network = find(NAME)[0]
    to_program(network, Form(uint8=uint8), tmp_path / "model.pt2")
    program, facts = read_program(tmp_path / "model.pt2")
    assert facts["name"] == NAME
    for count in (1, 17):
        images = photographs(network, count)
        (logits,) = program(session.pixels(images, (0.5,) * 3, (0.25,) * 3) if uint8 else images)
        with torch.no_grad():
            torch.testing.assert_close(logits, network.model(images), rtol=0, atol=1e-4)


def test_openvino_reads_the_same_file(r20):
    openvino = pytest.importorskip("openvino", reason="not a dependency: docs/deployment.md has a recipe for it")
    network, path = r20
    images = photographs(network, 3).numpy()
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result = compiled({"pixel_values": images})
    np.testing.assert_allclose(result["logits"], session.load(path).run(torch.from_numpy(images))[0], atol=1e-4)


def test_a_config_with_labels_still_loads_in_timm(tmp_path):
    shutil.copytree(weights.BUNDLED / NAME, tmp_path / "r20")
    config = weights.read_config(tmp_path / "r20")
    (tmp_path / "r20" / weights.CONFIG).write_text(json.dumps(with_labels(config, config["label_names"])))
    model = timm.create_model(f"local-dir:{tmp_path / 'r20'}", pretrained=True).eval()
    image = torch.randn(1, 3, 40, 40)
    torch.testing.assert_close(model(image), models.create_model(NAME, pretrained=True)(image))


def test_the_command_writes_and_evaluates_all_files(tmp_path, capsys):
    assert main(["export", NAME, "--int8", "--out", "out", "--limit", "240"]) == 0
    printed = capsys.readouterr().out
    assert "240 test images" in printed
    assert {p.name for p in (tmp_path / "out" / "onnx").iterdir()} == {
        *("model.onnx", "model_fp16.onnx", "model_quantized.onnx", "evaluation.json")
    }
    found = json.loads((tmp_path / "out" / "onnx" / "evaluation.json").read_text())
    torch_row, files = found["torch"], found["files"]
    assert torch_row["top1"] > 85 and torch_row["n"] == 240
    assert files["model.onnx"]["agreement"] == 100 and files["model.onnx"]["difference"] < 1e-4
    assert files["model_fp16.onnx"]["agreement"] > 99
    assert files["model_quantized.onnx"]["agreement"] > 98
    assert abs(files["model_quantized.onnx"]["top1"] - torch_row["top1"]) <= 1
    for name, facts in files.items():
        assert re.search(rf"^{name} .* {facts['top1']:.2f} ", printed, re.M)
    prepared = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert prepared["size"] == {"shortest_edge": 40} and prepared["resample"] == Image.Resampling.BILINEAR
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert [config["id2label"][str(k)] for k in range(12)] == config["label_names"]

    # Without int8, the int8 file of before is not one of these.
    assert main(["export", NAME, "--out", "out", "--limit", "12"]) == 0
    assert not (tmp_path / "out" / "onnx" / "model_quantized.onnx").exists()


def unbalanced(folder: Path) -> None:
    """Rescale channels so that the network computes the same, but one of 16 has 1000 times the range of the others."""
    path = folder / weights.WEIGHTS
    state = load_file(path)
    for block in (name.removesuffix("bn1.weight") for name in list(state) if re.fullmatch(r"layer.*bn1\.weight", name)):
        state[f"{block}bn1.weight"][0] *= 1000  # ReLU passes a positive factor on to the next convolution
        state[f"{block}bn1.bias"][0] *= 1000
        state[f"{block}conv2.weight"][:, 0] /= 1000
    save_file(state, path, {"format": "pt"})
    weights.write_hashes(folder)


def test_int8_that_loses_accuracy_is_not_kept(tmp_path, capsys):
    folder = tmp_path / "r20"
    shutil.copytree(weights.BUNDLED / NAME, folder)
    unbalanced(folder)
    assert main(["export", str(folder), "--int8", "--out", "out", "--limit", "240"]) == 1
    message = capsys.readouterr().err
    assert re.search(r"error: model_quantized\.onnx: top-1 is .* % on 240 test images, .* below .*not kept", message)
    assert sorted(p.name for p in (tmp_path / "out" / "onnx").iterdir()) == [
        *("evaluation.json", "model.onnx", "model_fp16.onnx")
    ]
    found = json.loads((tmp_path / "out" / "onnx" / "evaluation.json").read_text())
    assert "model_quantized.onnx" not in found["files"] and found["files"]["model.onnx"]["agreement"] == 100


def test_without_test_images_only_differences_on_noise_are_given(tmp_path, capsys):
    network = network_of("r20_cifar100.mdistiller", tmp_path)
    assert main(["export", str(network.weights.folder), "--out", "out"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "No test images, so accuracy was not measured" in printed and "data fetch cifar100" in printed
    found = json.loads((tmp_path / "out" / "onnx" / "evaluation.json").read_text())["files"]["model.onnx"]
    assert found["top1"] is None and found["difference"] < 1e-4


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["mbv2_dctkd_kd_scene15", "--int8"], 1, "--int8 needs training images to calibrate on: .*scene15"),
        ([NAME, "--format", "pt2", "--int8"], 2, "--int8 is for --format onnx, not pt2"),
        (["r20_dctkd_synthscene"], 2, "r20_dctkd_synthscenes"),
        (["nowhere/at/all"], 1, "neither an entry nor a folder of weights"),
        (["empty"], 1, "no config.json and model.safetensors there"),
        (["r18_dctkd_ade20k"], 1, "no weights for r18_dctkd_ade20k"),
    ],
)
def test_what_cannot_be_exported(arguments, status, words, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["export", *arguments]) == status
    assert re.search(f"^error: .*{words}", capsys.readouterr().err)
    assert sorted(p.name for p in tmp_path.iterdir()) in (["empty"], ["empty", "home"])


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_it_says_what_to_install(package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", NAME]) == 1
    assert f"error: ONNX files need {package}: pip install 'dctkd-zoo[onnx]'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--format", "tflite"], ["--tolerance", "much"], ["--limit", "0"]])
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(["export", NAME, *arguments])
    assert end.value.code == 2 and arguments[1] in capsys.readouterr().err


def test_images_that_are_no_square_centre_crop_are_refused():
    model = timm.create_model("resnet18", num_classes=3, pretrained_cfg_overlay={"crop_mode": "squash"}).eval()
    network = Network("resnet18", model, Weights(Path(), "", ""), ("a", "b", "c"))
    with pytest.raises(UnsupportedNetwork, match="crop_mode squash: only square centre crops"):
        network.preprocessing()


class TestLoad:
    """Files that are not what `export` writes."""

    def test_none(self, tmp_path):
        with pytest.raises(ZooError, match="no such file"):
            session.load(tmp_path / "model.onnx")

    @pytest.mark.parametrize("content", [b"", b"no protobuf", bytes(range(256)) * 9])
    def test_damaged(self, tmp_path, content):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(CorruptFile, match=r"^.*model\.onnx: onnxruntime cannot read it: [^\n]*$"):
            session.load(tmp_path / "model.onnx")

    def test_cut_short(self, r20, tmp_path):
        _, path = r20
        (tmp_path / "model.onnx").write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(CorruptFile):
            session.load(tmp_path / "model.onnx")

    @pytest.mark.parametrize(
        ("change", "error", "words"),
        [
            ({"mean": None}, UnsupportedNetwork, "no mean in its metadata: only files of"),
            ({"mean": "[0.5,"}, CorruptFile, "metadata mean: "),
            ({"mean": "0.5"}, CorruptFile, "metadata mean is 0.5: export it again"),
        ],
    )
    def test_metadata(self, r20, tmp_path, change, error, words):
        _, path = r20
        proto = onnx.load(path)
        facts = {**{item.key: item.value for item in proto.metadata_props}, **change}
        proto.ClearField("metadata_props")
        onnx.helper.set_model_props(proto, {key: value for key, value in facts.items() if value is not None})
        onnx.save(proto, tmp_path / "model.onnx")
        with pytest.raises(error, match=re.escape(words)):
            session.load(tmp_path / "model.onnx")

    def test_other_outputs(self, r20, tmp_path):
        _, path = r20
        proto = onnx.load(path)
        del proto.graph.output[0]
        onnx.save(proto, tmp_path / "model.onnx")
        with pytest.raises(UnsupportedNetwork, match="maps pixel_values to map_1, map_2, map_3"):
            session.load(tmp_path / "model.onnx")


def test_the_lines_of_the_documentation_classify_without_torch(tmp_path):
    text = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"^```py\n(import json, numpy, onnxruntime\n.*?)^```$", text, re.M | re.S)
    network = find("el0_scene15.px224")[0]
    (tmp_path / "el0_scene15.px224" / "onnx").mkdir(parents=True)
    to_onnx(network, Form(), tmp_path / "el0_scene15.px224" / "onnx" / "model.onnx")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    blocked = "import sys\nfor name in ('torch', 'torchvision', 'timm', 'dctkd_zoo'): sys.modules[name] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + lines], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (prediction,) = dctkd_zoo.predict(tmp_path / "examples" / "mountain.jpg", "el0_scene15.px224", device="cpu")
    rows = [line.split() for line in done.stdout.splitlines()]
    _, names, expected = zip(*prediction.top(5), strict=True)
    assert tuple(name for name, _ in rows) == names
    np.testing.assert_allclose([float(value) for _, value in rows], expected, atol=1e-3)
