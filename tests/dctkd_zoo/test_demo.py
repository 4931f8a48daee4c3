"""`dctkd_zoo demo`: the page in a real browser against `predict`, Pillow and the metrics, and what it is made of."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import RepoCard
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor

import dctkd_zoo
from dctkd_zoo import demo, models, predictor, registry
from dctkd_zoo.__main__ import main
from dctkd_zoo.attention import activation_map
from dctkd_zoo.cli.demo import DEFAULT
from dctkd_zoo.demo import network, runtime
from dctkd_zoo.demo.network import Network
from dctkd_zoo.errors import UnsupportedNetwork, ZooError
from dctkd_zoo.onnx import export
from dctkd_zoo.prediction import Prediction
from dctkd_zoo.predictor import Predictor
from dctkd_zoo.spec import crop_pct
from dctkd_zoo.spectrum import common
from eval.metrics.pearson import pearson
from tests.browser import CHROMIUM, Page, opened

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PAIR = ("r56_synthscenes", "r20_dctkd_synthscenes")  # a bundled teacher and its student
CLOSE = 1e-3
READY = "state.turn > 0 && document.getElementById('results').getAttribute('aria-busy') === 'false'"
CPU = torch.device("cpu")


def load(name: str) -> Predictor:
    return predictor.load(registry.get_entry(name), CPU)


def exported(loaded: Predictor) -> export.Network:
    assert loaded.weights is not None
    return export.Network(loaded.name, loaded.network.model, loaded.weights, loaded.classes)


@pytest.fixture(scope="module")
def pair() -> list[Network]:
    pytest.importorskip("onnx", reason="onnx writes the networks of the page")
    pytest.importorskip("onnxscript", reason="torch exports with onnxscript")
    return [network.describe(load(name)) for name in PAIR]


# --- the browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default page, as the command writes it."""
    pytest.importorskip("onnx", reason="onnx writes the networks of the page")
    pytest.importorskip("onnxscript", reason="torch exports with onnxscript")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    if not all((runtime.cached() / name).is_file() for name in runtime.SHA256):
        pytest.skip(
            f"{runtime.cached()} does not hold {runtime.PACKAGE}: `python -m dctkd_zoo demo` fetches it with npm"
        )
    result = tmp_path_factory.mktemp("demo")
    assert main(["demo", "--out", str(result), "--space"]) == 0
    return result


@pytest.fixture(scope="module")
def tab(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page, opened from disk without a connection, once it has classified its example."""
    with opened(tmp_path_factory.mktemp("profile")) as tab:
        tab.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
        tab.resize(1280, 900)
        tab.call("Page.navigate", url=(folder / "index.html").as_uri())
        tab.wait(f"document.readyState === 'complete' && {READY}")
        yield tab


@pytest.fixture(scope="module")
def predictors() -> list[Predictor]:
    return [load(name) for name in DEFAULT]


def classified(tab: Page, path: Path) -> None:
    turn = tab.evaluate("state.turn")
    tab.choose("#file", path)
    tab.wait(f"state.turn > {turn} && {READY}")


def shown(tab: Page, index: int) -> dict[str, float]:
    """Return the classes in a list of the page with their probabilities."""
    items = f"[...document.querySelectorAll('#top-{index} li')]"
    return dict(tab.evaluate(f"{items}.map(li => [li.firstChild.textContent, Number(li.querySelector('data').value)])"))


def expected(loaded: Predictor, path: Path) -> Prediction:
    (result,) = dctkd_zoo.predict(path, loaded, maps=True)
    return result


def check(tab: Page, predictors: list[Predictor], path: Path) -> None:
    for index, loaded in enumerate(predictors):
        probabilities = expected(loaded, path).probabilities
        actual = shown(tab, index)
        assert len(actual) == 5
        assert sorted(actual.values(), reverse=True) == [*actual.values()]
        for name, probability in actual.items():
            assert probability == pytest.approx(float(probabilities[loaded.classes.index(name)]), abs=CLOSE)
        assert min(actual.values()) >= probabilities.topk(6).values[5] - CLOSE


def real(count: int) -> list[Path]:
    """Return photographs of other sizes, colours and compressions, if they lie beside the repository."""
    data = Path(__file__).resolve().parents[3] / "shared" / "data"
    found = sorted(data.glob("scene15/test/*/image_000*.jpg")) + sorted(data.glob("miniplaces12k/images/val/*.jpg"))
    return found[:: max(1, len(found) // count)][:count]


def test_photographs_get_the_probabilities_of_predict(tab, predictors):
    for path in [*sorted(EXAMPLES.glob("*.jpg")), *real(8)]:
        classified(tab, path)
        check(tab, predictors, path)


def test_png_in_colour_grey_and_palette(tab, predictors, tmp_path):
    photo = Image.open(EXAMPLES / "forest.jpg")
    for mode, size in (("RGB", (301, 640)), ("L", (640, 113)), ("P", (90, 70))):
        path = tmp_path / f"{mode}.png"
        photo.resize(size).convert(mode).save(path)
        classified(tab, path)
        check(tab, predictors, path)


def test_maps_and_their_correlation_are_those_of_the_library(tab, predictors):
    path = EXAMPLES / "meadow.jpg"
    classified(tab, path)
    maps = [expected(loaded, path).maps for loaded in predictors]
    for index, levels in enumerate(maps):
        for level, heat in enumerate(levels):
            actual = torch.tensor(tab.evaluate(f"[...state.results[{index}].levels[{level}].values]")).view(heat.shape)
            assert torch.allclose(actual, heat, rtol=0.02, atol=0.01 * float(heat.max()))
    for level in range(4):
        a, b = common(maps[0][level][None], maps[1][level][None])
        r = f"correlation(state.results[0].levels[{level}], state.results[1].levels[{level}])"
        assert tab.evaluate(r) == pytest.approx(float(pearson(a, b)), abs=0.01)


def test_pixels_are_pillow_s_to_the_bit(tab):
    rng = np.random.default_rng(0)
    for interpolation in network.FILTERS:
        for width, height, size, resize in (
            (640, 426, 224, 256),
            (427, 640, 112, 128),
            (31, 57, 112, 128),
            (128, 300, 112, 128),
            (257, 128, 111, 128),
            (1501, 400, 97, 101),
        ):
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            transform = create_transform(
                (3, size, size),
                interpolation=interpolation,
                crop_pct=crop_pct(size, resize),
                crop_mode="center",
                mean=(0.0, 0.0, 0.0),
                std=(1.0, 1.0, 1.0),
            )
            wanted = (transform(Image.fromarray(pixels)) * 255).round().byte().permute(1, 2, 0).numpy()
            rgba = np.dstack([pixels, np.full((height, width, 1), 255, np.uint8)])
            data = f"Uint8ClampedArray.from(atob('{base64.b64encode(rgba.tobytes()).decode()}'), c => c.charCodeAt(0))"
            given = json.dumps({"size": size, "resize": resize, "interpolation": interpolation})
            call = f"[...cropped({{ width: {width}, height: {height}, data: {data} }}, {given})]"
            actual = np.array(tab.evaluate(call), np.uint8).reshape(size, size, 4)[..., :3]
            assert np.array_equal(actual, wanted), (interpolation, width, height)


def test_the_exif_orientation_is_ignored_as_in_predict_unless_asked(tab, predictors, tmp_path):
    turned, upright = tmp_path / "turned.jpg", tmp_path / "upright.png"
    photo, exif = Image.open(EXAMPLES / "mountain.jpg"), Image.Exif()
    exif[0x0112] = 6
    photo.save(turned, exif=exif, quality=95)
    Image.open(turned).transpose(Image.Transpose.ROTATE_270).save(upright)
    classified(tab, turned)
    check(tab, predictors, turned)
    assert tab.evaluate("!document.getElementById('turned').hidden")
    turn = tab.evaluate("state.turn")
    tab.evaluate("document.getElementById('upright').click()")
    tab.wait(f"state.turn > {turn} && {READY}")
    check(tab, predictors, upright)
    classified(tab, EXAMPLES / "mountain.jpg")
    assert tab.evaluate("document.getElementById('turned').hidden")


def test_a_file_that_is_no_image_is_reported_and_the_page_goes_on(tab, predictors, tmp_path):
    path = tmp_path / "notes.jpg"
    path.write_text("no image")
    classified(tab, path)
    assert "notes.jpg was not classified: it is not an image" in tab.evaluate("$('status').textContent")
    Image.new("RGB", (2020, 20)).save(path)
    classified(tab, path)
    assert "100 times the short one" in tab.evaluate("$('status').textContent")
    classified(tab, EXAMPLES / "forest.jpg")
    check(tab, predictors, EXAMPLES / "forest.jpg")


def test_a_photograph_can_be_dropped(tab, predictors):
    path = EXAMPLES / "forest.jpg"
    turn, data = tab.evaluate("state.turn"), base64.b64encode(path.read_bytes()).decode()
    tab.evaluate(f"""
        (() => {{
            const bytes = Uint8Array.from(atob("{data}"), c => c.charCodeAt(0)), dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], "forest.jpg", {{ type: "image/jpeg" }}));
            $("drop").dispatchEvent(new DragEvent("drop", {{ dataTransfer, bubbles: true, cancelable: true }}));
        }})()
    """)
    tab.wait(f"state.turn > {turn} && {READY}")
    assert tab.evaluate("$('photo-name').textContent") == "forest.jpg"
    check(tab, predictors, path)


def test_the_camera_s_picture_is_classified_and_the_camera_released(tab):
    turn = tab.evaluate("state.turn")
    tab.evaluate("$('camera').click()")
    tab.wait("$('camera-view').open && $('video').videoWidth > 0")
    tab.evaluate("globalThis.track = $('video').srcObject.getTracks()[0]; $('snap').click()")
    tab.wait(f"state.turn > {turn} && {READY} && !$('camera-view').open")
    assert tab.evaluate("$('photo-name').textContent") == "your camera\u2019s picture"
    tab.wait("track.readyState === 'ended'")


def test_the_status_names_both_answers_and_is_announced(tab):
    classified(tab, EXAMPLES / "mountain.jpg")
    assert tab.evaluate("$('status').getAttribute('aria-live')") == "polite"
    assert tab.evaluate("$('status').textContent").startswith("Both say mountain: the classifier 86.9\u00a0%")


def test_all_controls_work_from_the_keyboard(tab):
    tab.evaluate("document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex')")
    visited, rings = [], []
    for _ in range(8):
        tab.press("Tab", 9)
        visited.append(tab.evaluate("document.activeElement.id || document.activeElement.className"))
        rings.append(tab.evaluate("getComputedStyle(document.activeElement).outlineStyle"))
        if visited[-1] == "example":
            turn = tab.evaluate("state.turn")
            tab.press("Enter", 13, "\r")
            tab.wait(f"state.turn > {turn} && {READY}")
        if visited[-1] == "level":
            tab.press("ArrowLeft", 37)
            assert tab.evaluate("$('level').getAttribute('aria-valuetext')") == "3 of 4"
            assert "14 × 14" in tab.evaluate("$('map-0').textContent")
        if visited[-1] == "opacity":
            tab.press("Home", 36)
            tab.wait("getComputedStyle($('heat-0')).opacity === '0'")
            tab.press("End", 35)
    wanted = ["choose", "camera", "example", "example", "level", "opacity"]
    assert [name for name in visited if name in wanted] == wanted
    assert set(rings) == {"solid"}


CONTRAST = """
(() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = c => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => sum + weight * linear(c[i] / 255), 0);
  const ground = node => {
    const colour = rgb(getComputedStyle(node).backgroundColor);
    return colour.length < 4 || colour[3] ? colour : ground(node.parentElement);
  };
  const ratio = node => {
    const ends = [light(rgb(getComputedStyle(node).color)), light(ground(node))].sort((a, b) => a - b);
    return [(ends[1] + 0.05) / (ends[0] + 0.05), node.textContent.slice(0, 40)];
  };
  const has_text = node => [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
  const texts = [...document.querySelectorAll("body :not(script)")].filter(n => n.checkVisibility() && has_text(n));
  return texts.map(ratio).sort((a, b) => a[0] - b[0])[0];
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_its_text_has_contrast(tab, scheme):
    for width in (360, 1280):
        tab.resize(width, 800, prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        ratio, text = tab.evaluate(CONTRAST)
        assert ratio >= 4.5, text
        paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}[scheme]
    assert tab.evaluate("getComputedStyle($('heat-0')).transitionDuration") == "0s"
    sides = tab.evaluate("['photo-0', 'photo-1'].map(id => $(id).getBoundingClientRect()).map(r => [r.left, r.top])")
    assert sides[0][0] < sides[1][0]
    assert sides[0][1] == sides[1][1]


def test_nothing_is_asked_of_the_network_and_nothing_is_refused(tab, folder):
    classified(tab, EXAMPLES / "meadow.jpg")
    tab.evaluate("fetch('https://example.org/').catch(() => 0)")  # what the policy forbids is seen here
    asked = [
        event["params"]["request"]["url"] for event in tab.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [(folder / "index.html").as_uri()]
    wrong = [event for event in tab.events if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert all("example.org" in json.dumps(event) for event in wrong)
    assert wrong


def test_the_space_says_what_the_hub_needs(folder):
    head = RepoCard((folder / "README.md").read_text(encoding="utf-8")).data.to_dict()
    assert head["sdk"] == "static"
    assert head["app_file"] == "index.html"
    assert head["license"] == "apache-2.0"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "index.html"]


# --- what goes into it


def test_the_file_of_a_network_gives_its_logits_and_maps_with_weights_stored_in_half_the_bytes(pair):
    session_of = pytest.importorskip("onnxruntime", reason="onnxruntime runs the files").InferenceSession
    for item in pair:
        side = item.preprocessing["size"]
        images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        names, values = run(session_of(item.onnx), images)
        with torch.no_grad():
            output = item.predictor.network(images)
        assert names == ["logits", *(f"map_{level}" for level in range(1, len(output.maps) + 1))]
        for value, tensor in zip(values, (output.logits, *map(activation_map, output.maps)), strict=True):
            assert torch.allclose(value, tensor, rtol=1e-4, atol=1e-5 * float(tensor.abs().max()))
    model = load(DEFAULT[1])
    assert len(network.to_onnx(exported(model))) < 2.7 * models.parameters(model.network)


def run(session: object, images: Tensor) -> tuple[list[str], list[Tensor]]:
    names = [output.name for output in session.get_outputs()]  # type: ignore[attr-defined]
    return names, [torch.from_numpy(v) for v in session.run(names, {"pixel_values": images.numpy()})]  # type: ignore[attr-defined]


def test_a_teacher_and_its_student_are_called_so_and_an_absent_teacher_is_told(pair):
    assert [item.short for item in demo.cast(pair)] == ["the teacher", "the student"]
    assert demo.notes(pair) == []
    assert [item.about for item in demo.cast(pair)] == [
        "teacher of r20_dctkd_synthscenes",
        "student of r56_synthscenes",
    ]
    baseline = dataclasses.replace(pair[0], entry=registry.get_entry("r20_synthscenes"))
    assert [item.role for item in demo.cast([pair[1], baseline])] == ["student", "baseline"]
    assert demo.cast(pair[1:])[0].about == "student of r56_synthscenes"
    twice = [pair[1], pair[1]]
    assert [item.short for item in demo.cast(twice)] == [PAIR[1]] * 2
    assert "learned from r56_synthscenes, whose weights are not on this page" in demo.notes(twice)[0]


def test_text_of_a_network_cannot_become_markup(pair):
    names = ("</script><script>alert(1)</script>", *pair[0].predictor.classes[1:])
    hostile = dataclasses.replace(pair[0], predictor=dataclasses.replace(pair[0].predictor, classes=names))
    html = demo.page([hostile], runtime.Runtime(b"", b""))
    assert "<script>alert" not in html
    assert html.count("<script>") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_mode": "squash"}, "crop_mode squash: only square centre crops"),
        ({"interpolation": "lanczos"}, "resized lanczos: the page has only bilinear and bicubic"),
    ],
)
def test_a_network_that_the_page_could_not_feed_is_refused(change, message):
    loaded = load(PAIR[1])
    model: Any = loaded.network.model
    model.pretrained_cfg = {**model.pretrained_cfg, **change}
    with pytest.raises(UnsupportedNetwork, match=message):
        network.preprocessing(exported(loaded))


@pytest.mark.parametrize("module", ["onnx", "onnxscript"])
def test_a_missing_package_is_named_with_the_extra(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ZooError, match=rf"ONNX files need {module}: pip install 'dctkd-zoo\[onnx\]'"):
        network.to_onnx(exported(load(PAIR[1])))


def test_an_unknown_name_is_refused_with_the_closest_ones(capsys, tmp_path):
    assert main(["demo", "r20_dctk_synthscenes", "--out", str(tmp_path / "page")]) == 2
    assert "r20_dctkd_synthscenes" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


class TestRuntime:
    @pytest.fixture(autouse=True)
    def files(self, tmp_path, monkeypatch):
        """Small files in place of the real ones, with their hashes."""
        monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
        self.content = {runtime.SCRIPT: b"script", runtime.WASM: b"wasm"}
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in self.content.items()}
        monkeypatch.setattr(runtime, "SHA256", hashes)
        self.dist = tmp_path / "package" / "dist"
        self.dist.mkdir(parents=True)
        for name, data in self.content.items():
            (self.dist / name).write_bytes(data)

    def packed(self, path: Path) -> Path:
        with tarfile.open(path, "w:gz") as archive:
            for name, data in self.content.items():
                info = tarfile.TarInfo(f"package/dist/{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return path

    def test_it_is_read_from_folder_and_archive_and_kept(self, tmp_path, monkeypatch):
        wanted = runtime.Runtime(b"script", b"wasm")
        assert runtime.find(self.packed(tmp_path / "ort.tgz")) == wanted
        shutil.rmtree(runtime.cached())
        assert runtime.find(self.dist.parent) == runtime.find(self.dist) == wanted
        monkeypatch.setenv("PATH", "")
        assert runtime.find() == wanted

    def test_another_version_is_refused_and_not_kept(self, tmp_path):
        (self.dist / runtime.WASM).write_bytes(b"newer")
        with pytest.raises(ZooError, match=r"wasm in .* has sha256 .* instead of .*npm pack onnxruntime-web@"):
            runtime.find(self.dist)
        assert not runtime.cached().exists()

    def test_a_missing_file_or_npm_is_reported_with_the_way_on(self, tmp_path, monkeypatch):
        (self.dist / runtime.SCRIPT).unlink()
        for source in (self.dist, tmp_path / "nowhere.tgz"):
            with pytest.raises(ZooError, match="does not hold"):
                runtime.find(source)
        monkeypatch.setenv("PATH", "")
        with pytest.raises(ZooError, match="no npm here to fetch it: run `npm pack"):
            runtime.find()
