"""dctkd_zoo.weights.licence and weights.portable: what weights may be given, and what leaves this machine."""

import json
from dataclasses import replace

import pytest

from dctkd_zoo import registry, weights
from dctkd_zoo.errors import ZooError
from dctkd_zoo.schedules import Step
from dctkd_zoo.spec import Dataset, Entry, Recipe
from dctkd_zoo.weights import licence

RECIPE = Recipe(epochs=1, batch_size=8, lr=0.1, schedule=Step(1), resize=18, crop=16)


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """An entry that starts from a folder of some licence, on images of some licence."""

    def make(start="none", data="CC0-1.0", stated=None):
        known = Dataset("bees", "Bees", "folders", 3, 3, 3, license=data)
        monkeypatch.setattr(registry, "get_dataset", lambda name: known)
        pretrained = None
        if start != "none":
            folder = tmp_path / "home" / "start"
            folder.mkdir(parents=True)
            config = {"architecture": "resnet8_cifar", "pretrained_cfg": {"license": start}}
            (folder / weights.CONFIG).write_text(json.dumps(config))
            (folder / weights.WEIGHTS).write_bytes(b"")
            pretrained = f"local-dir:{folder}"
        return Entry("r8_bees", replace(RECIPE, pretrained=pretrained), {"ce": 1.0}, license=stated)

    return make


@pytest.mark.parametrize(
    ("start", "data", "stated", "expected"),
    [
        ("none", "Apache-2.0", None, "apache-2.0"),
        ("none", "CC BY 4.0", None, "apache-2.0"),
        ("none", "unknown", "MIT", "mit"),
        ("none", "cc-by-nc-4.0", "cc-by-nc-4.0", "cc-by-nc-4.0"),
        ("bsd-3-clause", "CC0-1.0", None, "bsd-3-clause"),
        ("MIT", "CC0-1.0", "apache-2.0", "apache-2.0"),
        ("cc-by-nc-4.0", "CC0-1.0", "CC BY-NC 4.0", "cc-by-nc-4.0"),
        (None, "CC0-1.0", "apache-2.0", "apache-2.0"),
    ],
)
def test_what_weights_are_given(entry, start, data, stated, expected):
    assert licence.of_weights(entry(start, data, stated)) == expected


@pytest.mark.parametrize(
    ("start", "data", "stated", "said"),
    [
        ("none", "unknown", None, "the licence of Bees, which r8_bees was trained on, is unknown"),
        ("none", "cc-by-nc-4.0", None, "is 'cc-by-nc-4.0', which says nothing about weights"),
        ("bsd-3-clause", "cc-by-nc-4.0", None, "is 'cc-by-nc-4.0', which says nothing about weights"),
        (None, "CC0-1.0", None, r"local-dir:start@\w{8}, whose licence is unknown: state the licence of the weights"),
        ("cc-by-nc-4.0", "CC0-1.0", None, "under cc-by-nc-4.0, which does not allow apache-2.0"),
        ("cc-by-nc-4.0", "CC0-1.0", "apache-2.0", "under cc-by-nc-4.0, which does not allow apache-2.0"),
        ("cc-by-sa-4.0", "CC0-1.0", "mit", "under cc-by-sa-4.0, which does not allow mit"),
        ("cc-by-nd-4.0", "CC0-1.0", "cc-by-nd-4.0", "which forbids distributing derived weights"),
    ],
)
def test_what_is_refused(entry, start, data, stated, said):
    with pytest.raises(ZooError, match=said):
        licence.of_weights(entry(start, data, stated))


def test_what_training_noted_of_the_start_holds_where_that_is_gone(entry):
    gone = replace(entry(stated="apache-2.0"), recipe=replace(RECIPE, pretrained="local-dir:/nowhere/start"))
    assert licence.of_start(gone) is None
    with pytest.raises(ZooError, match="under cc-by-nc"):
        licence.of_weights(gone, "cc-by-nc-4.0")


def test_of_timms_own_weights_timm_knows_the_licence(entry):
    tagged = replace(entry(), name="r18_bees", recipe=replace(RECIPE, pretrained="tv_in1k"))
    assert licence.of_start(tagged) == licence.of_weights(tagged) == "bsd-3-clause"
    assert licence.of_start(replace(tagged, recipe=replace(RECIPE, pretrained="no_such_tag"))) is None


@pytest.mark.parametrize(
    ("path", "last"),
    [
        ("local-dir:/home/ada/start", "local-dir:start@"),
        ("local-dir:runs/start/", "local-dir:start@"),
        ("local-dir:C:\\\\Users\\\\ada\\\\start", "local-dir:start@"),
        ("/home/ada/a list.txt", "a list.txt@"),
        ("~/start", "start@"),
    ],
)
def test_of_a_path_the_last_folder_leaves_this_machine(path, last):
    meta = weights.portable({"a": [path], "b": {"c": path}})
    assert meta["a"] == [meta["b"]["c"]] and meta["a"][0].startswith(last)
    assert weights.portable(meta) == meta and weights.portable(f"{path}2") != meta["a"][0]


@pytest.mark.parametrize("words", ["local-dir:start", "hf-hub:org/name@v1", "entry:r50_mit67", "cpu (AVX2)", 3])
def test_what_is_no_path_stays(words):
    assert weights.portable(words) == words


def test_a_recipe_from_before_paths_were_left_out_is_the_same_recipe(entry, tmp_path):
    expected = entry("mit").to_dict()
    for meta in (expected, weights.portable(expected)):
        (tmp_path / "recipe.json").write_text(json.dumps(meta))
        assert weights.recipe_mismatch(tmp_path, expected) == []
    other = json.loads(json.dumps(expected).replace("/home/start", "/elsewhere/start"))
    assert weights.recipe_mismatch(tmp_path, other) == ["recipe"]
