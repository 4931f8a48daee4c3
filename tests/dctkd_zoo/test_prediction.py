"""dctkd_zoo.predict: images of all kinds in, the numbers of plain timm and of the command out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import weakref
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import dctkd_zoo
from dctkd_zoo import registry, weights
from dctkd_zoo.__main__ import main
from dctkd_zoo.attention import activation_map
from dctkd_zoo.errors import InvalidImage, NonFiniteAnswers, UnknownEntry, UnsupportedNetwork, WeightsNotFound
from dctkd_zoo.prediction import Prediction, Predictions
from dctkd_zoo.predictor import load_predictor

ROOT = Path(__file__).resolve().parents[2]
NAME = "r20_dctkd_synthscenes"
BUNDLED = weights.BUNDLED / NAME
CLASSES = weights.read_config(BUNDLED)["label_names"]

# The function, and the module that had its name in version 0.1.
NAMES = """
import dctkd_zoo
first = dctkd_zoo.predict
import dctkd_zoo.predict
import dctkd_zoo.predict as module
from dctkd_zoo import predict
from dctkd_zoo.predict import Failure, Prediction, Predictor, load, load_external, predict as of_files
assert first is dctkd_zoo.predict is module is predict and predict.__name__ == "predict"
assert predict.Predictor is Predictor and predict.load is load and of_files.__name__ == "predict_files"
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def predictor():
    return load_predictor(NAME, "cpu")


def scenes(count: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    random = np.random.default_rng(count)
    small = random.integers(0, 256, (count, height // 8, width // 8, 3), dtype=np.uint8)
    resized = (Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC) for image in small)
    return [np.asarray(image) for image in resized]


def test_arrays_files_and_the_command_agree_bit_for_bit(predictor, capsys):
    """More images than one batch."""
    arrays = scenes(70)
    paths = [f"{number:02}.png" for number in range(70)]
    for array, path in zip(arrays, paths, strict=True):
        Image.fromarray(array).save(path)
    assert main(["predict", NAME, *paths, "--json", "--top", "12", "--device", "cpu"]) == 0
    facts = json.loads(capsys.readouterr().out)["images"]
    expected = torch.zeros(70, 12, dtype=torch.float64)
    for row, image in enumerate(facts):
        for item in image["classes"]:
            expected[row, item["label"]] = item["probability"]
    tensors = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
    mixed = []
    for row, (path, array, tensor) in enumerate(zip(paths, arrays, tensors, strict=True)):
        kinds = (path, Path(path), array, array / 255, tensor, Path(path).read_bytes(), Image.fromarray(array))
        mixed.append(kinds[row % len(kinds)])
    for images, model in ((mixed, predictor), (tensors.float() / 255, predictor), (iter(arrays), NAME)):
        results = dctkd_zoo.predict(images, model, device="cpu" if model == NAME else None)
        assert torch.equal(results.probabilities, expected)
        assert results.class_names == [image["classes"][0]["class"] for image in facts]


def test_the_numbers_are_those_of_plain_timm(predictor):
    arrays = scenes(3)
    model = timm.create_model(f"local-dir:{BUNDLED}", pretrained=True).eval()
    transform = dctkd_zoo.create_transform(NAME)
    images = torch.stack([transform(Image.fromarray(array)) for array in arrays])
    with torch.no_grad():
        expected = model(images).softmax(dim=1).double()
        output = dctkd_zoo.run(model, images)
    results = dctkd_zoo.predict(arrays, predictor, maps=True)
    torch.testing.assert_close(results.probabilities, expected, rtol=0, atol=1e-6)
    for row, result in enumerate(results):
        best = int(expected[row].argmax())
        assert (result.label, result.class_name, result.path) == (best, CLASSES[best], None)
        assert result.probability == pytest.approx(float(expected[row, best]), abs=1e-6)
        for level, features in zip(result.maps, output.maps, strict=True):
            torch.testing.assert_close(level, activation_map(features)[row], rtol=1e-4, atol=1e-5)
        assert result.image is not None and result.image.size == (40, 40)


def test_results_are_a_sequence_with_names_and_a_table(predictor):
    Image.fromarray(scenes(1)[0]).save("a.png")
    results = dctkd_zoo.predict(["a.png", *scenes(2)], predictor)
    assert len(results) == 3 and [*results][1] is results[1] and isinstance(results, Predictions)
    first = results[0]
    assert first.maps == () and first.image is None and first.path == Path("a.png")
    names = [item.class_name for item in first.top(99)]
    assert sorted(names) == sorted(CLASSES)
    assert [item.probability for item in first.top(99)] == sorted(first.probabilities.tolist(), reverse=True)
    assert first.top(1)[0] == (first.label, first.class_name, first.probability)
    table = results.to_pandas(top=2)
    assert list(table) == ["path", "label", "class", "probability", "class_2", "probability_2", "notes"]
    assert table["path"].tolist() == ["a.png", "", ""] and table["class"].tolist() == results.class_names
    assert table["probability_2"].tolist() == [result.top(2)[1].probability for result in results]
    assert repr(first) == f"Prediction({first.class_name!r}, {first.probability:.4f}, 'a.png')"
    assert isinstance(dctkd_zoo.predict(scenes(1)[0], predictor)[0], Prediction)


def test_one_lazy_image_may_be_given_many_times(predictor):
    Image.fromarray(scenes(1)[0]).resize((800, 600)).save("a.png")
    with Image.open("a.png") as opened:
        results = dctkd_zoo.predict([opened] * 16, predictor).probabilities
    torch.testing.assert_close(results, dctkd_zoo.predict(["a.png"] * 16, predictor).probabilities, rtol=0, atol=0)


def test_an_iterator_is_read_a_batch_at_a_time(predictor):
    """When an image is asked for, all those of the batches before it are gone."""
    alive: list[weakref.ref[np.ndarray]] = []

    def stream():
        for array in scenes(24):
            copy = array.copy()
            alive.append(weakref.ref(copy))
            yield copy
            del copy
            assert sum(reference() is not None for reference in alive) <= 2 * 4

    assert len(dctkd_zoo.predict(stream(), predictor, batch_size=4)) == 24


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_the_size_of_a_batch_changes_last_digits_only(predictor, batch_size):
    arrays = scenes(9)
    results = dctkd_zoo.predict(arrays, predictor, batch_size=batch_size).probabilities
    torch.testing.assert_close(results, dctkd_zoo.predict(arrays, predictor).probabilities, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.full((4, 4, 3), np.nan), "images[5]: array of float64, shape (4, 4, 3), with NaN"),
        (np.zeros((4, 4, 4), np.uint8), "images[5] is an array of shape (4, 4, 4)"),
        ("missing.png", "images[5]: missing.png: cannot be read: No such file"),
        (b"words", "images[5]: 5 bytes: not an image"),
        (Image.new("F", (4, 4), 900), "images[5]: mode F with values from 900 to 900"),
    ],
)
def test_the_first_bad_image_is_named(predictor, bad, words):
    with pytest.raises(InvalidImage) as error:
        dctkd_zoo.predict([*scenes(5), bad, b"after it"], predictor, batch_size=3)
    assert words in str(error.value)


@pytest.mark.parametrize("empty", [[], (), np.zeros((0, 4, 4, 3), np.uint8), torch.zeros(0, 3, 4, 4), iter(())])
def test_no_image_at_all_is_an_error(predictor, empty):
    with pytest.raises(ValueError, match="images is empty"):
        dctkd_zoo.predict(empty, predictor)


def test_a_module_is_left_as_it_is_and_names_its_classes():
    arrays = scenes(3)
    model = dctkd_zoo.create_model(NAME, pretrained=True).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    results = dctkd_zoo.predict(arrays, model)
    assert torch.equal(results.probabilities, dctkd_zoo.predict(arrays, NAME, device="cpu").probabilities)
    assert results[0].class_name in CLASSES
    assert all(module.training for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) and value.stride() == before[name].stride()


def test_a_module_without_names_numbers_its_outputs():
    other = dctkd_zoo.create_model(NAME, pretrained=True, num_classes=3)
    untrained = dctkd_zoo.create_model(NAME)
    assert dctkd_zoo.predict(scenes(1), other)[0].classes == ("output 0", "output 1", "output 2")
    assert dctkd_zoo.predict(scenes(1), untrained)[0].classes[11] == "output 11"
    assert len(dctkd_zoo.predict(scenes(1), timm.create_model("test_resnet", num_classes=5))[0].classes) == 5


def test_a_folder_says_what_its_entry_says():
    shutil.copytree(BUNDLED, "copy")
    expected = dctkd_zoo.predict(scenes(2), NAME, device="cpu").probabilities
    for source in ("copy", Path("copy"), "local-dir:copy", "./copy"):
        assert torch.equal(dctkd_zoo.predict(scenes(2), source, device="cpu").probabilities, expected)


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        ("r20_dctkd_synthscene", UnknownEntry, "did you mean r20_dctkd_synthscenes"),
        ("r18_ade20k", WeightsNotFound, "no weights for r18_ade20k"),
        (Path("nowhere"), WeightsNotFound, "nowhere: no config.json"),
        (torch.nn.Linear(3, 3), UnsupportedNetwork, "Linear has no classes"),
    ],
)
@pytest.mark.usefixtures("fresh_registry")
def test_a_model_that_is_none_is_named(model, error, words):
    with pytest.raises(error, match=words):
        dctkd_zoo.predict(scenes(1), model)


def test_arguments_that_cannot_be_followed_are_refused(predictor):
    with pytest.raises(ValueError, match="batch_size is 0"):
        dctkd_zoo.predict(scenes(1), predictor, batch_size=0)
    with pytest.raises(ValueError, match="the predictor is on cpu"):
        dctkd_zoo.predict(scenes(1), predictor, device="cpu")


def test_outputs_that_are_not_finite_are_an_error():
    model = dctkd_zoo.create_model(NAME, pretrained=True)
    with torch.no_grad():
        model.fc.bias[3] = torch.nan  # type: ignore[union-attr, operator]
    with pytest.raises(NonFiniteAnswers, match=r"images\[0\]: the network's output is not finite"):
        dctkd_zoo.predict(scenes(2), model)


def test_the_function_survives_an_import_of_the_earlier_module():
    earlier: object = import_module("dctkd_zoo.predict")
    assert earlier is dctkd_zoo.predict and callable(earlier)
    exec(NAMES, {})


@pytest.mark.parametrize("order", [1, -1])
def test_it_does_in_a_new_process_too(order):
    lines = NAMES.strip().splitlines()
    code = "\n".join(lines if order == 1 else ["import dctkd_zoo.predict", *lines])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_code_of_version_0_1_still_classifies_files():
    from dctkd_zoo import predict as module

    Image.fromarray(scenes(1)[0]).save("a.png")
    loaded = module.load(registry.get_entry(NAME), torch.device("cpu"))  # type: ignore[attr-defined]
    result, failure = module.predict(loaded, [Path("a.png"), Path("b.png")])  # type: ignore[attr-defined]
    assert isinstance(result, module.Prediction) and isinstance(failure, module.Failure)  # type: ignore[attr-defined]
    assert result.maps and result.probabilities.sum() == pytest.approx(1)
