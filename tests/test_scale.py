"""docs/scale.md says what benchmarks/scale.json measured, and what follows from it."""

import json
import re

import pytest

from benchmarks import scale, scale_page
from dctkd_zoo.data.pixel_cache import open_pixel_cache

FOUND = json.loads(scale.FOUND.read_text(encoding="utf-8"))


def test_the_page_is_up_to_date(capsys):
    assert scale_page.main(["--check"]) == 0, capsys.readouterr().out


def test_a_stale_page_is_told(monkeypatch, tmp_path, capsys):
    page = tmp_path / "scale.md"
    page.write_text(scale_page.PAGE.read_text(encoding="utf-8").replace(" images/s |", " img/s |"))
    monkeypatch.setattr(scale_page, "PAGE", page)
    assert scale_page.main(["--check"]) == 1 and "+| hashing the files" in capsys.readouterr().out
    assert scale_page.main([]) == 0 and scale_page.main(["--check"]) == 0


def test_places365_follows_from_the_figures():
    """By hand: 1,803,460 and 36,500 images of 256 x 256 x 3 bytes, 1,365 in a quarter of a gibibyte."""
    text = scale_page.places365(FOUND)
    assert "1,839,960 images: a store of 362 GB in 1,349 shards" in text
    (building,) = re.findall(r"building .*?\| ([\d.]+) h \| ([\d.]+) h", text)
    per_core = FOUND["built_per_core_s_1"]
    assert [float(hours) for hours in building] == pytest.approx(
        [1_839_960 / per_core / 3600 / cores for cores in (2, 16)], rel=0.06
    )


def test_a_small_run_measures_everything(tmp_path, monkeypatch):
    """No seconds are tested, but that every figure of the page is there."""
    monkeypatch.setattr(scale, "BATCHES", 2)
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(
        scale, "built", lambda folder, cache, processes: (scale.taking(lambda: build(folder, cache)), 1.0)
    )
    monkeypatch.setattr(scale, "limited_epoch", lambda folder, cache: FOUND["epoch"])

    def build(folder, cache):
        open_pixel_cache(scale.files(folder), scale.RECIPE, cache)

    (tmp_path / "work").mkdir()
    result = scale.measure(tmp_path / "work", 40, lambda words: None)
    assert set(result) | {"machine", "load"} == set(FOUND)
    assert result["store_bytes"] == 40 * 3 * 256 * 256 and result["shards"] == 1
    assert all(value > 0 for value in result.values() if isinstance(value, float))
