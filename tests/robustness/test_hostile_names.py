"""Names, patterns and catalog files of any shape: an answer, or an error that holds the value."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dctkd_zoo import registry, weights
from dctkd_zoo.__main__ import main
from dctkd_zoo.errors import CatalogError, DatasetError, UnknownEntry, WeightsNotFound, ZooError
from dctkd_zoo.schedules import Cosine, MultiStep, Step
from dctkd_zoo.spec import Archive, Dataset, Entry, Recipe

RECIPE = Recipe(epochs=1, batch_size=1, lr=0.1, schedule=Step(1), resize=8, crop=8)
MINE = Dataset("mine", "Mine", "folders", 2, 2, 2)
NAMES = st.one_of(
    st.text(),
    st.text(alphabet="r18_dctk.ade20k*?[]!-^\\/"),
    st.from_regex(r"[a-z0-9_.*?\[\]!-]{0,20}", fullmatch=True),
    st.sampled_from(["*" * 50 + "b", "[" * 100, "[!]", "[z-a]*", "a\0b", "\udcff", "../../etc/passwd", "r18*" * 200]),
)
# What somebody may write in place of any field.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(
        st.text(max_size=5), inner, max_size=3
    ),
    max_leaves=4,
)  # fmt: skip


@pytest.fixture(autouse=True)
def zoo(monkeypatch) -> Iterator[None]:
    """The zoo's own catalog, and none of a test's afterwards."""
    monkeypatch.setattr(registry, "_MODULES", [])
    registry._bundled_and_included.cache_clear()
    yield
    registry._bundled_and_included.cache_clear()


@given(NAMES)
@example("²")
@example("r" + "9" * 5000)
def test_any_name_is_an_entry_or_unknown(name):
    assert registry.natural_key(name) <= registry.natural_key(name)
    assert set(registry.find(name)) <= set(registry.entries())
    try:
        assert registry.get_entry(name).name == name
    except UnknownEntry as error:
        assert repr(name) in str(error)
    try:
        assert registry.resolve([name])
    except UnknownEntry as error:
        assert repr(name) in str(error)
    try:
        assert registry.get_dataset(name).name == name
    except DatasetError as error:
        assert repr(name) in str(error)


def test_natural_order_is_that_of_the_numbers():
    assert sorted(sorted(map(str, range(200))), key=registry.natural_key) == list(map(str, range(200)))


@given(NAMES | st.sampled_from(["~nobody-is-called-so", "x" * 5000, "local-dir:" + "y/" * 5000, "local-dir:a\0b"]))
def test_any_place_of_weights_is_refused_without_a_request(source):
    for item in (source.removeprefix("hf-hub:"), f"hf-hub:org/name@../{source}", f"local-dir:{source}"):
        with pytest.raises(WeightsNotFound):
            weights.locate(item)


@given(NAMES)
def test_the_commands_end_with_a_message(name):
    try:
        assert main(["info", f"x{name}"]) in (1, 2)
    except SystemExit as stop:
        assert stop.code == 2


KINDS = (Recipe, Dataset, Entry, Step, MultiStep, Cosine, Archive)
WHOLE: Mapping[type, Any] = {
    Recipe: RECIPE,
    Dataset: MINE,
    Entry: Entry("r18_mine", RECIPE, {"ce": 1.0}),
    Step: Step(1),
    MultiStep: MultiStep((1,)),
    Cosine: Cosine(),
    Archive: Archive("https://x/y.zip"),
}


@given(st.sampled_from(KINDS), st.data(), VALUES)
def test_a_field_of_another_type_is_refused_by_name(kind, data, value):
    name = data.draw(st.sampled_from([field.name for field in dataclasses.fields(kind)]))
    try:
        made = dataclasses.replace(WHOLE[kind], **{name: value})
    except (TypeError, ValueError) as error:
        assert str(error)
        return
    if kind is Entry:
        assert made.to_dict()["name"] == made.name
    if hasattr(made, "factor"):
        assert isinstance(made.factor(0.5, 10), float | int)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (Recipe, {"epochs": "70"}, "Recipe: epochs is '70' but should be int"),
        (Recipe, {"epochs": True}, "Recipe: epochs is True"),
        (Recipe, {"epochs": 0}, "epochs is 0 but should be above 0"),
        (Recipe, {"lr": float("nan")}, "lr is nan"),
        (Recipe, {"schedule": "cosine"}, "schedule is 'cosine'"),
        (Recipe, {"pad": 8, "pad_mode": "reflect"}, "pad 8 is negative, or too large to reflect"),
        (Recipe, {"lr": -0.1}, "lr -0.1 is negative"),
        (Recipe, {"momentum": 1.0}, r"momentum 1\.0 is not in \[0, 1\)"),
        (Recipe, {"weight_decay": -1e-4}, "weight_decay -0.0001"),
        (Recipe, {"seed": -1}, "seed -1 is negative"),
        (Recipe, {"nesterov": True, "momentum": 0.0}, "nesterov needs a momentum"),
        (Recipe, {"pad_mode": "evil"}, "pad_mode 'evil' is none of"),
        (Step, {"every": 0}, "every is 0"),
        (MultiStep, {"gamma": 0.0}, "gamma is 0.0"),
        (Cosine, {"warmup": 1.0}, "warmup 1.0 is not a fraction"),
        (Dataset, {"mean": [0.5, 0.5, 0.5]}, "mean is"),
        (Dataset, {"std": (0.0, 1.0, 1.0)}, "std above 0"),
        (Dataset, {"name": "../../x"}, "is not a dataset name"),
        (Dataset, {"num_classes": 0}, "needs at least one class"),
        (Entry, {"weights": {"ce": float("inf")}}, "weights is"),
        (Entry, {"weights": {"ce": -1.0}}, "negative weights: {'ce': -1.0}"),
        (Entry, {"recipe": None}, "recipe is None but should be Recipe"),
        (Entry, {"options": {"ce": {"x": object()}}}, "options that JSON cannot represent"),
    ],
)
def test_wrong_facts_are_refused_with_what_is_due(kind, change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        dataclasses.replace(WHOLE[kind], **change)


CATALOG = """
import dataclasses
from dctkd_zoo.spec import *
R = Recipe(epochs=1, batch_size=1, lr=0.1, schedule=Step(1), resize=8, crop=8)
DATASET = Dataset("mine", "Mine", "folders", 2, 2, 2)
def student(name, teacher):
    return Entry(name, R, {"ce": 1.0, "kd": 1.0}, teacher)
def begun(name, start):
    return Entry(name, dataclasses.replace(R, pretrained=f"entry:{start}"), {"ce": 1.0})
"""
CIRCLE = 'ENTRIES = (student("r18_kd_mine", "r34_kd_mine"), student("r34_kd_mine", "r18_kd_mine"))'
CHAIN = """ENTRIES = (Entry("r18_mine.t0", R, {"ce": 1.0}),) + tuple(
    student(f"r18_kd_mine.t{n}" , f"r18_kd_mine.t{n - 1}" if n > 1 else "r18_mine.t0") for n in range(1, 3000)
)"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CIRCLE, "entries depend on each other: r18_kd_mine <- r34_kd_mine <- r18_kd_mine"),
        ('ENTRIES = (student("r18_kd_mine", "r18_kd_mine"),)', "depend on each other: r18_kd_mine <- r18_kd_mine"),
        ('ENTRIES = (begun("r18_mine", "r18_mine"),)', "depend on each other: r18_mine <- r18_mine"),
        ('ENTRIES = (begun("r18_mine", "r18_other"),)', "r18_mine: starts from 'r18_other', which is not an entry of"),
        ('ENTRIES = (begun("r18_mine", ""),)', "r18_mine: starts from '', which is not an entry of"),
        (
            'ENTRIES = (begun("r18_mine", "r34_ade20k"),)',
            "r18_mine: starts from 'r34_ade20k', which is not an entry of",
        ),
        (
            'ENTRIES = (dataclasses.replace(begun("r18_mine", "r18_ade20k"), teacher="r34_ade20k"),)',
            "r18_mine: has a teacher and starts from the entry r18_ade20k.*local-dir:PATH",
        ),
        ("ENTRIES = None", "ENTRIES is None but should be"),
        ("ENTRIES = (1,)", "ENTRIES is"),
        ("ENTRIES = (e for e in ())", "ENTRIES is <generator"),
        ("ENTRIES = ()\nARCHS = ['a']", "ARCHS is"),
        ("ENTRIES = ()\nDATASET = 'mine'", "DATASET is 'mine'"),
        ('ENTRIES = (student("r18_kd_mine", 5),)', "teacher is 5"),
        ("ENTRIES = (", "SyntaxError"),
        ("\0", "null bytes|SyntaxError"),
        ("def f(): f()\nf()", "RecursionError"),
        ("ENTRIES = ()\nDATASET = Dataset('ade20k', 'x', 'folders', 1, 1, 1)", "two datasets are called 'ade20k'"),
    ],
)
def test_a_catalog_file_that_does_not_hold_together_is_refused(tmp_path, text, message):
    (tmp_path / "mine.py").write_text(CATALOG + text)
    with pytest.raises(CatalogError, match=message) as caught:
        registry.include(tmp_path / "mine.py")
    assert str(tmp_path / "mine.py") in str(caught.value)
    assert "mine" not in registry.datasets()


def test_a_long_line_of_teachers_is_no_recursion(tmp_path):
    (tmp_path / "mine.py").write_text(CATALOG + CHAIN)
    registry.include(tmp_path / "mine.py")
    names = [name for name in registry.entries() if name.startswith("r18") and "_mine" in name]
    assert registry.teachers_first(reversed(names)) == names


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="surrogatepass")))
def test_a_catalog_file_of_any_bytes_is_refused(tmp_path, data):
    (tmp_path / "mine.py").write_bytes(b"(" + data)
    with pytest.raises(ZooError):
        registry.include(tmp_path / "mine.py")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("raise SystemExit", "SystemExit"),
        ("class Strange(BaseException): pass\nraise Strange('a\\nb')", "Strange: a b"),
        ("def f(:", "SyntaxError: "),
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named"),
    ],
)
def test_a_catalog_file_that_ends_the_program_is_one_line(tmp_path, capsys, text, told):
    (tmp_path / "mine.py").write_text(text)
    assert main(["list", "--catalog", str(tmp_path / "mine.py")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path / 'mine.py'}: {told}")


def test_stopping_a_catalog_file_stops_the_command(tmp_path):
    (tmp_path / "mine.py").write_text("raise KeyboardInterrupt")
    assert main(["list", "--catalog", str(tmp_path / "mine.py")]) == 130


def test_a_large_catalog_is_looked_through_once(tmp_path, monkeypatch):
    """Each entry of a long line of teachers is come to once, not once for each that rests on it."""
    asked = [0]

    def depends_on(entry: Entry) -> str | None:
        asked[0] += 1
        return entry.teacher or entry.start

    monkeypatch.setattr(Entry, "depends_on", property(depends_on))
    (tmp_path / "mine.py").write_text(CATALOG + CHAIN)
    registry.include(tmp_path / "mine.py")
    names = [name for name in registry.entries() if name.endswith(tuple("0123456789")) and "_mine" in name]
    assert registry.teachers_first(reversed(names)) == names
    assert len(names) == 3000 and asked[0] < 4 * len(registry.entries())
