"""`config.json`, safetensors, lists and logs of any shape: read, or refused by an error that names the file."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import struct
import tarfile
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from dctkd_zoo import discover, models, weights
from dctkd_zoo.__main__ import main as cli
from dctkd_zoo.data import filelist, fingerprint, load, sources, validate
from dctkd_zoo.data.sources import wds
from dctkd_zoo.errors import CorruptFile, CorruptWeights, DatasetError, Unreadable
from dctkd_zoo.spec import Dataset
from dctkd_zoo.weights import run_folder
from eval.run import cache, result_row
from tests.robustness.fuzz import snapshot
from tests.robustness.fuzz_targets import measured

BUNDLED = weights.BUNDLED / "r20_synthscenes"
CONFIG = json.loads((BUNDLED / "config.json").read_text())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
FEWER = settings(max_examples=max(10, settings().max_examples // 5))  # each builds a network


@pytest.fixture
def folder(tmp_path) -> Path:
    """A network without hashes."""
    into: Path = tmp_path / "net"
    shutil.copytree(BUNDLED, into)
    (into / "SHA256SUMS").unlink()
    return into


def loaded(folder: Path) -> torch.nn.Module:
    return models.load("r20", weights.from_folder(folder, "given folder"))


@FEWER
@given(st.sampled_from([*CONFIG, "model_args", "num_features"]), JSON)
@example("num_classes", 10**9)
@example("num_classes", 999_999)
@example("num_classes", -1)
@example("label_names", 5)
@example("model_args", {"block": "os.system"})
@example("model_args", {"pretrained_cfg_overlay": {"file": "/etc/passwd"}})
@example("pretrained_cfg", {"source": "", "file": "/etc/passwd", "custom_load": True})
@example("pretrained_cfg", {"input_size": [0, -1, "x"]})
@example("architecture", "hf-hub:org/name")
@example("architecture", ["resnet20_cifar"])
def test_any_field_of_a_config_is_taken_or_refused(folder, name, value):
    (folder / "config.json").write_text(json.dumps(CONFIG | {name: value}))
    try:
        model = loaded(folder)
    except CorruptWeights as error:
        assert str(folder) in str(error)
    else:
        whole = models.load("r20", weights.from_folder(BUNDLED, "bundled"))
        images = torch.zeros(1, 3, 40, 40)
        assert torch.equal(model(images), whole(images))


@given(JSON)
def test_any_json_is_a_config_or_none(folder, value):
    (folder / "config.json").write_text(json.dumps(value))
    try:
        meta = weights.read_config(folder)
    except CorruptWeights as error:
        assert str(folder / "config.json") in str(error)
    else:
        assert isinstance(meta, dict) and isinstance(meta.get("label_names", []), list | dict)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "\udcff", "null", "NaN"])
def test_what_is_no_json_object_is_refused(folder, text):
    (folder / "config.json").write_text(text, errors="surrogateescape")
    with pytest.raises(CorruptWeights, match=r"config\.json"):
        loaded(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_classes": 12.0}, "num_classes is 12.0"),
        ({"num_classes": True}, "num_classes is True"),
        ({"num_classes": float("inf")}, "Infinity is not a finite number"),
        ({"label_names": [0, 1]}, r"label_names is \[0, 1\]"),
        ({"model_args": []}, r"model_args is \[\]"),
        ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "model_args has checkpoint_path, which are not arguments"),
        ({"model_args": {"pretrained_cfg_overlay": {"file": "x"}}}, "model_args has pretrained_cfg_overlay"),
        ({"model_args": {"features_only": True}}, "model_args has features_only"),
        ({"pretrained_cfg": {"mean": [0.5, 0.5]}}, "mean is .* but should be a number for each channel"),
        ({"pretrained_cfg": {"mean": ["0.5"] * 3}}, "mean is"),
        ({"pretrained_cfg": {"mean": 0.5}}, "mean is 0.5"),
        ({"pretrained_cfg": {"std": [0.2, 0.0, 0.2]}}, "std is .* but should be above 0"),
        ({"pretrained_cfg": {"std": [float("nan")] * 3}}, "NaN is not a finite number"),
        ({"pretrained_cfg": {"input_size": [3, 0, 32]}}, "input_size is"),
        ({"pretrained_cfg": {"input_size": [32, 32]}}, "input_size is"),
        ({"pretrained_cfg": {"input_size": [3, 10**6, 10**6]}}, "input_size is"),
        ({"pretrained_cfg": {"input_size": [3, 32.5, 32]}}, "input_size is"),
        ({"pretrained_cfg": {"crop_pct": -1}}, "crop_pct is -1"),
        ({"pretrained_cfg": {"crop_pct": True}}, "crop_pct is True"),
        (
            {"pretrained_cfg": {"interpolation": "evil"}},
            "interpolation is 'evil' but should be one of nearest",
        ),
        ({"pretrained_cfg": {"interpolation": 3}}, "interpolation is 3"),
        ({"pretrained_cfg": {"crop_mode": "evil"}}, "crop_mode is 'evil'"),
        ({"pretrained_cfg": {"fixed_input_size": 1}}, "fixed_input_size is 1"),
    ],
)
def test_what_a_config_cannot_mean_is_refused_by_field_and_value(folder, change, words):
    (folder / "config.json").write_text(json.dumps(CONFIG | change))
    with pytest.raises(CorruptWeights, match=rf"config\.json: {words}"):
        loaded(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"num_classes": 1e400}', "1e400 is not a finite number"),
        ('{"num_classes": 12, "num_classes": 13}', "duplicate key 'num_classes'"),
        ("\ufeff{}", "BOM"),
        ('{"architecture": "a\0b"}', "Invalid control character"),
        ('{"num_classes": ' + "9" * 5000 + "}", "digits"),
        (" " * (65 * 2**20), "bytes, at most"),
    ],
)
def test_what_is_no_json_is_refused(folder, text, words):
    (folder / "config.json").write_text(text)
    with pytest.raises(CorruptWeights, match=rf"config\.json: .*{words}"):
        loaded(folder)


@pytest.mark.parametrize("classes", [12, 5])
def test_a_folder_cannot_ask_for_fewer_tensors_than_the_network_has(folder, classes):
    lost = "layer2.1.conv2.weight"
    kept = {name: tensor for name, tensor in load_file(BUNDLED / "model.safetensors").items() if name != lost}
    save_file(kept, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG | {"model_args": {"pretrained_strict": False}}))
    with pytest.raises(CorruptWeights, match=rf"model\.safetensors: missing tensors: {lost}"):
        models._built(weights.from_folder(folder, "given folder"), num_classes=classes)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(CorruptWeights, match="Missing key"):
        models._built(weights.from_folder(folder, "given folder"), num_classes=classes)


def test_a_start_with_another_head_has_all_else_from_the_file(folder):
    torch.manual_seed(3)
    model = models._built(weights.from_folder(folder, "given folder"), num_classes=5)
    torch.manual_seed(3)
    plain = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=5)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), plain.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("dtype", "taken"), [(torch.float64, True), (torch.bfloat16, True), (torch.float16, True), (torch.int8, False)]
)
def test_tensors_of_another_kind_of_number(folder, dtype, taken):
    whole = load_file(BUNDLED / "model.safetensors")
    save_file({**whole, "fc.weight": whole["fc.weight"].to(dtype)}, folder / "model.safetensors")
    if taken:
        assert loaded(folder).state_dict()["fc.weight"].dtype == torch.float32
    else:
        with pytest.raises(CorruptWeights, match=r"fc\.weight has dtype I8 but should be floating point"):
            loaded(folder)


def test_a_pickle_that_is_called_safetensors_is_refused(folder, monkeypatch):
    torch.save(load_file(BUNDLED / "model.safetensors"), folder / "model.safetensors")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(CorruptWeights, match=r"model\.safetensors"):
        loaded(folder)


def tensors(header: Any, data: bytes = bytes(64), length: int | None = None) -> bytes:
    """A safetensors file with this header, and the length that it says it has."""
    meta = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(meta) if length is None else length) + meta + data


def entry(start: int = 0, end: int = 48, **changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [12, 1], "data_offsets": [start, end]} | changes


HEADERS: Mapping[str, bytes] = {
    "empty": b"",
    "short": b"\x08",
    "huge length": tensors({}, length=2**63),
    "longest length": tensors({}, length=2**64 - 1),
    "longer than the file": tensors({}, length=10_000),
    "overlapping": tensors({"a": entry(), "b": entry(8, 56)}),
    "beyond the end": tensors({"a": entry(0, 2**40)}),
    "backwards": tensors({"a": entry(48, 0)}),
    "negative": tensors({"a": entry(-48, 0)}),
    "bad dtype": tensors({"a": entry(dtype="F99")}),
    "object dtype": tensors({"a": entry(dtype="O")}),
    "huge shape": tensors({"a": entry(shape=[2**40, 2**40])}),
    "negative shape": tensors({"a": entry(shape=[-12, -1])}),
    "gap": tensors({"a": entry(16, 64)}),
    "nan": tensors(b'{"a": NaN}'),
    "no json": tensors(b"\xff\xfe{"),
    "deep": tensors(b"[" * 50_000),
    "twice": tensors(b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a":{}}'),
    "other names": tensors({"a": entry()}, bytes(48)),
    "no tensors": tensors({}, b""),
    "pickle": b"\x80\x04c__builtin__\nexec\n(S'raise SystemExit'\ntR.",
    "zip": b"PK\x03\x04" + bytes(60),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies_is_refused(folder, name):
    (folder / "model.safetensors").write_bytes(HEADERS[name])
    with pytest.raises(CorruptWeights, match=r"model\.safetensors"):
        loaded(folder)


def test_a_head_of_the_size_that_a_config_says_is_not_even_made(folder, monkeypatch):
    (folder / "config.json").write_text(json.dumps(CONFIG | {"num_classes": 999_999}))
    monkeypatch.setattr("dctkd_zoo.models.timm.create_model", None)
    with pytest.raises(CorruptWeights, match="says 999,999 classes, but no tensor has that many rows"):
        loaded(folder)


@given(st.binary(max_size=200))
@example(b"a  model.safetensors\nb  config.json\n")
@example(b"\xff\xff")
def test_any_hashes_are_a_mismatch(folder, data):
    (folder / "SHA256SUMS").write_bytes(data)
    with pytest.raises(CorruptWeights, match=str(folder)):
        weights.from_folder(folder, "given folder")


@given(st.text(max_size=60), st.sampled_from(["train_log.csv", "recipe.json", "environment.json"]))
@example("epoch,test_top1,images_per_s\n1,,1\n", "train_log.csv")
@example("epoch,test_top1,images_per_s\n1,nan,1\n", "train_log.csv")
@example("epoch,test_top1,images_per_s\n", "train_log.csv")
@example('{"recipe": 3}', "recipe.json")
@example('{"recipe": {"seed": "0"}}', "recipe.json")
@example("[" * 100_000, "recipe.json")
@example('{"teacher_cache": "2"}', "environment.json")
@example('{"device": 2}', "environment.json")
def test_what_training_left_is_read_or_refused(tmp_path, text, name):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    reads = {
        "train_log.csv": result_row.best_epoch,
        "recipe.json": result_row.training_seed,
        "environment.json": lambda folder: (result_row.views(folder), result_row.trained_on(folder)),
    }
    try:
        reads[name](tmp_path)
        run_folder.read_facts(tmp_path / "recipe.json")
    except CorruptFile as error:
        assert str(tmp_path / name) in str(error) and "copy it again" in str(error)


def resaved(path: Path, **changes: np.ndarray) -> None:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files} | changes
    np.savez_compressed(path, **arrays)


@given(JSON)
def test_a_kept_table_of_any_facts_is_whole_or_measured_anew(tmp_path, value):
    path = tmp_path / "t.npz"
    cache.write(measured(), path)
    resaved(path, told=np.array(json.dumps(value)))
    result = cache.read(path)
    assert result is None or isinstance(result.facts, dict)


def test_a_kept_table_with_objects_is_measured_anew(tmp_path, caplog):
    path = tmp_path / "t.npz"
    cache.write(measured(), path)
    resaved(path, **{"column id": np.array([{"a": 1}, None], dtype=object)})
    assert cache.read(path) is None and "is damaged" in caplog.text


# --- lists of images

KNOWN = ["a/x.jpg", "../secret.jpg", "/etc/passwd.jpg", "b", "", "a/x.jpg b", "\\x.jpg a", "C:x.jpg a"]
LINES = st.lists(st.sampled_from(KNOWN) | st.text(max_size=12), max_size=4)
FILES = {
    "lists": ("train.txt", "scene_names.txt"),
    "mit67": ("TrainImages.txt", "TestImages.txt"),
    "sun397": ("ClassName.txt", "Training_01.txt"),
    "ade20k": ("sceneCategories.txt",),
    "cifar100": ("cifar-100-binary/train.bin", "cifar-100-binary/fine_label_names.txt"),
}


@given(st.sampled_from(sorted(FILES)), st.lists(LINES, min_size=2, max_size=2))
@example("lists", [["../secret.jpg secret"], ["secret"]])
def test_lists_of_any_lines_lead_nowhere_else(tmp_path, source, told):
    root = tmp_path / "data"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    for name, lines in zip(FILES[source], told, strict=False):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("\n".join(lines), encoding="utf-8", newline="")
    before = snapshot(tmp_path)
    try:
        split = discover.load(sources.__name__, source).read(root, "train")
    except DatasetError as error:
        assert str(root) in str(error)
    else:
        home = root.resolve()
        assert all((root / name).resolve().is_relative_to(home) for name in split.ids)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("path", ["../a.jpg", "/a.jpg", "a/../../b.jpg", "C:\\a.jpg", "\\a.jpg", "a\\..\\..\\b.jpg"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, path):
    with pytest.raises(DatasetError, match="1 names lead out of this folder"):
        filelist.labelled(tmp_path, [(path, "a")], ["a"])


def test_a_name_that_is_no_text_is_refused(tmp_path):
    for row in (("a/\udcff.jpg", "a"), ("a/x.jpg", "\udcff")):
        with pytest.raises(DatasetError, match="1 names are not UTF-8, rename them"):
            filelist.labelled(tmp_path, [row], ["a", "\udcff"])


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "a/" * 3000])
def test_a_name_that_no_disk_takes_is_missing(tmp_path, name):
    assert filelist.absent(tmp_path, [f"{name}/x.jpg"]) == [f"{name}/x.jpg"]


# --- what is no regular file, and metadata of any type


@pytest.fixture
def never(tmp_path):
    """A folder of data whose one class has an image and a pipe that nobody writes to."""
    for part, colour in (("train", "red"), ("test", "blue")):
        (tmp_path / "pipes" / part / "a").mkdir(parents=True)
        Image.new("RGB", (20, 20), colour).save(tmp_path / "pipes" / part / "a" / "1.png")
    os.mkfifo(tmp_path / "pipes" / "train" / "a" / "2.png")
    return tmp_path


PIPES = Dataset("pipes", "Pipes", "folders", num_classes=1, train=2, test=1)


def test_a_pipe_among_the_images_is_named_and_not_waited_for(never, monkeypatch):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(never / "home"))
    splits = load.load(PIPES, never)
    with pytest.raises(Unreadable, match=r"2\.png: cannot be read: not a regular file but a named pipe"):
        fingerprint.fingerprints(splits["train"])
    result = validate.check(PIPES, load.read(PIPES, never))
    (fault,) = (item for item in result.findings if item.severity == "error")
    assert fault.what == "train images that cannot be read" and "a named pipe" in fault.first[0]


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link", "huge", "socket"])
def test_what_is_no_regular_file_is_a_failure_of_predict(tmp_path, monkeypatch, capsys, kind):
    path = tmp_path / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path = tmp_path / "nothing"
        path.mkdir()
    elif kind == "link":
        path.symlink_to(path)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(2**40)
    else:
        monkeypatch.chdir(tmp_path)  # for their paths may not be long
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    whole = tmp_path / "whole.png"
    Image.new("RGB", (40, 40)).save(whole)
    assert cli(["predict", "r20_synthscenes", str(path), str(whole), "--json"]) == 1
    meta = json.loads(capsys.readouterr().out)
    assert [item["path"] for item in meta["images"]] == [str(whole)]
    assert [item["path"] for item in meta["failed"]] == [str(path)]
    words = {
        "pipe": "not a regular file but a named pipe",
        "device": "not a regular file but a device",
        "folder": "no image in this folder",
        "link": "Too many levels of symbolic links",
        "huge": "1,099,511,627,776 bytes, at most",
        "socket": "No such device or address",
    }
    assert words[kind] in meta["failed"][0]["error"]


@pytest.mark.parametrize("source", ["lists", "mit67", "sun397", "ade20k", "cifar100", "wds"])
def test_a_pipe_in_place_of_a_list_is_named(tmp_path, source):
    for name in (*FILES.get(source, ()), "train-0.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        os.mkfifo(tmp_path / name)
    with pytest.raises(DatasetError, match=str(tmp_path)):
        discover.load(sources.__name__, source).read(tmp_path, "train")


def tarred(path: Path, label: bytes, kind: str = "json") -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in (("0.png", b"x"), (f"0.{kind}", label)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


LABELS = [
    b"null", b"[]", b"3", b"{}", b'{"label": null}', b'{"label": [1]}', b'{"label": 1e400}', b'{"label": 1.5}',
    b'{"label": {}}', b'{"label": true}', b'{"label": "x"}', b'{"label": -1}', b'{"label": NaN}', b"[" * 100_000,
    b'{"label": 1' + b"0" * 30 + b"}", b"\xff", b"", b'{"label": "\xd9\xa3"}',
]  # fmt: skip


@pytest.mark.parametrize("label", LABELS, ids=lambda label: label[:20].decode(errors="replace"))
def test_a_label_of_another_type_is_refused_by_the_name_of_its_tar(tmp_path, monkeypatch, label):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    tarred(tmp_path / "train-0.tar", label)
    with pytest.raises(DatasetError, match=r"train-0\.tar: sample 0"):
        wds.read(tmp_path, "train")


@pytest.mark.parametrize("source", ["wds", "hfds"])
def test_labels_that_are_ids_allocate_nothing(tmp_path, monkeypatch, source):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    if source == "wds":
        tarred(tmp_path / "set" / "train-0.tar", b"3000000000", "cls")
    else:
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
        rows = {"image": [{"bytes": b"x", "path": None}], "label": [3_000_000_000]}
        (tmp_path / "set").mkdir()
        kinds = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
        datasets.Dataset.from_dict(rows, features=kinds).to_parquet(tmp_path / "set" / "train.parquet")
    tracemalloc.start()
    with pytest.raises(DatasetError, match="the label 3,000,000,000 is not a class number"):
        discover.load(sources.__name__, source).read(tmp_path / "set", "train")
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


@pytest.mark.parametrize(("label", "kind"), [(None, "int64"), (1.5, "float64"), (True, "bool"), ("a", "string")])
def test_a_label_of_another_type_in_a_table_is_refused(tmp_path, monkeypatch, label, kind):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    (tmp_path / "set").mkdir()
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.Value(kind)})
    rows = {"image": [{"bytes": b"x", "path": None}], "label": [label]}
    datasets.Dataset.from_dict(rows, features=kinds).to_parquet(tmp_path / "set" / "train.parquet")
    with pytest.raises(DatasetError, match=f"the label is {label!r}, not a whole number"):
        discover.load(sources.__name__, "hfds").read(tmp_path / "set", "train")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (None, "not an object"),
        ([], "not an object"),
        ({"splits": None}, "its splits are None"),
        ({"splits": {"train": {"filenames": None}}}, "the filenames of train are None"),
        ({"splits": {"train": {"filenames": [3]}}}, r"the filenames of train are \[3\]"),
        ({"splits": {"train": None}}, "the filenames of train are None"),
        ({"splits": {"validation": {"filenames": ["a.tar"]}}}, "has no split train; its splits: validation"),
        ({"splits": {"train": {"filenames": ["../out.tar"]}}}, "1 names lead out of this folder"),
        ({"splits": {"train": {"filenames": ["/etc/out.tar"]}}}, "1 names lead out of this folder"),
        ({"splits": {"train": {"filenames": ["in/../../out.tar"]}}}, "1 names lead out of this folder"),
    ],
)
def test_an_info_of_any_shape_leads_nowhere_else(tmp_path, told, message):
    tarred(tmp_path / "a.tar", b"0", "cls")
    (tmp_path / "_info.json").write_text(json.dumps(told))
    with pytest.raises(DatasetError, match=message):
        wds.read(tmp_path, "train")
