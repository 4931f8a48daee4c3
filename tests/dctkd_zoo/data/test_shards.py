"""Pixel stores in shards: built by several processes at once, killed, damaged, on disks that are full or closed."""

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dctkd_zoo.data import loader, shards
from dctkd_zoo.data import pixel_cache as stores
from dctkd_zoo.data.loader import CropParams, crop
from dctkd_zoo.data.pixel_cache import open_pixel_cache
from dctkd_zoo.data.split import Files, Split
from dctkd_zoo.errors import ZooError
from dctkd_zoo.schedules import Step
from dctkd_zoo.spec import Recipe

ROOT = Path(__file__).resolve().parents[3]
RECIPE = Recipe(epochs=1, batch_size=2, lr=0.1, schedule=Step(1), resize=16, crop=12)
COUNT, EACH = 23, 4  # images, and those of a shard: the last has three
SHARDS = 6
SQUARE = 3 * 16 * 16

# Builds the store of a folder of images in some processes at once, which tell their numbers and the shards they make.
BUILD = f"""
import os, sys, time
from pathlib import Path
import numpy as np
from dctkd_zoo.data import pixel_cache, shards
from dctkd_zoo.data.split import Files, Split
from dctkd_zoo.schedules import Step
from dctkd_zoo.spec import Recipe
folder, cache, pause, processes = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
shards.SIZE = {EACH * SQUARE}
write = pixel_cache._write
def told(split, known, recipe, shard, path):
    facts = write(split, known, recipe, shard, path)
    os.write(1, f"{{os.getpid()}} {{shard.stem.name}}\\n".encode())
    time.sleep(pause)
    return facts
pixel_cache._write = told
names = tuple(sorted(path.name for path in folder.iterdir()))
split = Split(("a", "b"), names, np.arange(len(names)) % 2, Files(folder, names))
recipe = Recipe(epochs=1, batch_size=2, lr=0.1, schedule=Step(1), resize=16, crop=12)
children = []
for _ in range(processes - 1):
    child = os.fork()
    if not child:
        children = []
        break
    children.append(child)
pixel_cache.open_pixel_cache(split, recipe, cache)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """Shards of a few images, and a cache of its own for each test."""
    monkeypatch.setattr(shards, "SIZE", EACH * SQUARE)
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))


@pytest.fixture
def split(tmp_path):
    """Images of noise of several shapes, one of which is broken."""
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for index in range(COUNT):
        pixels = rng.integers(0, 256, (16 + index % 5, 16 + index % 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    (folder / "09.png").write_bytes(b"no image")
    names = tuple(sorted(path.name for path in folder.iterdir()))
    return Split(("a", "b"), names, np.arange(COUNT) % 2, Files(folder, names))


@pytest.fixture
def whole(split, tmp_path):
    """The folder of a store that one process built."""
    open_pixel_cache(split, RECIPE, tmp_path / "one")
    return only(tmp_path / "one")


def only(cache):
    """The folder of the one store in a cache."""
    (folder,) = (cache / "stores").iterdir()
    return folder


def content(folder):
    """Bytes of all files of a store by name, without locks."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def builder(split, cache, pause=0.0, processes=1):
    """Other processes that build the store of `split`, and rest after each shard."""
    command = [sys.executable, "-c", BUILD, str(split.images.root), str(cache), str(pause), str(processes)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def made(monkeypatch):
    """Names of the shards that this process makes."""
    names, write = [], stores._write

    def told(split, known, recipe, shard, path):
        names.append(shard.stem.name)
        return write(split, known, recipe, shard, path)

    monkeypatch.setattr(stores, "_write", told)
    return names


class TestLayout:
    def test_a_store_is_cut_by_the_number_of_its_images(self, whole):
        names = [f"{number:05d}.{kind}" for number in range(SHARDS) for kind in ("bin", "json")]
        assert list(content(whole)) == names

    def test_shards_hold_what_one_file_would(self, split, tmp_path, monkeypatch):
        cut = open_pixel_cache(split, RECIPE, tmp_path / "one")
        monkeypatch.setattr(shards, "SIZE", 2**28)
        uncut = open_pixel_cache(split, RECIPE, tmp_path / "uncut")
        assert len(cut.pixels) == SHARDS and len(uncut.pixels) == 1
        assert torch.equal(torch.cat(cut.pixels), uncut.pixels[0]) and torch.equal(cut.offsets, uncut.offsets)
        assert cut.failed == uncut.failed and len(cut.failed) == 1 and cut.digest == uncut.digest

    def test_crops_of_shards_are_those_of_one_file(self, split, tmp_path):
        store = open_pixel_cache(split, RECIPE, tmp_path / "one")
        ids = torch.tensor([22, 0, 3, 4, 21, 8, 7, 4])
        zeros = torch.zeros(COUNT, dtype=torch.long)
        windows = CropParams(zeros + 2, zeros + 1, zeros.bool())
        one = replace(store, pixels=(torch.cat(store.pixels),))
        assert torch.equal(crop(store, ids, windows, 12), crop(one, ids, windows, 12))

    def test_what_lies_in_a_gpu_is_cropped_alike(self, split, tmp_path):
        """The gather that runs there, here."""
        store = open_pixel_cache(split, RECIPE, tmp_path / "one")
        whole = stores.joined(store.pixels, torch.device("cpu"))
        assert torch.equal(whole, torch.cat(store.pixels))
        ids = torch.tensor([22, 0, 5, 21])
        starts, widths = store.offsets[ids] + 3, store.widths[ids]
        gathered = loader._gathered(whole, starts, widths, 12)
        assert torch.equal(gathered, loader._copied(store.pixels, starts, widths, 12))

    @pytest.mark.parametrize(
        ("count", "resize", "expected"), [(50_000, 40, 1), (20_210, 256, 15), (1_803_460, 256, 1322)]
    )
    def test_a_shard_has_a_quarter_of_a_gibibyte_of_squares(self, count, resize, expected, monkeypatch):
        monkeypatch.setattr(shards, "SIZE", 2**28)
        parts = shards.layout(Path("x"), count, replace(RECIPE, resize=resize))
        assert len(parts) == expected and max(len(part.images) for part in parts) * 3 * resize**2 <= 2**28
        assert [index for part in parts for index in part.images] == list(range(count))


class TestTogether:
    def test_processes_at_once_make_each_shard_once(self, split, whole, tmp_path):
        meta, error = (other := builder(split, tmp_path / "many", 0.05, processes=3)).communicate(timeout=120)
        assert other.returncode == 0, error
        makers, names = meta.split()[::2], meta.split()[1::2]
        assert sorted(names) == [f"{number:05d}" for number in range(SHARDS)] and len(set(makers)) > 1
        assert content(only(tmp_path / "many")) == content(whole)

    def test_a_killed_builder_s_shards_are_kept_and_the_rest_is_made(self, split, whole, made, tmp_path):
        with builder(split, tmp_path / "killed", pause=60) as other:
            assert other.stdout.readline().endswith(" 00000\n")
            (others := only(tmp_path / "killed") / ".0123abcd.00000.bin").write_bytes(b"half")
            other.send_signal(signal.SIGKILL)
        assert "00000.json" not in content(only(tmp_path / "killed")), "it died before it sealed the shard"
        made.clear()
        open_pixel_cache(split, RECIPE, tmp_path / "killed")
        assert content(only(tmp_path / "killed")) == content(whole) and not others.exists()

    def test_finished_shards_are_not_made_again(self, split, whole, made, tmp_path):
        with builder(split, tmp_path / "killed", pause=0.3) as other:
            for _ in range(3):  # a shard is told before it is sealed, so two of the three are whole
                other.stdout.readline()
            other.kill()
        made.clear()
        open_pixel_cache(split, RECIPE, tmp_path / "killed")
        assert made == [f"{number:05d}" for number in range(2, SHARDS)]
        assert content(only(tmp_path / "killed")) == content(whole)

    def test_what_another_makes_is_waited_for(self, split, whole, made, tmp_path):
        with builder(split, tmp_path / "many", pause=0.5) as other:
            other.stdout.readline()
            made.clear()
            open_pixel_cache(split, RECIPE, tmp_path / "many")
            assert "00000" not in made and made[:1] == ["00001"]
            other.wait(timeout=60)
        assert content(only(tmp_path / "many")) == content(whole)


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


class TestDamage:
    @pytest.mark.parametrize("file", ["00002.bin", "00002.json"])
    @pytest.mark.parametrize(
        "damage", [flip, lambda path: os.truncate(path, 100), lambda path: path.write_bytes(b"")], ids=["f", "t", "e"]
    )
    def test_a_damaged_shard_is_named_and_made_anew(self, split, whole, made, caplog, file, damage):
        expected = content(whole)
        damage(whole / file)
        made.clear()
        with caplog.at_level(logging.WARNING):
            open_pixel_cache(split, RECIPE, whole.parents[1])
        assert made == ["00002"] and content(whole) == expected
        (record,) = caplog.records
        assert str(whole / file) in record.message and "damaged" in record.message

    @pytest.mark.parametrize("file", ["00001.bin", "00001.json"])
    def test_a_missing_file_is_made_in_silence(self, split, whole, made, caplog, file):
        expected = content(whole)
        (whole / file).unlink()
        made.clear()
        open_pixel_cache(split, RECIPE, whole.parents[1])
        assert made == ["00001"] and content(whole) == expected and not caplog.records

    def test_who_mapped_a_damaged_shard_keeps_what_it_mapped(self, split, whole, tmp_path):
        before = open_pixel_cache(split, RECIPE, tmp_path / "one")
        kept = before.pixels[2].clone()
        path = whole / "00002.bin"
        path.rename(tmp_path / "mapped")  # damaged beside, so that the mapping itself stays whole
        path.write_bytes(b"x" * len(kept))
        after = open_pixel_cache(split, RECIPE, tmp_path / "one")
        assert torch.equal(before.pixels[2], kept) and torch.equal(after.pixels[2], kept)


@pytest.fixture
def disk(tmp_path):
    """Mounts a small disk of its own: size in bytes and options -> its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        return folder

    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


class TestDisk:
    def test_full(self, split, whole, made, disk, monkeypatch):
        cache = disk("size=32k")
        with pytest.raises(ZooError, match=r"pixel cache cannot be written: .*No space left") as error:
            open_pixel_cache(split, RECIPE, cache)
        assert str(only(cache)) in str(error.value) and "DCTKD_ZOO_HOME" in str(error.value)
        finished = content(only(cache))
        assert finished and all(content(whole)[name] == data for name, data in finished.items())
        assert {name[:5] for name in finished if name.endswith("bin")} - {name[:5] for name in finished} == set()
        assert not list(only(cache).glob(".*.bin")), "half a file is left"
        count = sum(name.endswith("json") for name in finished)
        subprocess.run(["mount", "-o", "remount,size=2m", str(cache)], check=True)
        made.clear()
        open_pixel_cache(split, RECIPE, cache)
        assert content(only(cache)) == content(whole) and len(made) == SHARDS - count

    def test_closed_to_writing(self, split, whole, disk, made):
        cache = disk("size=2m")
        open_pixel_cache(split, RECIPE, cache)
        subprocess.run(["mount", "-o", "remount,ro", str(cache)], check=True)
        made.clear()
        store = open_pixel_cache(split, RECIPE, cache)
        assert made == [] and torch.cat(store.pixels).numpy().tobytes() == b"".join(
            data for name, data in content(whole).items() if name.endswith("bin")
        )
        with pytest.raises(ZooError, match=r"pixel cache cannot be written: .*Read-only file system"):
            open_pixel_cache(split, replace(RECIPE, resize=17), cache)

    def test_nothing_waits_on_a_disk_that_is_closed(self, split, disk):
        begun = time.monotonic()
        with pytest.raises(ZooError):
            open_pixel_cache(split, RECIPE, disk("size=2m", "ro"))
        assert time.monotonic() - begun < 5
