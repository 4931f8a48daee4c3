"""Train, publish, load elsewhere: the commands and the real client against a Hub on this machine."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import ModelCard

import dctkd_zoo
from dctkd_zoo import registry, weights
from dctkd_zoo.__main__ import main
from dctkd_zoo.errors import HubError, ZooError
from eval import publish
from eval.__main__ import main as evaluate
from eval.run import results_csv
from eval.run.config import EvalConfig
from tests.hub.hub_user import User
from tests.hub.loopback import TROUBLE, serving
from tests.world import make
from train.__main__ import main as train

FOUND = """
from dataclasses import replace
from dctkd_zoo import registry
from dctkd_zoo.spec import Dataset, Entry
RECIPE = registry.get_entry("r14_stripes").recipe
DATASET = Dataset("found", "Found photographs", source="folders", num_classes=3, train=48, test=24)
ENTRIES = (
    Entry("r14_found", RECIPE, {"ce": 1.0}),
    Entry("r14_stripes.after", replace(RECIPE, pretrained="entry:r14_found"), {"ce": 1.0}),
)
"""

CATALOG = """
from dctkd_zoo.spec import Arch, Cosine, Dataset, Entry, Recipe

ARCHS = {"tiny": Arch("mobilenetv3_small_050")}
DATASET = Dataset(
    name="stripes", title="Stripes", source="folders", num_classes=3, train=48, test=24,
    mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), license="CC0-1.0", url="https://example.org/stripes",
)
RECIPE = Recipe(epochs=4, batch_size=16, lr=0.05, schedule=Cosine(0.2), resize=36, pad=2, crop=32)
ENTRIES = (
    Entry("r14_stripes", RECIPE, {"ce": 1.0}),
    Entry("tiny_dctkd_stripes", RECIPE, {"ce": 1.0, "dctkd": 1.0}, teacher="r14_stripes"),
)
"""
NAME, TEACHER = "tiny_dctkd_stripes", "r14_stripes"
TOKEN = "hf_" + "s3cret" * 6
FILES = {
    *(".gitattributes", "README.md", "SHA256SUMS", "attention.png", "config.json", "environment.json", "example.png"),
    *("model.safetensors", "recipe.json", "results.json", "train_log.csv"),
}


def fresh(root):
    """What a process of its own begins with: the catalog beside the zoo's, and what was published up to now."""
    weights.PUBLISHED, results_csv.RESULTS = root / "published.csv", root / "results.csv"
    weights.published.cache_clear()
    registry._MODULES.clear()
    registry._bundled_and_included.cache_clear()
    registry.include(root / "catalog.py")


def command(root, run, *arguments):
    """A command's exit status."""
    fresh(root)
    status = run([*arguments, "--data", str(root / "data"), "--out", str(root / "out"), "--device", "cpu"])
    sys.stderr.flush()
    return status


def logits(root, name):
    """What the zoo's network says of `images`."""
    fresh(root)
    return answers(dctkd_zoo.create_model(name, pretrained=True))


def plain_logits(name):
    """The same of plain timm's, in a process that may have never heard of this package."""
    return answers(timm.create_model(f"hf-hub:acme/{name}", pretrained=True).eval())


def answers(model):
    with torch.inference_mode():
        return model(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))).numpy()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Images, a catalog, a Hub, a maintainer's process, and both entries trained and evaluated by the commands."""
    root = tmp_path_factory.mktemp("world")
    make(root, CATALOG, size=(40, 44), pitch=0.9, contrast=80)
    shutil.copyfile(results_csv.RESULTS, root / "results.csv")
    (root / "published.csv").write_text("name,repo,revision,sha256,config_sha256\n")
    with serving() as hub:
        hub.login(TOKEN, "ada", "acme")
        maintainer = User(hub.endpoint, root / "maintainer")

        def by(run, *arguments, token=TOKEN):
            return maintainer(command, root, run, *arguments, token=token)

        assert by(train, NAME, TEACHER).get() == 0
        assert by(evaluate, NAME, TEACHER, "--write").get() == 0
        yield SimpleNamespace(root=root, hub=hub, by=by, maintainer=maintainer)
        maintainer.close()


@pytest.fixture(scope="module")
def published(world):
    """Both entries on the Hub."""
    outcome = world.by(main, "publish", NAME, TEACHER, "--org", "acme")
    assert outcome.get() == 0, outcome.printed
    return SimpleNamespace(**vars(world), rows=rows(world), printed=outcome.printed)


def rows(world):
    with (world.root / "published.csv").open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def kept(world, name):
    return world.hub.state.repos[f"acme/{name}"]


def test_a_dry_run_sends_nothing(world):
    asked = len(world.hub.requests)
    outcome = world.by(main, "publish", NAME, TEACHER, "--dry-run", token="")
    assert outcome.get() == 0, outcome.printed
    assert f"ORG/{NAME}" in outcome.printed and "2 ready" in outcome.printed
    assert len(world.hub.requests) == asked and not rows(world)


def test_a_dry_run_of_all_tells_what_is_not_ready(world):
    asked = len(world.hub.requests)
    outcome = world.by(main, "publish", "--all", "--dry-run", token="")
    assert outcome.get() == 1, outcome.printed[:3000]
    assert f"ORG/{NAME}" in outcome.printed and "; 3 not; " in outcome.printed
    assert "data/scene15" in "".join(outcome.printed.split())  # bundled networks, whose images do not lie here
    assert "python -m train r18_dctkd_ade20k" in outcome.printed
    assert len(world.hub.requests) == asked and not rows(world)


def test_what_lies_on_the_hub(published):
    for name in (NAME, TEACHER):
        repo, row = kept(published, name), published.rows[name]
        commit = repo.commits[repo.head]
        assert len(repo.commits) == 2 and set(commit.files) == FILES  # the Hub's own first commit, and ours
        assert row["revision"] == commit.id and row["repo"] == repo.name
        assert row["sha256"] == commit.files["model.safetensors"].sha256
        assert row["config_sha256"] == commit.files["config.json"].sha256
        assert repo.tags == {f"v{dctkd_zoo.__version__}": commit.id} and not repo.private
        assert f"published {repo.name} at {commit.id}" in published.printed
    card = kept(published, NAME).commits[published.rows[NAME]["revision"]].files["README.md"].content.decode()
    assert (
        ModelCard(card).data.to_dict()["license"] == "apache-2.0"
        and f'timm.create_model("hf-hub:acme/{NAME}", pretrained=True)' in card
    )
    (collection,) = published.hub.state.collections.values()
    assert sorted(collection.items) == [f"acme/{TEACHER}", f"acme/{NAME}"]


def test_a_card_that_the_hub_does_not_accept_is_refused_before_anything_is_made(published):
    published.hub.login(TOKEN, "ada", "acme", "org-strict")
    outcome = published.by(main, "publish", NAME, "--org", "org-strict", "--license", "none yet!")
    published.hub.login(TOKEN, "ada", "acme")
    assert outcome.get() == 1 and not any(name.startswith("org-strict/") for name in published.hub.state.repos)
    said = " ".join(outcome.printed.split())
    assert f"{NAME} was not published" in said and "the Hub refuses the metadata of its card" in said
    assert "must be one of [apache-2.0, mit, ...]" in said


def test_others_load_the_trained_network_bit_for_bit(published, tmp_path):
    due = {name: answers(models(published, name)) for name in (NAME, TEACHER)}
    here, plain = User(published.hub.endpoint, tmp_path / "a"), User(published.hub.endpoint, tmp_path / "b")
    try:
        for name, expected in due.items():
            np.testing.assert_array_equal(here(logits, published.root, name).get(), expected)
        # This package registers the CIFAR ResNets; plain timm knows the student's architecture alone.
        np.testing.assert_array_equal(plain(plain_logits, NAME).get(), due[NAME])
        with published.hub.away():
            np.testing.assert_array_equal(here(logits, published.root, NAME).get(), due[NAME])
            np.testing.assert_array_equal(plain(plain_logits, NAME).get(), due[NAME])
    finally:
        here.close()
        plain.close()
    asked = len(published.hub.requests)
    offline = User(published.hub.endpoint, tmp_path / "a", HF_HUB_OFFLINE="1")
    try:
        np.testing.assert_array_equal(offline(logits, published.root, NAME).get(), due[NAME])
    finally:
        offline.close()
    assert len(published.hub.requests) == asked


def models(world, name):
    """The network that training wrote."""
    return timm.create_model(f"local-dir:{world.root / 'out' / name}", pretrained=True).eval()


def test_publishing_again_changes_nothing(published):
    before = {name: dict(kept(published, name).commits) for name in (NAME, TEACHER)}
    assert published.by(main, "publish", NAME, TEACHER, "--org", "acme").get() == 0
    assert {name: kept(published, name).commits for name in before} == before
    assert rows(published) == published.rows


@pytest.mark.parametrize(
    "kind", ["validate", "create", "preupload", "commit", "refs", "tag", "create_collection", "add_item"]
)
def test_a_failure_on_the_way_is_gone_on_from(published, kind):
    org = f"org-{kind}"
    published.hub.login(TOKEN, "ada", "acme", org)
    published.hub.fail(kind, *[TROUBLE] * 40)
    failed = published.by(main, "publish", NAME, "--org", org)
    assert failed.get() == 1 and f"{NAME} was not published" in failed.printed, failed.printed
    assert rows(published)[NAME] == published.rows[NAME]
    published.hub.heal()
    try:
        assert published.by(main, "publish", NAME, "--org", org).get() == 0
        repo = published.hub.state.repos[f"{org}/{NAME}"]
        assert len(repo.commits) == 2 and list(repo.tags.values()) == [repo.head]
        assert rows(published)[NAME]["repo"] == repo.name
    finally:
        restore(published)
        published.hub.login(TOKEN, "ada", "acme")


def restore(world):
    with (world.root / "published.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(next(iter(world.rows.values()))), lineterminator="\n")
        writer.writeheader()
        writer.writerows(world.rows.values())


def test_another_card_is_another_commit_and_tag(published):
    environment = published.root / "out" / TEACHER / "environment.json"
    meta = environment.read_text()
    environment.write_text(json.dumps({**json.loads(meta), "note": "retold"}, indent=2))
    try:
        assert published.by(main, "publish", TEACHER, "--org", "acme").get() == 0
        repo, version = kept(published, TEACHER), dctkd_zoo.__version__
        first = published.rows[TEACHER]["revision"]
        assert repo.commits[repo.head].parent == first
        assert repo.tags == {f"v{version}": first, f"v{version}-2": repo.head}
        assert rows(published)[TEACHER]["revision"] == repo.head
    finally:
        environment.write_text(meta)
        restore(published)


def test_no_token_anywhere(published):
    assert TOKEN not in published.maintainer.printed
    for file in published.root.rglob("*"):
        assert file.is_dir() or TOKEN.encode() not in file.read_bytes(), file
    blobs = [b for repo in published.hub.state.repos.values() for c in repo.commits.values() for b in c.files.values()]
    assert len(blobs) > 20 and not any(TOKEN.encode() in blob.content for blob in blobs)


def test_without_a_token(published):
    assert "log in with `hf auth login`" in published.by(main, "publish", NAME, token="").printed


class TestVerify:
    def test_match(self, published, tmp_path):
        elsewhere = User(published.hub.endpoint, tmp_path)
        try:
            outcome = elsewhere(verify, published.root, NAME)
        finally:
            elsewhere.close()
        assert outcome.get() == 0 and ": all " in outcome.printed and "not match" not in outcome.printed

    def test_mismatch(self, published, tmp_path):
        path = published.root / "results.csv"
        before = path.read_text()
        meta = results_csv.read(path)
        wrong = [{**row, "top1": str(float(row["top1"]) - 1), "ssim": "0.5"} for row in meta if row["name"] == NAME]
        path.write_text(results_csv.as_csv(wrong))
        try:
            outcome = published.by(main, "verify", NAME)
        finally:
            path.write_text(before)
        assert outcome.get() == 1
        wrong_lines = [line.split()[0] for line in outcome.printed.splitlines() if "± " in line or " the same" in line]
        assert wrong_lines == ["ssim", "top1"]

    def test_nothing_recorded(self, published):
        outcome = published.by(main, "verify", "r18_dctkd_ade20k")
        assert outcome.get() == 1 and "has no row of r18_dctkd_ade20k" in outcome.printed


def verify(root, name):
    """Verify in a process that finds weights on the Hub alone; the teacher too."""
    fresh(root)
    return main(["verify", name, "--data", str(root / "data"), "--device", "cpu"])


class TestProblems:
    """What is not published, and why."""

    @pytest.fixture
    def copy(self, published, tmp_path, monkeypatch):
        """The student's folder, to be spoilt."""
        monkeypatch.setattr(registry, "_MODULES", [])
        monkeypatch.setattr(weights, "PUBLISHED", published.root / "published.csv")
        monkeypatch.setattr(results_csv, "RESULTS", published.root / "results.csv")
        monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
        registry._bundled_and_included.cache_clear()
        registry.include(published.root / "catalog.py")
        for name in (NAME, TEACHER):
            shutil.copytree(published.root / "out" / name, tmp_path / "out" / name)
        where = EvalConfig(published.root / "data", torch.device("cpu"), tmp_path / "out")
        folder = tmp_path / "out" / NAME

        def problems():
            return publish.plan(registry.get_entry(NAME), "acme", where).problems

        yield SimpleNamespace(folder=folder, problems=problems, config=where)
        registry._bundled_and_included.cache_clear()
        weights.published.cache_clear()

    def test_none(self, copy):
        assert copy.problems() == ()

    def test_damaged(self, copy):
        content = bytearray((copy.folder / weights.WEIGHTS).read_bytes())
        content[-1] ^= 1
        (copy.folder / weights.WEIGHTS).write_bytes(content)
        assert any("SHA256SUMS has" in problem and "; train or copy it again" in problem for problem in copy.problems())

    @pytest.mark.parametrize("lost", publish.KEPT)
    def test_a_lost_file(self, copy, lost):
        (copy.folder / lost).unlink()
        assert any(f"no {lost}, which training writes" in problem for problem in copy.problems())

    def test_another_recipe(self, copy):
        meta = json.loads((copy.folder / "recipe.json").read_text())
        meta["recipe"]["lr"] = 0.5
        (copy.folder / "recipe.json").write_text(json.dumps(meta))
        assert any("another recipe than the catalog's" in problem for problem in copy.problems())

    def test_other_figures(self, copy):
        path = copy.folder / "results.json"
        meta = json.loads(path.read_text())
        path.write_text(json.dumps({**meta, "top1": 0.0 if meta["top1"] > 50 else 100.0}))
        assert any("top-1 on 24 images" in problem for problem in copy.problems())

    def test_classes_in_another_order(self, copy):
        config = json.loads((copy.folder / weights.CONFIG).read_text())
        config["label_names"] = ["down", "across", "slanted"]
        (copy.folder / weights.CONFIG).write_text(json.dumps(config))
        weights.write_hashes(copy.folder)
        assert any("output 0 means 'down'" in problem for problem in copy.problems())

    def test_no_data(self, copy, tmp_path):
        where = EvalConfig(tmp_path / "nowhere", copy.config.device, copy.config.trained)
        (problem,) = publish.plan(registry.get_entry(NAME), "acme", where).problems
        assert "nowhere" in problem

    @pytest.mark.parametrize("name", ["r14_found", "r14_stripes.after"])
    def test_what_was_trained_on_images_without_a_licence_also_at_first(self, copy, name, tmp_path, monkeypatch):
        monkeypatch.setattr(registry, "_MODULES", list(registry._modules()))
        (tmp_path / "found.py").write_text(FOUND)
        registry.include(tmp_path / "found.py")
        with pytest.raises(ZooError, match=r"Found photographs.*which r14_found was trained on, is unknown"):
            publish._may_be_published(registry.get_entry(name), copy.folder, copy.config)
        registry._bundled_and_included.cache_clear()

    def test_images_that_do_not_say_need_a_licence_that_is_stated(self, copy, monkeypatch):
        data = replace(registry.get_dataset("stripes"), license="research use; see url")
        monkeypatch.setattr(registry, "get_dataset", lambda name: data)
        (problem,) = copy.problems()
        assert "is 'research use; see url'" in problem and "`publish --license`" in problem
        assert publish.plan(registry.get_entry(NAME), "acme", copy.config, "mit").problems == ()

    def test_what_goes_up_has_no_path_of_this_machine_and_the_licence_that_was_stated(self, copy, tmp_path):
        """Also of a folder from before paths were left out."""
        recipe, config = copy.folder / "recipe.json", copy.folder / weights.CONFIG
        meta = json.loads(recipe.read_text())
        place = f"local-dir:{tmp_path}/ada/teacher"
        meta |= {"teacher": place, "recipe": {**meta["recipe"], "pretrained": f"local-dir:{tmp_path}/ada/start"}}
        recipe.write_text(json.dumps(meta))
        old = json.loads(config.read_text())
        config.write_text(json.dumps({**old, "dctkd": {**old["dctkd"], "teacher": place}}))
        weights.write_hashes(copy.folder)
        row = json.loads((copy.folder / "results.json").read_text())
        note = f"not compared with its teacher {place}: {tmp_path}/ada/teacher: no config.json"
        (copy.folder / "results.json").write_text(json.dumps({**row, "teacher": place, "note": note}))
        entry = replace(registry.get_entry(NAME), license="bsd-3-clause")
        with publish.assembled(publish.Plan(entry, "acme/x", copy.folder), copy.config) as folder:
            texts = {path.name: path.read_bytes() for path in folder.iterdir()}
            weights.from_folder(folder, "its hashes are of what goes up")
        assert [name for name, content in texts.items() if str(tmp_path).encode() in content] == []
        assert json.loads(texts["config.json"])["pretrained_cfg"]["license"] == "bsd-3-clause"
        assert b"license: bsd-3-clause" in texts["README.md"] and b"local-dir:teacher" in texts["results.json"]
        assert texts["model.safetensors"] == (copy.folder / weights.WEIGHTS).read_bytes()

    def test_a_recipe(self, copy):
        plan = publish.plan(registry.get_entry("r18_dctkd_ade20k"), "acme", copy.config)
        assert plan.folder is None and plan.problems == () and plan.size == 0
        with pytest.raises(HubError, match="not trained here"):
            publish.publish(plan, copy.config)
