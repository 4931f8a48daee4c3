"""dctkd_zoo.weights: hashes, and the Hub's real client against a Hub on this machine."""

import csv
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from timm.models import save_for_hf

from dctkd_zoo import models, registry, weights
from dctkd_zoo._io import hashing
from dctkd_zoo.errors import CorruptWeights, WeightsNotFound
from dctkd_zoo.models import export
from tests.hub.hub_user import User
from tests.hub.loopback import CUT, FLIPPED, NOTHING, serving
from tests.world import make

ROOT = Path(__file__).resolve().parents[2]
NAME = "r20_synthscenes"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with an exported `r20_synthscenes`; not to be written to."""
    return export_untrained(NAME, tmp_path_factory.mktemp("exported"))


def export_untrained(name, folder):
    entry = registry.get_entry(name)
    dataset = registry.get_dataset(entry.dataset)
    classes = tuple(f"class {index}" for index in range(dataset.num_classes))
    export.write(models.create(entry.arch, dataset.num_classes), entry, dataset, classes, folder)
    return folder


def flip(path, position):
    """Turn one bit of a file over."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


class TestOnThisMachine:
    @pytest.fixture(autouse=True)
    def places(self, tmp_path, monkeypatch):
        """Folders of bundled and of trained weights, and nothing published."""
        monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
        monkeypatch.setattr(weights, "BUNDLED", tmp_path / "bundled")
        monkeypatch.setattr(weights, "published", dict)
        return SimpleNamespace(bundled=tmp_path / "bundled" / NAME, trained=tmp_path / "home" / "checkpoints" / NAME)

    def test_order(self, exported, places, monkeypatch, caplog):
        entry = registry.get_entry(NAME)
        assert weights.status(NAME) == "recipe only" and not weights.available(NAME)
        shutil.copytree(exported, places.trained)
        weights._note_once.cache_clear()
        with caplog.at_level(logging.INFO):
            assert weights.find(entry).folder == weights.find(entry).folder == places.trained
        assert caplog.text.count("not published, so checkpoints trained on this machine are used") == 1, "said once"
        assert weights.status(NAME) == weights.find(entry).origin == "trained here"

        row = {"repo": "acme/r20", "revision": "c" * 40, "sha256": "0" * 64, "config_sha256": "1" * 64}
        monkeypatch.setattr(weights, "published", lambda: {NAME: row})
        monkeypatch.setattr(weights, "from_hub", lambda *asked: weights.Weights(exported, "/".join(asked), ""))
        assert weights.find(entry).origin == "/".join(row.values())
        assert weights.status(NAME) == "published"

        shutil.copytree(exported, places.bundled)
        assert weights.find(entry).folder == places.bundled
        assert weights.status(NAME) == weights.find(entry).origin == "bundled"

    def test_where_training_wrote(self, exported, tmp_path):
        shutil.copytree(exported, tmp_path / "elsewhere" / NAME)
        result = weights.find(registry.get_entry(NAME), tmp_path / "elsewhere")
        assert result.folder == tmp_path / "elsewhere" / NAME
        assert result.sha256 == hashlib.sha256((exported / "model.safetensors").read_bytes()).hexdigest()
        assert not weights.available(NAME)

    def test_a_folder_that_is_named_comes_first(self, exported, places, tmp_path):
        shutil.copytree(exported, places.bundled)
        shutil.copytree(exported, tmp_path / "elsewhere" / NAME)
        assert weights.find(registry.get_entry(NAME), tmp_path / "elsewhere").origin == "trained here"
        assert weights.find(registry.get_entry(NAME), tmp_path / "empty").origin == "bundled"

    @pytest.mark.parametrize("path", ["bundled", "trained"])
    @pytest.mark.parametrize("position", [8, 5000, -1])
    def test_flipped_bit(self, exported, places, path, position):
        folder = getattr(places, path)
        shutil.copytree(exported, folder)
        flip(folder / weights.WEIGHTS, position)
        with pytest.raises(CorruptWeights, match=r"model\.safetensors: sha256 is \w{64}, SHA256SUMS has \w{64}"):
            models.create_model(NAME, pretrained=True)

    def test_flipped_bit_in_the_config(self, exported, places):
        shutil.copytree(exported, places.bundled)
        flip(places.bundled / weights.CONFIG, 20)
        with pytest.raises(CorruptWeights, match=r"config\.json: sha256 is"):
            weights.find(registry.get_entry(NAME))

    def test_given_folder_is_compared_with_its_own_hashes(self, exported, tmp_path):
        shutil.copytree(exported, tmp_path / "copy")
        flip(tmp_path / "copy" / weights.WEIGHTS, -1)
        with pytest.raises(CorruptWeights, match="SHA256SUMS has"):
            weights.locate(str(tmp_path / "copy"))
        (tmp_path / "copy" / weights.HASHES).unlink()
        assert weights.locate(str(tmp_path / "copy")).origin == "given folder"

    def test_hashes_that_do_not_name_the_weights(self, exported, places):
        shutil.copytree(exported, places.bundled)
        (places.bundled / weights.HASHES).write_text("")
        with pytest.raises(CorruptWeights, match="SHA256SUMS has None"):
            weights.find(registry.get_entry(NAME))

    @pytest.mark.parametrize("lost", [weights.WEIGHTS, weights.CONFIG, weights.HASHES])
    def test_partial_folder_is_passed_over(self, exported, places, lost):
        for folder in (places.bundled, places.trained):
            shutil.copytree(exported, folder)
            (folder / lost).unlink()
        with pytest.raises(WeightsNotFound, match=f"python -m train {NAME}"):
            weights.find(registry.get_entry(NAME))

    def test_published_table(self):
        with weights.PUBLISHED.open(newline="") as file:
            rows = csv.DictReader(file)
            assert rows.fieldnames == ["name", "repo", "revision", "sha256", "config_sha256"]
            for row in rows:
                assert row["name"] in registry.entries()
                assert [len(row[column]) for column in rows.fieldnames[2:]] == [40, 64, 64]


# Entry -> (the repository it is published in, what happens to the bodies of its weights).
PUBLISHED = {
    "r20_synthscenes": ("acme/good", ()),
    "r20_kd_synthscenes": ("acme/flipped-once", (FLIPPED,)),
    "r20_at_synthscenes": ("acme/flipped-twice", (FLIPPED, FLIPPED)),
    "r20_at_kd_synthscenes": ("acme/cut", (CUT,)),
    "r20_dctkd_synthscenes": ("acme/nothing", (NOTHING,) * 50),
    "r20_dctkd_kd_synthscenes": ("acme/no-weights", ()),
    "r8_synthscenes": ("acme/no-such-repo", ()),
    "r8_dctkd_synthscenes": ("acme/never-asked", ()),
}

# What a user's process does; the Hub's address is read when its client is imported, so it has to be a new one.
CLIENT = """
import json, logging, os, sys, time
from pathlib import Path

import timm
import torch

folder, published, bundled, commit, *names = sys.argv[1:]
time.sleep = lambda seconds: None  # the client waits between its tries
images = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
done = {}

def attempt(key, load):
    try:
        done[key] = torch.equal(load()(images), reference(images))
    except Exception as error:
        done[key] = f"{type(error).__name__}: {error}"

def cached():
    return [str(path) for path in Path(os.environ["HF_HOME"]).rglob("blobs/*")]

try:
    timm.create_model(f"local-dir:{folder}", pretrained=True)
except RuntimeError as error:
    done["without this package"] = str(error)

import dctkd_zoo
from dctkd_zoo import models, weights

weights.PUBLISHED, weights.BUNDLED = Path(published), Path(bundled)
reference = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
torch.set_grad_enabled(False)
for name in names:
    attempt(name, lambda: dctkd_zoo.create_model(name, pretrained=True))
    done[f"{name} blobs"] = cached()
    attempt(f"{name} again", lambda: dctkd_zoo.create_model(name, pretrained=True))
for source in ("hf-hub:acme/good", "hf-hub:acme/good@" + commit, "hf-hub:acme/good@" + 40 * "b", "hf-hub:no good"):
    attempt(source, lambda: dctkd_zoo.create_model(names[0], pretrained=source))
attempt("plain timm", lambda: timm.create_model(f"hf-hub:acme/good@{commit}", pretrained=True).eval())
print(json.dumps(done))
"""


def client(exported, tmp, commit, names, **environment):
    """Run `CLIENT` for entries in a process of its own -> what came of each, and what was logged."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    settings = {
        "DCTKD_ZOO_HOME": str(tmp / "home"),
        "HF_HOME": str(tmp / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "*",
        "no_proxy": "*",
    }
    arguments = [str(exported), str(tmp / "published.csv"), str(tmp / "bundled"), commit, *names]
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, *arguments],
        cwd=ROOT,
        env=inherited | settings | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def session(exported, tmp_path_factory):
    """One process that goes online and one that does not, with the same cache; what each of them met."""
    tmp = tmp_path_factory.mktemp("session")
    files = {name: (exported / name).read_bytes() for name in (weights.CONFIG, weights.WEIGHTS)}
    config, sha256 = (hashlib.sha256(content).hexdigest() for content in files.values())
    asked = [name for name, (repo, _) in PUBLISHED.items() if repo != "acme/never-asked"]
    with serving() as hub:
        commits = {}
        for repo, faults in PUBLISHED.values():
            if repo != "acme/no-such-repo":
                partial = {weights.CONFIG: files[weights.CONFIG]}
                commits[repo] = hub.put(repo, partial if repo == "acme/no-weights" else files)
            hub.fail("body", *faults, repo=repo, file=weights.WEIGHTS)
        rows = [
            f"{name},{repo},{commits.get(repo, 'c' * 40)},{sha256},{config}" for name, (repo, _) in PUBLISHED.items()
        ]
        (tmp / "published.csv").write_text("\n".join(["name,repo,revision,sha256,config_sha256", *rows, ""]))
        commit = commits["acme/good"]
        online, log = client(exported, tmp, commit, asked, HF_ENDPOINT=hub.endpoint)
        requests = len(hub.requests)
        late = ["r20_synthscenes", "r8_dctkd_synthscenes"]
        offline, _ = client(exported, tmp, commit, late, HF_ENDPOINT=hub.endpoint, HF_HUB_OFFLINE="1")
        assert len(hub.requests) == requests, hub.requests[requests:]
    return SimpleNamespace(
        hub=hub, online=online, log=log, offline=offline, cache=tmp / "hf", digest=sha256, commits=commits
    )


class TestPublished:
    def test_good_download(self, session):
        assert session.online["r20_synthscenes"] is True
        assert session.hub.asked("body", "acme/good", weights.WEIGHTS) == 1

    def test_pinned_weights_are_taken_from_the_cache_without_a_request(self, session):
        assert session.online["r20_synthscenes again"] is True
        pinned = f"/acme/good/resolve/{session.commits['acme/good']}/"
        asked = [request.kind for request in session.hub.requests if request.path.startswith(pinned)]
        assert asked == ["head", "body", "head"]  # the body of the weights is elsewhere

    def test_damaged_once_is_fetched_again(self, session):
        assert session.online["r20_kd_synthscenes"] is session.online["r20_kd_synthscenes again"] is True
        assert session.hub.asked("body", "acme/flipped-once", weights.WEIGHTS) == 2
        commit = session.commits["acme/flipped-once"]
        meta = f"hf-hub:acme/flipped-once@{commit}: {weights.WEIGHTS} is damaged, downloading it once more"
        assert meta in session.log

    def test_damaged_twice_is_refused_and_not_kept(self, session):
        name = "r20_at_synthscenes"
        where = f"hf-hub:acme/flipped-twice@{session.commits['acme/flipped-twice']}: {weights.WEIGHTS}"
        assert session.online[name].startswith(f"CorruptWeights: {where}: its hash is ")
        assert f"but should be {session.digest}; the file was removed from the cache" in session.online[name]
        kept = [Path(path).name for path in session.online[f"{name} blobs"] if "flipped-twice" in path]
        assert len(kept) == 1 and session.digest not in kept  # the config alone
        assert session.online[f"{name} again"] is True
        assert session.hub.asked("body", "acme/flipped-twice", weights.WEIGHTS) == 3

    def test_interrupted_download_goes_on(self, session):
        assert session.online["r20_at_kd_synthscenes"] is True

    def test_no_damaged_file_is_left(self, session):
        blobs = [path for path in session.cache.rglob("blobs/*") if path.suffix != ".incomplete"]
        assert len(blobs) > 8
        assert all(hashing.like(blob.name, blob) == blob.name for blob in blobs)
        assert all(path.exists() for path in session.cache.rglob("snapshots/*/*"))

    @pytest.mark.parametrize(
        ("name", "repo", "words"),
        [
            ("r20_dctkd_kd_synthscenes", "acme/no-weights", "that file is not in it"),
            ("r8_synthscenes", "acme/no-such-repo", "there is no such repository, or it is private: log in"),
            ("r20_dctkd_synthscenes", "acme/nothing", "does not answer or closed the connection: try again later"),
        ],
    )
    def test_what_cannot_be_fetched(self, session, name, repo, words):
        where = f"hf-hub:{repo}@{session.commits.get(repo, 40 * 'c')}"
        assert session.online[name].startswith(f"WeightsNotFound: {where} cannot be fetched: ")
        assert words in session.online[name]

    def test_other_sources(self, session):
        good = f"hf-hub:acme/good@{session.commits['acme/good']}"
        assert session.online["hf-hub:acme/good"] is session.online[good] is True
        said = session.online["hf-hub:acme/good@" + 40 * "b"]
        assert said.startswith("WeightsNotFound: hf-hub:acme/good@bbb") and "no such revision" in said
        assert session.online["hf-hub:no good"].startswith("WeightsNotFound: hf-hub:no good@main cannot be fetched")

    def test_plain_timm(self, session):
        assert session.online["plain timm"] is True
        assert "Unknown model (resnet20_cifar)" in session.online["without this package"]


class TestOffline:
    def test_warm_cache(self, session):
        assert session.offline["r20_synthscenes"] is session.offline["r20_synthscenes again"] is True

    def test_cold_cache(self, session):
        said = session.offline["r8_dctkd_synthscenes"]
        assert said.startswith("WeightsNotFound: hf-hub:acme/never-asked@") and "HF_HUB_OFFLINE is set" in said


TAGGED = """
from dctkd_zoo.spec import Arch, Cosine, Entry, Recipe
ARCHS = {"tiny": Arch("test_resnet")}
# Of maps of a single pixel oneDNN errs in bfloat16.
START = Recipe(epochs=1, batch_size=16, lr=0.01, schedule=Cosine(), resize=72, crop=64, pretrained="r160_in1k")
ENTRIES = (Entry("tiny_stripes", START, {"ce": 1.0}),)
"""


def train_tagged(root: str) -> int:
    """`python -m train` of an entry that starts from weights by timm's tag."""
    from dctkd_zoo import registry
    from train.__main__ import main

    if "stripes" not in registry.datasets():
        registry.include(Path(root) / "catalog.py")
    catalog = [] if "tiny" in registry.archs() else ["--catalog", f"{root}/tagged.py"]
    places = ["--data", f"{root}/data", "--out", f"{root}/out", "--device", "cpu"]
    return main(["tiny_stripes", *catalog, *places])


def test_weights_by_a_tag_of_timm_are_compared_with_the_hub_and_recorded(tmp_path):
    """One flipped byte starts no training; `start_sha256` says what a run began from."""
    torch.manual_seed(0)
    save_for_hf(timm.create_model("test_resnet", num_classes=1000), str(tmp_path / "start"), safe_serialization=True)
    files = {name: (tmp_path / "start" / name).read_bytes() for name in (weights.CONFIG, weights.WEIGHTS)}
    make(tmp_path)
    (tmp_path / "tagged.py").write_text(TAGGED)
    repo, run = "timm/test_resnet.r160_in1k", tmp_path / "out" / "tiny_stripes"
    with serving() as hub:
        hub.put(repo, files)
        hub.fail("body", FLIPPED, FLIPPED, repo=repo, file=weights.WEIGHTS)
        user = User(hub.endpoint, tmp_path / "user")
        refused = user(train_tagged, str(tmp_path))
        assert refused.get() == 1
        assert f"error: tiny_stripes: hf-hub:{repo}@" in refused.printed and "its hash is" in refused.printed
        assert not run.exists()
        assert user(train_tagged, str(tmp_path)).get() == 0
        user.close()
    meta = json.loads((run / "environment.json").read_text())
    assert meta["start_sha256"] == hashlib.sha256(files[weights.WEIGHTS]).hexdigest()
