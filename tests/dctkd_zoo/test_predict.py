"""`python -m dctkd_zoo predict`: real files in, classes, JSON and pictures out, and how it ends."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from dctkd_zoo import models, prediction, predictor, registry, weights
from dctkd_zoo.__main__ import main
from dctkd_zoo.attention_grid import GAP, LINE, MARGIN
from dctkd_zoo.cli import predict as command
from dctkd_zoo.cli.predict import OVERLAY, overlay_names
from dctkd_zoo.errors import printable
from dctkd_zoo.models import export

NAME = "r20_dctkd_synthscenes"
BUNDLED = weights.BUNDLED / NAME
CIFAR100 = Path(__file__).resolve().parents[2] / "examples" / "catalogs" / "cifar100.py"
CLASSES = weights.read_config(BUNDLED)["label_names"]
MARKED = ("[bold]bed[/bold]", "[/] kitchen", ":smile: [red]hall")

CATALOG = """
from dctkd_zoo.spec import Arch, Cosine, Dataset, Entry, Recipe

ARCHS = {"tvit": Arch("test_vit"), "tcnx": Arch("test_convnext")}
DATASET = Dataset("markup", "Markup", source="folders", num_classes=3, train=3, test=3)
RECIPE = Recipe(epochs=1, batch_size=1, lr=0.1, schedule=Cosine(), resize=40, crop=32)
ENTRIES = (Entry("tvit_markup", RECIPE, {"ce": 1}), Entry("tcnx_markup", RECIPE, {"ce": 1}))
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def catalog(tmp_path, monkeypatch):
    """A ViT and a ConvNeXt of three classes whose names look like rich's markup, as training would leave them."""
    monkeypatch.setattr(registry, "_MODULES", [])
    registry._bundled_and_included.cache_clear()
    path = tmp_path / "markup.py"
    path.write_text(CATALOG)
    registry.include(path)
    for name in ("tvit_markup", "tcnx_markup"):
        entry = registry.get_entry(name)
        torch.manual_seed(0)
        model = models.create(entry.arch, 3, entry.recipe.crop)
        export.write(model, entry, registry.get_dataset("markup"), MARKED, tmp_path / "home" / "checkpoints" / name)
    yield
    registry._bundled_and_included.cache_clear()


def noise(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """Colour noise that is coarse enough to survive a JPEG."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def saved(path: str | Path, image: Image.Image | None = None, **options) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    (image or noise()).save(path, **options)
    return str(path)


def told(capsys, *arguments: str, status: int = 0) -> dict[str, Any]:
    """What `predict ... --json` says."""
    assert main(["predict", *arguments, "--json", "--device", "cpu"]) == status
    facts: dict[str, Any] = json.loads(
        capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON")
    )
    return facts


def by_hand(path: str, side: int, mean: tuple[float, ...], std: tuple[float, ...], resize: int | None = None):
    """An image as evaluation prepares it, in numpy: (1, 3, side, side)."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    resize = resize or side
    width, height = (max(resize, int(resize * length / min(image.size))) for length in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - side) / 2), round((height - side) / 2)
    pixels = np.asarray(image, np.float32)[top : top + side, left : left + side] / 255
    normal = (pixels - np.array(mean, np.float32)) / np.array(std, np.float32)
    return torch.from_numpy(normal.transpose(2, 0, 1)[None].copy())


def plain(folder: Path) -> torch.nn.Module:
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def probabilities(image: dict[str, Any], count: int) -> np.ndarray:
    """An image's probabilities by label."""
    result = {item["label"]: item["probability"] for item in image["classes"]}
    return np.array([result[label] for label in range(count)])


def panel(picture: Image.Image, column: int, side: int) -> np.ndarray:
    left, top = MARGIN + column * (side + GAP), MARGIN + 2 * LINE
    return np.asarray(picture.convert("RGB")).astype(int)[top : top + side, left : left + side]


def test_the_json_is_what_plain_timm_says_of_the_images(capsys):
    paths = [saved("wide.png"), saved("tall.jpg", noise(40, 88, 1)), saved("small.png", noise(16, 16, 2))]
    facts = told(capsys, NAME, *paths, "--top", "12")
    assert facts["name"] == NAME
    assert facts["weights"] == {"origin": "bundled", "sha256": weights.find(registry.get_entry(NAME)).sha256}
    assert facts["failed"] == []
    assert [image["path"] for image in facts["images"]] == paths
    model, transform = plain(BUNDLED), models.create_transform(NAME)
    for path, image in zip(paths, facts["images"], strict=True):
        tensor = by_hand(path, 40, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        with Image.open(path) as opened:
            torch.testing.assert_close(tensor[0], transform(opened), rtol=1e-6, atol=1e-6)
        with torch.no_grad():
            expected = model(tensor).softmax(dim=1)[0].double().numpy()
        np.testing.assert_allclose(probabilities(image, 12), expected, rtol=0, atol=1e-6)
        likely = [item["probability"] for item in image["classes"]]
        assert likely == sorted(likely, reverse=True)
        assert [item["class"] for item in image["classes"]] == [CLASSES[item["label"]] for item in image["classes"]]


@pytest.mark.parametrize("name", ["tvit_markup", "tcnx_markup"])
def test_other_families_too(catalog, capsys, tmp_path, name):
    path = saved("image.png", noise(70, 50))
    facts = told(capsys, name, path, "--overlay", "maps")
    folder = tmp_path / "home" / "checkpoints" / name
    dataset = registry.get_dataset("markup")
    tensor = by_hand(path, 32, dataset.mean, dataset.std, resize=40)
    with torch.no_grad():
        expected = plain(folder)(tensor).softmax(dim=1)[0].double().numpy()
    np.testing.assert_allclose(probabilities(facts["images"][0], 3), expected, rtol=0, atol=1e-6)
    assert facts["weights"]["origin"] == "trained here"
    with Image.open(facts["images"][0]["overlay"]) as picture:
        assert picture.width == 2 * MARGIN + 5 * (7 * 32 + GAP) - GAP


def test_images_of_every_kind(capsys):
    picture, turned = noise(), Image.Exif()
    turned[0x0112] = 6
    deep = Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 20)
    paths = {
        "png": saved("a.png"),
        "jpeg": saved("a.JPG", quality=90),
        "grey": saved("grey.png", picture.convert("L")),
        "alpha": saved("alpha.png", picture.convert("RGBA")),
        "palette": saved("palette.gif", picture.quantize(16)),
        "two": saved("two.png", picture.convert("1")),
        "cmyk": saved("cmyk.jpg", picture.convert("CMYK")),
        "deep": saved("deep.png", deep),
        "turned": saved("turned.png", exif=turned),
        "webp": saved("a.webp", lossless=True),
        "tiff": saved("a.tif"),
    }
    facts = told(capsys, NAME, *paths.values(), "--top", "12")
    images = dict(zip(paths, facts["images"], strict=True))
    assert all(len(image["classes"]) == 12 for image in images.values())
    for same in ("alpha", "turned", "webp", "tiff"):  # as evaluation, it sees the pixels as they lie
        teacher, student = (probabilities(images[kind], 12) for kind in (same, "png"))
        np.testing.assert_allclose(teacher, student, rtol=0, atol=1e-6)  # where it stands in the batch is a last digit
    for other in ("grey", "two", "deep"):
        assert images[other]["classes"] != images["png"]["classes"]
    notes = {kind: image["notes"] for kind, image in images.items() if image["notes"]}
    assert notes.keys() == {"turned", "deep"}
    assert "without applying the EXIF orientation" in notes["turned"][0]
    assert "the upper 8 of 16" in notes["deep"][0]


def test_an_image_that_cannot_be_read_is_named_and_the_others_go_on(capsys):
    whole = saved("a.png", noise(200, 200))
    Path("cut.png").write_bytes(Path(whole).read_bytes()[:-3000])
    Path("words.jpg").write_text("no image")
    Path("empty.png").write_bytes(b"")
    bad = ["cut.png", "words.jpg", "empty.png", "missing.png"]
    assert main(["predict", NAME, "cut.png", whole, *bad[1:], "--json"]) == 1
    shown = capsys.readouterr()
    facts = json.loads(shown.out)
    assert [image["path"] for image in facts["images"]] == [whole]
    assert [failure["path"] for failure in facts["failed"]] == bad
    reasons = [failure["error"] for failure in facts["failed"]]
    assert "truncated" in reasons[0]
    assert all(reason.startswith("not an image that can be read: none of ") for reason in reasons[1:3])
    assert reasons[3] == "No such file or directory"
    lines = [f"error: {path}: {reason}" for path, reason in zip(bad, reasons, strict=True)]
    assert shown.err.splitlines()[-4:] == lines


def test_an_image_that_fits_no_transform_is_a_failure(capsys, monkeypatch):
    def refuse(tensor):
        raise MemoryError

    entry, cpu = registry.get_entry(NAME), torch.device("cpu")
    loaded = predictor.load(entry, cpu)
    object.__setattr__(loaded, "transform", refuse)
    (failure,) = prediction.predict_files(loaded, [Path(saved("a.png"))])
    assert failure == prediction.Failure(Path("a.png"), "MemoryError")


def test_only_bad_images_print_no_table(capsys):
    assert main(["predict", NAME, "missing.png"]) == 1
    shown = capsys.readouterr()
    assert "error: missing.png: No such file" in shown.err
    assert "%" not in shown.out


def test_folders_are_walked_and_what_is_no_image_is_left_out(capsys):
    expected = [saved(f"in/{name}") for name in ("bed/0.png", "bed/deep/1.JPEG", "top.bmp")]
    for name in (".hidden.png", ".trash/2.png", f"maps/0{OVERLAY}"):
        saved(f"in/{name}")
    Path("in/readme.txt").write_text("words")
    facts = told(capsys, NAME, "in", saved("beside.png"))
    assert [image["path"] for image in facts["images"]] == [*expected, "beside.png"]


def test_a_folder_without_images_is_an_error(capsys):
    Path("empty").mkdir()
    facts = told(capsys, NAME, "empty", saved("a.png"), status=1)
    assert [failure["path"] for failure in facts["failed"]] == ["empty"]
    assert ".jpeg .jpg" in facts["failed"][0]["error"]
    assert len(facts["images"]) == 1


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_a_list_on_standard_input(capsys, monkeypatch, end):
    names = [saved("a b.png"), saved("in/c.png"), saved("ü.png")]
    text = end.join(["a b.png", "", "in", "ü.png", ""])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(os.fsencode(text))))
    facts = told(capsys, NAME, "-")
    assert [image["path"] for image in facts["images"]] == names


def test_an_empty_list_is_an_error(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    assert main(["predict", NAME, "-"]) == 1
    assert "error: no images: the list on standard input is empty" in capsys.readouterr().err


def test_overlays_show_each_level_with_the_hot_spot_where_the_map_is_greatest(capsys):
    path = saved("image.png")
    facts = told(capsys, NAME, path, "--overlay", "out/maps")
    assert facts["images"][0]["overlay"] == str(Path("out/maps/image.attention.png"))
    with torch.no_grad():
        tensor = by_hand(path, 40, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        _, levels = plain(BUNDLED).forward_intermediates(tensor)  # type: ignore[operator]
    side = 5 * 40  # what the network sees, five times as large
    with Image.open("out/maps/image.attention.png") as picture:
        taps = [level for level in levels if level.shape[2] in (40, 20, 10)][-3:]
        assert picture.size == (2 * MARGIN + 4 * (side + GAP) - GAP, 2 * MARGIN + 2 * LINE + side)
        seen = panel(picture, 0, side)
        maps = [panel(picture, column, side) for column in (1, 2, 3)]
    expected = ((tensor[0].permute(1, 2, 0) * 0.25 + 0.5) * 255).round().byte().numpy()
    large = Image.fromarray(expected).resize((side, side), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(seen, np.asarray(large))
    for shown, level in zip(maps, taps, strict=True):
        heat = level[0].square().mean(dim=0).numpy()
        yellow = shown[..., 0] - shown[..., 2]  # the grey image cancels; what is left of viridis is greatest at its end
        cell = side // heat.shape[0]
        row, column = np.unravel_index(yellow.argmax(), yellow.shape)
        assert (row // cell, column // cell) == np.unravel_index(heat.argmax(), heat.shape)


def test_overlays_of_the_same_stem_stay_apart(capsys):
    paths = [saved(f"in/{name}/0.png", noise(seed=seed)) for seed, name in enumerate(("bed", "hall", "hall/deep"))]
    others = [saved("in/hall/0.jpg", noise(seed=3)), saved("x/0.png", noise(seed=4)), saved("y/0.png", noise(seed=5))]
    facts = told(capsys, NAME, "in", *others[1:], "--overlay", "maps")
    assert len(facts["images"]) == 6
    drawn = {image["path"]: Path(image["overlay"]) for image in facts["images"]}
    assert drawn[paths[0]] == Path("maps/bed/0.attention.png")
    assert drawn[paths[2]] == Path("maps/hall/deep/0.attention.png")
    assert drawn["y/0.png"] == Path("maps/0-2.attention.png")
    assert {path for path in Path("maps").rglob("*") if path.is_file()} == set(drawn.values())
    for path, place in drawn.items():
        tensor = by_hand(path, 40, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        pixels = ((tensor[0].permute(1, 2, 0) * 0.25 + 0.5) * 255).round().byte().numpy()
        with Image.open(place) as picture:
            large = Image.fromarray(pixels).resize((200, 200), Image.Resampling.BICUBIC)
            np.testing.assert_array_equal(panel(picture, 0, 200), np.asarray(large))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have shorter paths")
def test_a_folder_nested_1500_deep(capsys, tmp_path):
    inner = "in/" + "d/" * 1500
    try:
        Path("in").mkdir()
        os.chdir("in")
        for _ in range(1500):
            Path("d").mkdir()
            os.chdir("d")
        noise().save("x.png")
        os.chdir(tmp_path)
        (image,) = told(capsys, NAME, "in", "--overlay", "maps")["images"]
        assert image["path"] == f"{inner}x.png" and Path(image["overlay"]).is_file()
    finally:  # what shutil.rmtree of this Python cannot do
        os.chdir(tmp_path)
        subprocess.run(["rm", "-rf", "in", "maps"], check=True)


def test_no_two_overlays_have_one_name():
    places = [*["a.png", "a-2.png", "a.jpg", "A.png", "a-2.gif", "b/a.png", "a.b.png", "a"] * 2, *["x.png"] * 2000]
    names = overlay_names(map(PurePath, places))
    assert len({str(name).casefold() for name in names}) == len(places)
    assert [str(name) for name in names[:4]] == [f"{stem}{OVERLAY}" for stem in ("a", "a-2", "a-3", "A-4")]
    assert names[5] == PurePath(f"b/a{OVERLAY}")


def test_without_a_folder_nothing_is_written(capsys, tmp_path):
    before = {saved("a.png")}
    told(capsys, NAME, "a.png")
    assert {path.name for path in tmp_path.iterdir()} == before


def test_the_table_shows_five_classes_and_their_probabilities(capsys):
    facts = told(capsys, NAME, saved("a.png"))
    assert main(["predict", NAME, "a.png", "--overlay", "maps"]) == 0
    heading, _, path, *rows, drawn = capsys.readouterr().out.rstrip().splitlines()
    assert heading == f"{NAME}, bundled, sha256 {facts['weights']['sha256'][:12]}…"
    assert path == "a.png"
    assert drawn == f"attention: {Path('maps/a.attention.png')}"
    assert len(rows) == 5
    for row, expected in zip(rows, facts["images"][0]["classes"], strict=True):
        name, share = row.split("%")[0].split(maxsplit=1)
        assert name == expected["class"]
        assert share.strip() == (
            f"{100 * expected['probability']:.1f}" if expected["probability"] >= 0.0005 else "< 0.1"
        )


def test_names_are_no_markup(catalog, capsys):
    path = saved("[bold red]in[/]/[link=x] :smile: a.png")
    assert main(["predict", "tvit_markup", path, "--overlay", "[maps]"]) == 0
    shown = capsys.readouterr().out
    for words in (path, *MARKED, f"[link=x] :smile: a{OVERLAY}"):
        assert words in shown
    assert "\x1b" not in shown


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_a_terminal_cannot_show(capsys):
    """A broken byte, an escape that would colour the terminal, and a line break."""
    Path(saved("a.png")).rename("in\udcff\x1b[31m\n.png")
    assert main(["predict", NAME, "in\udcff\x1b[31m\n.png", "in\udcff.png", "--overlay", "maps"]) == 1
    shown = capsys.readouterr()
    assert "in\\udcff\\x1b[31m\\n.png\n" in shown.out
    assert "error: in\\udcff.png: " in shown.err
    assert told(capsys, NAME, "in\udcff\x1b[31m\n.png")["images"][0]["path"] == "in\udcff\x1b[31m\n.png"
    assert printable("Küche 厨房 [a]") == "Küche 厨房 [a]"


def test_what_was_answered_before_ctrl_c_is_in_the_json(monkeypatch, capsys):
    def stopping(predictor, paths, maps, real=prediction.predict_files):
        yield from real(predictor, paths[:1], maps)
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "predict_files", stopping)
    assert main(["predict", NAME, saved("a.png"), saved("b.png"), "--json"]) == 130
    assert len(json.loads(capsys.readouterr().out)["images"]) == 1


def test_names_that_the_stream_cannot_encode(monkeypatch):
    stream = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(stream, encoding="ascii"))
    assert main(["predict", NAME, saved("Küche.png")]) == 0
    assert b"K\\xfcche.png\n" in stream.getvalue()
    assert b"%  -----" in stream.getvalue()


def test_a_long_name_of_a_file_is_not_cut(capsys):
    path = saved(f"{'long' * 40}/{'name' * 20}.png")
    assert main(["predict", NAME, path]) == 0
    assert path in capsys.readouterr().out.splitlines()


def test_many_images_keep_their_order_over_batches(capsys, monkeypatch):
    monkeypatch.setattr(prediction, "BATCH_SIZE", 3)
    paths = [saved(f"{number}.png", noise(seed=number)) for number in range(7)]
    Path("4.png").write_text("no image")
    facts = told(capsys, NAME, *paths, status=1)
    assert [image["path"] for image in facts["images"]] == [path for path in paths if path != "4.png"]
    (alone,) = told(capsys, NAME, "6.png")["images"]
    assert alone["classes"][0]["probability"] == pytest.approx(facts["images"][-1]["classes"][0]["probability"])
    monkeypatch.setattr(prediction, "BATCH_SIZE", 1)
    assert [f["path"] for f in told(capsys, NAME, *paths, status=1)["failed"]] == ["4.png"]


def test_top_is_at_most_all(capsys):
    assert len(told(capsys, NAME, saved("a.png"), "--top", "1")["images"][0]["classes"]) == 1
    every = told(capsys, NAME, "a.png", "--top", "99")["images"][0]["classes"]
    assert sorted(item["label"] for item in every) == list(range(12))
    assert sum(item["probability"] for item in every) == pytest.approx(1, abs=1e-12)


def test_other_weights_come_with_their_own_preprocessing(capsys):
    """A network trained elsewhere on larger images, which does not name its classes."""
    torch.manual_seed(0)
    other = timm.create_model("resnet20_cifar", num_classes=12)
    mean, std = (0.1, 0.2, 0.3), (0.6, 0.5, 0.4)
    size = {"input_size": (3, 48, 48), "crop_pct": 0.8, "crop_mode": "center", "interpolation": "bilinear"}
    save_for_hf(other, "theirs", safe_serialization=True, data_config={**size, "mean": mean, "std": std})
    path = saved("a.png", noise(96, 80))
    facts = told(capsys, NAME, path, "--weights", "theirs", "--top", "12")
    with torch.no_grad():
        expected = other.eval()(by_hand(path, 48, mean, std, resize=60)).softmax(dim=1)[0].double()
    np.testing.assert_allclose(probabilities(facts["images"][0], 12), expected.numpy(), rtol=0, atol=1e-6)
    assert {item["class"] for item in facts["images"][0]["classes"]} == {f"output {label}" for label in range(12)}
    assert facts["weights"]["origin"] == "given folder"


def test_own_weights_in_another_folder_say_the_same(capsys, tmp_path):
    shutil.copytree(BUNDLED, tmp_path / "copy")
    own = told(capsys, NAME, saved("a.png"))
    copied = told(capsys, NAME, "a.png", "--weights", f"local-dir:{tmp_path / 'copy'}")
    assert copied["images"] == own["images"]
    assert copied["weights"]["sha256"] == own["weights"]["sha256"]


def test_an_answer_that_is_not_finite_is_a_failure(capsys, tmp_path):
    shutil.copytree(BUNDLED, tmp_path / "nan")
    (tmp_path / "nan" / weights.HASHES).unlink()
    tensors = load_file(tmp_path / "nan" / weights.WEIGHTS)
    tensors["fc.bias"][3] = float("nan")
    save_file(tensors, tmp_path / "nan" / weights.WEIGHTS)
    facts = told(capsys, NAME, saved("a.png"), "--weights", "nan", status=1)
    assert facts["images"] == []
    assert facts["failed"] == [{"path": "a.png", "error": "the network's output is not finite"}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["r18_ade20k"], "no weights for r18_ade20k: not bundled, not published"),
        ([NAME, "--weights", "nowhere"], "nowhere: no config.json and model.safetensors"),
        ([NAME, "--weights", str(weights.BUNDLED / "r56_synthscenes")], "holds a resnet56_cifar, not a resnet20_cifar"),
        (["r20_cifar100", "--weights", str(BUNDLED), "--catalog", str(CIFAR100)], "r20_cifar100 has 100 classes"),
        ([NAME, "--overlay", "a.png"], "a.png"),
    ],
)
@pytest.mark.usefixtures("fresh_registry")
def test_failures_end_with_a_message_and_status_1(capsys, arguments, message):
    name, *more = arguments
    assert main(["predict", name, saved("a.png"), *more]) == 1
    shown = capsys.readouterr()
    assert message in shown.err
    assert not shown.out


def test_weights_whose_names_do_not_fit_are_refused(capsys, tmp_path):
    shutil.copytree(BUNDLED, tmp_path / "fewer")
    (tmp_path / "fewer" / weights.HASHES).unlink()
    config = weights.read_config(BUNDLED) | {"label_names": CLASSES[:5]}
    (tmp_path / "fewer" / weights.CONFIG).write_text(json.dumps(config))
    assert main(["predict", NAME, saved("a.png"), "--weights", "fewer"]) == 1
    assert "5 label_names for 12 classes" in capsys.readouterr().err


@pytest.fixture
def default(monkeypatch):
    """A bundled network as the default, whichever that is."""
    monkeypatch.setattr(command, "DEFAULT", NAME)


def test_the_default_is_bundled_and_sees_photographs_at_full_size():
    assert weights.is_complete(weights.BUNDLED / command.DEFAULT)
    assert registry.get_entry(command.DEFAULT).recipe.crop == 224


@pytest.mark.usefixtures("default")
def test_without_a_name_the_default_answers(capsys, monkeypatch):
    paths = [saved("a.png"), saved("deep/b.png", noise(seed=1))]
    named = told(capsys, NAME, "a.png", "deep")
    assert [image["path"] for image in named["images"]] == [paths[0], paths[1]]
    assert told(capsys, "a.png", "deep") == named
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a.png\ndeep/b.png\n")))
    assert told(capsys, "-")["images"] == named["images"]
    assert told(capsys, "deep", "a.png")["images"] == named["images"][::-1]


@pytest.mark.usefixtures("default")
def test_a_file_or_folder_that_could_be_an_entry_s_name_is_one_if_it_exists(capsys):
    saved("my_photos/a.png")
    assert [image["path"] for image in told(capsys, "my_photos")["images"]] == [str(Path("my_photos/a.png"))]
    facts = told(capsys, "my_photo.png", status=1)  # an image by its suffix, which is not there
    assert [item["path"] for item in facts["failed"]] == ["my_photo.png"]
    assert main(["predict", "my_foto"]) == 2
    assert "unknown entry 'my_foto'" in capsys.readouterr().err


@pytest.mark.usefixtures("default")
def test_a_folder_named_like_an_entry_comes_after_the_entry(capsys):
    saved(f"r8_synthscenes/{NAME}.png")
    saved(f"{NAME}/a.png")
    facts = told(capsys, NAME, NAME)
    assert facts["name"] == NAME and [image["path"] for image in facts["images"]] == [str(Path(NAME, "a.png"))]


@pytest.mark.parametrize("prefix", ["local-dir:", ""])
def test_a_folder_of_weights_stands_in_place_of_a_name(capsys, tmp_path, prefix):
    shutil.copytree(BUNDLED, tmp_path / "copy")
    own = told(capsys, NAME, saved("a.png"))
    facts = told(capsys, f"{prefix}{tmp_path / 'copy'}", "a.png")
    assert facts["images"] == own["images"] and facts["weights"]["sha256"] == own["weights"]["sha256"]
    assert facts["weights"]["origin"] == "given folder"
    if not prefix:
        assert told(capsys, "copy", "a.png")["images"] == own["images"]


def test_a_network_that_is_no_entry_answers_by_its_architecture(capsys):
    """A network of any kind that timm saved, of 5 classes without names."""
    torch.manual_seed(0)
    theirs = timm.create_model("test_resnet", num_classes=5).eval()
    save_for_hf(theirs, "theirs", safe_serialization=True, data_config={"input_size": (3, 32, 32), "crop_pct": 1.0})
    facts = told(capsys, "theirs", saved("a.png"), "--overlay", "maps")
    assert facts["name"] == "test_resnet"
    assert {item["class"] for item in facts["images"][0]["classes"]} == {f"output {label}" for label in range(5)}
    assert Path(facts["images"][0]["overlay"]).is_file()
    assert main(["predict", "theirs", "a.png"]) == 0
    assert capsys.readouterr().out.startswith("test_resnet, given folder, sha256 ")


@pytest.mark.parametrize("source", [NAME, "local-dir:copy", "copy"])
def test_a_network_without_images_asks_for_some(capsys, tmp_path, source):
    shutil.copytree(BUNDLED, tmp_path / "copy")
    assert main(["predict", source]) == 2
    shown = capsys.readouterr()
    assert f"no images: name some after {source}, or a folder of them" in shown.err and not shown.out


def test_folders_that_hold_no_whole_network_are_no_network(capsys):
    assert main(["predict", "local-dir:nowhere", saved("a.png")]) == 1
    assert "nowhere: no config.json and model.safetensors there" in capsys.readouterr().err
    Path("half").mkdir()
    shutil.copy(BUNDLED / "config.json", "half")
    assert main(["predict", "local-dir:half", "a.png"]) == 1
    assert "half: no model.safetensors there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["r20_dctkd_synthscene"], "did you mean r20_dctkd_synthscenes"),
        ([NAME, "--device", "abacus"], "device 'abacus' cannot be used"),
    ],
)
def test_wrong_arguments_end_with_a_message_and_status_2(capsys, arguments, message):
    name, *more = arguments
    assert main(["predict", name, saved("a.png"), *more]) == 2
    assert message in capsys.readouterr().err


def test_nothing_at_all_is_wrong_usage(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["predict"])
    assert "[NAME] IMAGE" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "-1", "five", "1.5"])
def test_a_count_that_is_none_is_wrong_usage(capsys, count):
    with pytest.raises(SystemExit, match="2"):
        main(["predict", NAME, "a.png", f"--top={count}"])
    assert "is not a number of classes" in capsys.readouterr().err


def test_its_help_needs_no_torch():
    code = """
import sys
from dctkd_zoo.__main__ import main
try:
    main(["predict", "--help"])
except SystemExit as stop:
    assert stop.code == 0
assert not {"torch", "timm", "numpy", "rich"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "EXIF" in done.stdout
