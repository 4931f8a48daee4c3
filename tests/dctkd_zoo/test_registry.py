"""dctkd_zoo.registry, and `list_models` on top of it."""

import dataclasses

import pytest

import dctkd_zoo
from dctkd_zoo import registry, weights
from dctkd_zoo.errors import DatasetError, UnknownEntry, ZooError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """No weights anywhere: an empty cache, nothing bundled, nothing published."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(weights, "BUNDLED", tmp_path / "bundled")
    monkeypatch.setattr(weights, "published", dict)
    return tmp_path / "home"


def whole(folder):
    """A folder that looks like an exported network."""
    folder.mkdir(parents=True)
    for file in (weights.WEIGHTS, weights.CONFIG, weights.HASHES):
        (folder / file).touch()


class TestEntry:
    def test_by_name(self):
        entry = dctkd_zoo.get_entry("r18_dctkd_kd_ade20k")
        assert (entry.arch, entry.terms, entry.dataset, entry.teacher) == (
            "r18",
            ("dctkd", "kd"),
            "ade20k",
            "r50_ade20k",
        )

    def test_unknown_name_shows_the_close_ones(self):
        with pytest.raises(KeyError) as caught:
            dctkd_zoo.get_entry("r18_dctkd_ade2k")
        assert isinstance(caught.value, UnknownEntry) and isinstance(caught.value, ZooError)
        message = str(caught.value)
        assert message.startswith("unknown entry 'r18_dctkd_ade2k'; did you mean r18_dctkd_ade20k")
        assert "python -m dctkd_zoo list" in message

    def test_name_that_is_close_to_none(self):
        with pytest.raises(UnknownEntry, match=r"unknown entry 'zzz'\. `python -m dctkd_zoo list` shows all"):
            dctkd_zoo.get_entry("zzz")

    def test_unknown_dataset(self):
        with pytest.raises(DatasetError, match=r"unknown dataset 'imagenet'; available: .*ade20k"):
            registry.get_dataset("imagenet")

    def test_tables_cannot_be_changed(self):
        with pytest.raises(TypeError):
            registry.entries()["r18_mine"] = None  # type: ignore[index]
        with pytest.raises(TypeError):
            registry.datasets()["mine"] = None  # type: ignore[index]


class TestFind:
    def test_everything(self):
        names = dctkd_zoo.list_models()
        assert len(names) == len(set(names)) == len(registry.entries())
        assert set(names) == set(registry.entries())

    def test_pattern(self):
        names = dctkd_zoo.list_models("r18*ade20k")
        assert "r18_ade20k" in names and "r18_dctkd_kd_ade20k" in names
        assert all(name.startswith("r18_") and name.endswith("ade20k") for name in names)
        assert dctkd_zoo.list_models("r18_dctkd_ade20k") == ["r18_dctkd_ade20k"]
        assert "r18_dctkd_scene15.abs" in dctkd_zoo.list_models("*.abs")
        assert dctkd_zoo.list_models("r99*") == []

    def test_natural_order(self):
        archs = [registry.get_entry(name).arch for name in dctkd_zoo.list_models()]
        numbers = [int(arch[1:].split("x")[0]) for arch in archs if arch[0] == "r"]
        assert numbers == sorted(numbers) and {8, 18, 152} <= set(numbers)
        assert sorted(["r110_a", "r8x4_a", "r20_a", "mbv2_a", "r8_a"], key=registry.natural_key) == [
            "mbv2_a",
            "r8_a",
            "r8x4_a",
            "r20_a",
            "r110_a",
        ]

    def test_dataset(self):
        names = dctkd_zoo.list_models("r18*", dataset="mit67")
        assert names and {registry.get_entry(name).dataset for name in names} == {"mit67"}
        by_dataset = [dctkd_zoo.list_models(dataset=name) for name in registry.datasets()]
        assert sum(map(len, by_dataset)) == len(registry.entries())
        with pytest.raises(DatasetError, match="unknown dataset 'mit'"):
            dctkd_zoo.list_models(dataset="mit")

    def test_pretrained_is_what_can_be_had_now(self, tmp_path, home, monkeypatch):
        assert dctkd_zoo.list_models(pretrained=True) == []
        whole(tmp_path / "bundled" / "r20_synthscenes")
        whole(home / "checkpoints" / "r8_synthscenes")
        whole(home / "checkpoints" / "r56_synthscenes")
        (home / "checkpoints" / "r56_synthscenes" / weights.HASHES).unlink()  # an export that never ended
        monkeypatch.setattr(weights, "published", lambda: {"r152_ade20k": {}})
        assert dctkd_zoo.list_models(pretrained=True) == ["r8_synthscenes", "r20_synthscenes", "r152_ade20k"]
        assert dctkd_zoo.list_models("r8*", pretrained=True) == ["r8_synthscenes"]
        assert dctkd_zoo.list_models(dataset="ade20k", pretrained=True) == ["r152_ade20k"]


class TestResolve:
    def test_names_and_patterns_each_once(self):
        names = registry.resolve(["r20_synthscenes", "r20*synthscenes", "r8_synthscenes"])
        assert names[0] == "r20_synthscenes" and names[-1] == "r8_synthscenes"
        assert len(names) == len(set(names)) and "r20_dctkd_synthscenes" in names

    @pytest.mark.parametrize("pattern", ["r99*", "r20_synthscene"])
    def test_what_matches_nothing(self, pattern):
        with pytest.raises(UnknownEntry, match=f"unknown entry '{pattern.replace('*', '.')}"):
            registry.resolve(["r20_synthscenes", pattern])

    def test_nothing(self):
        assert registry.resolve([]) == []


class TestTeachers:
    def test_teachers_first(self):
        every = list(registry.entries())
        for names in (every, every[::-1], sorted(every)):
            ordered = registry.teachers_first(names)
            path = {name: index for index, name in enumerate(ordered)}
            assert sorted(ordered) == sorted(names)
            for name in names:
                needed = registry.get_entry(name).depends_on
                assert needed is None or path[needed] < path[name]

    def test_order_is_kept_otherwise(self):
        assert registry.teachers_first(["r8_dctkd_synthscenes", "r20_kd_synthscenes", "r56_synthscenes"]) == [
            "r56_synthscenes",
            "r8_dctkd_synthscenes",
            "r20_kd_synthscenes",
        ]

    def test_distilled(self):
        students = registry.distilled("r56_synthscenes")
        assert "r20_dctkd_synthscenes" in students and "r20_synthscenes" not in students
        assert registry.distilled("r20_synthscenes") == []


class TestPackage:
    def test_everything_it_offers_is_there(self):
        assert all(hasattr(dctkd_zoo, name) for name in dctkd_zoo.__all__)
        with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
            dctkd_zoo.nonsense  # noqa: B018


def test_a_baseline_is_as_long_as_the_student_and_may_not_exist():
    short, long = (registry.get_entry(f"r20_dctkd_synthscenes{variant}") for variant in ("", ".long"))
    assert registry.baseline(short) == "r20_synthscenes" and registry.baseline(long) == "r20_synthscenes.long"
    on_step_end = dataclasses.replace(short, recipe=dataclasses.replace(short.recipe, epochs=9))
    assert registry.baseline(on_step_end) == "r20_synthscenes", "none is as long"
    assert registry.baseline(dataclasses.replace(short, name="r56_dctkd_mit67", teacher="r50_mit67")) is None
