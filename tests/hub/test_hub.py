"""dctkd_zoo.weights.hub and dctkd_zoo.weights against the loopback Hub: every fault, and what the user gets of it."""

import hashlib
import itertools
import os
import shutil
import time
from types import SimpleNamespace

import pytest

from dctkd_zoo import weights
from dctkd_zoo.weights import hub as zoo
from tests.hub import loopback
from tests.hub.hub_state import GITATTRIBUTES
from tests.hub.hub_user import User
from tests.hub.loopback import (
    BUSY,
    CUT,
    DROP,
    FINE,
    FLIPPED,
    FORBIDDEN,
    GATED,
    KEPT_DAMAGED,
    NO_ENTRY,
    NO_REPO,
    NO_REVISION,
    NOTHING,
    STALE,
    TROUBLE,
    UNAUTHORIZED,
    Fault,
    serving,
)

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FILES = {CONFIG: b'{"architecture": "resnet18"}\n', WEIGHTS: os.urandom(3000)}
OTHER = {CONFIG: b'{"architecture": "resnet34"}\n', WEIGHTS: os.urandom(3000)}
SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
UNKNOWN = dict.fromkeys(FILES)
EVER = 50

# All of these are in the environment of a user at some time, and in no output of any.
SECRET = "hf_secret_"
WRITER, READER, STRANGER, REVOKED = (SECRET + name for name in ("writer", "reader", "stranger", "revoked"))

LATE = Fault(before=lambda: time.sleep(0.2))
TOO_LATE = Fault(before=lambda: time.sleep(1.2))

LOGIN_PAGE = Fault(status=200, headers={"Content-Type": "text/html"})
TO_LOGIN_PAGE = Fault(status=302, headers={"Location": "http://localhost:9/login"})
DISABLED = Fault(status=403, headers={"X-Error-Message": "Access to this resource is disabled."})

DAMAGED = "but should be"
SILENT = "does not answer or closed the connection: try again later, or set HF_ENDPOINT to a mirror"
OFFLINE = "HF_HUB_OFFLINE is set: unset it, or fetch what is needed once where there is a network"


@pytest.fixture(scope="module")
def hub():
    """A Hub that knows a member of acme who may write, one who may not, and somebody else."""
    with serving() as hub:
        hub.login(WRITER, "ada", "acme")
        hub.login(READER, "bob", "acme", write=False)
        hub.login(STRANGER, "eve")
        yield hub


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """Makes users' processes, that say nothing of their tokens."""
    made = []

    def make(endpoint, **environment):
        debug = {
            "HF_HUB_VERBOSITY": "debug",
            "HF_DEBUG": "1",
            "HF_HUB_ETAG_TIMEOUT": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "1",
        }
        made.append(User(endpoint, tmp_path_factory.mktemp("user"), **debug, **environment))
        return made[-1]

    yield make
    for user in made:
        user.close()
        assert SECRET not in user.printed + user.log.read_text()


@pytest.fixture(scope="module")
def user(hub, processes):
    """Someone online."""
    user = processes(hub.endpoint)
    yield user
    assert "authorization: <TOKEN>" in user.log.read_text()  # so the client's own log was looked at


@pytest.fixture(scope="module")
def offline(hub, user, processes):
    """Someone offline, with the cache of `user`."""
    return processes(hub.endpoint, HF_HUB_OFFLINE="1", HF_HOME=str(user.home))


NUMBERS = itertools.count()


@pytest.fixture
def repo(hub):
    """The name of a repository that nobody has asked for; its faults end with the test."""
    yield f"acme/r{next(NUMBERS)}"
    hub.heal()


@pytest.fixture
def good(hub, repo):
    """A repository with `FILES`, at a commit."""
    return SimpleNamespace(repo=repo, commit=hub.put(repo, FILES))


@pytest.fixture
def fetch(user, good):
    """Fetches `FILES` as `user` does, at the commit unless another revision is given."""

    def fetched(revision=good.commit, wanted=SHA256, by=user, token=READER):
        return by(zoo.fetch, good.repo, revision, dict(wanted), token=token)

    return fetched


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def damage(path):
    """Turn one bit of a cached file over."""
    path.resolve().write_bytes(loopback.flipped(path.read_bytes()))


def assert_sound(cached):
    """No blob of a cache is damaged, and none is half there."""
    hashes = {name: {hashlib.sha256(content).hexdigest()} for name, content in cached.items()}
    git = {name: hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest() for name, content in cached.items()}
    assert all(name in {*hashes[name], git[name]} for name in cached)


class TestFetch:
    @pytest.mark.parametrize("wanted", [SHA256, UNKNOWN])
    @pytest.mark.parametrize("revision", ["commit", "main", "v1"])
    def test_files_are_those_of_one_commit_in_the_cache(self, hub, user, good, fetch, revision, wanted):
        hub.state.repos[good.repo].tags["v1"] = good.commit
        folder = fetch(vars(good).get(revision, revision), wanted).get()
        assert folder == user.home / "hub" / f"models--{good.repo.replace('/', '--')}" / "snapshots" / good.commit
        assert contents(folder) == FILES

    def test_a_branch_that_moves_between_two_files(self, hub, good, fetch):
        hub.fail("head", Fault(before=lambda: hub.put(good.repo, OTHER)), repo=good.repo, file=WEIGHTS)
        assert contents(fetch("main", UNKNOWN).get()) == FILES
        assert contents(fetch("main", UNKNOWN).get()) == OTHER
        assert contents(fetch().get()) == FILES

    def test_weights(self, user, good):
        pinned = user(weights.from_hub, good.repo, good.commit, SHA256[WEIGHTS], SHA256[CONFIG]).get()
        assert pinned == weights.Weights(pinned.folder, f"hf-hub:{good.repo}@{good.commit}", SHA256[WEIGHTS])
        assert user(weights.locate, f"hf-hub:{good.repo}").get().sha256 == SHA256[WEIGHTS]
        assert user(weights.locate, f"hf-hub:{good.repo}@{good.commit}").get() == pinned

    def test_other_files_than_the_catalog_s_are_refused(self, hub, user, good):
        other = hub.put(good.repo, OTHER)
        said = user(weights.from_hub, good.repo, other, SHA256[WEIGHTS], hashlib.sha256(OTHER[CONFIG]).hexdigest())
        said.refused("CorruptWeights", f"hf-hub:{good.repo}@{other}: {WEIGHTS}", f"but should be {SHA256[WEIGHTS]}")

    def test_pinned_and_cached_needs_no_request(self, hub, fetch):
        fetch().get()
        before = len(hub.requests)
        fetch().get()
        assert len(hub.requests) == before

    def test_another_endpoint(self, hub, good, processes):
        with serving() as mirror:
            assert mirror.put(good.repo, FILES) == good.commit
            with hub.away():
                through = processes(mirror.endpoint)
                assert contents(through(zoo.fetch, good.repo, good.commit, SHA256).get()) == FILES
            assert mirror.asked("body", good.repo) == 2 and hub.asked("body", good.repo) == 0


# What happens to the requests for one file, nothing being cached -> words of the error, or nothing where it comes.
COLD = {
    "cut": ("body", [CUT], ""),
    "nothing, then all": ("body", [NOTHING], ""),
    "nothing for ever": ("body", [NOTHING] * EVER, SILENT),
    "flipped": ("body", [FLIPPED], ""),
    "401": ("head", [UNAUTHORIZED], "rejects the token or requires one: log in"),
    "403": ("head", [FORBIDDEN] * 2, "the token does not allow this, it needs read access: log in"),
    "gated": ("head", [GATED], "its owners require consent: accept their terms on http"),
    "no repository": ("head", [NO_REPO], "there is no such repository, or it is private: log in"),
    "no revision": ("head", [NO_REVISION], "there is no such revision of it"),
    "no file": ("head", [NO_ENTRY], "that file is not in it"),
    "asked too often": ("head", [BUSY, BUSY], ""),
    "asked too often for ever": ("head", [BUSY] * EVER, "had too many requests: wait a while"),
    "storage asked too often": ("body", [BUSY], ""),
    "trouble": ("head", [TROUBLE, TROUBLE], ""),
    "trouble for ever": ("head", [TROUBLE] * EVER, "has a problem (status 503): try again later"),
    "storage in trouble": ("body", [TROUBLE], "has a problem (status 503): try again later"),
    "slow": ("head", [LATE], ""),
    "slow storage": ("body", [LATE], ""),
    "drop": ("head", [DROP], SILENT),
    "storage drops": ("body", [DROP], ""),
    "a login page": ("head", [LOGIN_PAGE] * 2, "the server at http://"),
    "a login page elsewhere": ("head", [TO_LOGIN_PAGE] * 2, "the server at http://"),
    "closed by the Hub": ("head", [DISABLED] * 2, "the Hub has closed that repository"),
    **{
        str(status): ("head", [Fault(status=status)] * 2, words)
        for status, words in {
            400: "refuses the request (status 400)",
            404: "the Hub has nothing by that name",
            405: "refuses the request (status 405)",
            407: "refuses the request (status 407)",
            409: "someone else is changing the repository",
            418: "refuses the request (status 418)",
            451: "refuses the request (status 451)",
        }.items()
    },
}


class TestColdCache:
    @pytest.mark.parametrize("file", FILES)
    @pytest.mark.parametrize("fault", COLD)
    def test_fault(self, hub, user, good, fetch, fault, file):
        kind, faults, words = COLD[fault]
        hub.fail(kind, *faults, repo=good.repo, file=file)
        outcome = fetch()
        if words:
            outcome.refused("WeightsNotFound", f"hf-hub:{good.repo}@{good.commit} cannot be fetched: ", words)
        else:
            assert contents(outcome.get()) == FILES
        assert_sound(user.cached(good.repo))
        hub.heal()
        assert contents(fetch().get()) == FILES

    def test_it_waits_as_it_is_told(self, hub, good, fetch):
        hub.fail("body", BUSY, repo=good.repo, file=WEIGHTS)
        assert fetch().slept == 8

    @pytest.mark.parametrize("kind", ["head", "body"])
    def test_longer_than_one_waits(self, hub, good, fetch, kind):
        hub.fail(kind, TOO_LATE, repo=good.repo, file=WEIGHTS)
        assert contents(fetch().get()) == FILES

    @pytest.mark.parametrize("wanted", [SHA256, UNKNOWN])
    @pytest.mark.parametrize("file", FILES)
    def test_flipped_once(self, hub, good, fetch, file, wanted):
        hub.fail("body", FLIPPED, repo=good.repo, file=file)
        outcome = fetch(wanted=wanted)
        assert contents(outcome.get()) == FILES
        assert f"hf-hub:{good.repo}@{good.commit}: {file} is damaged, downloading it once more" in outcome.printed
        assert hub.asked("body", good.repo, file) == 2

    @pytest.mark.parametrize("wanted", [SHA256, UNKNOWN])
    @pytest.mark.parametrize("file", FILES)
    def test_flipped_twice(self, hub, user, good, fetch, file, wanted):
        hub.fail("body", FLIPPED, FLIPPED, repo=good.repo, file=file)
        said = fetch("main", wanted).refused("CorruptWeights", f"{file}: its hash is ", "removed from the cache")
        expected = wanted[file] or hub.state.repos[good.repo].commits[good.commit].files[file].etag
        assert said.startswith(f"hf-hub:{good.repo}@") and f"but should be {expected};" in said
        assert_sound(user.cached(good.repo))
        assert contents(fetch("main", wanted).get()) == FILES
        assert hub.asked("body", good.repo, file) == 3

    def test_flipped_and_then_down(self, hub, user, good, fetch):
        hub.fail("body", FLIPPED, repo=good.repo, file=WEIGHTS)
        hub.fail("head", FINE, Fault(before=hub.down, drop=True), repo=good.repo, file=WEIGHTS)
        try:
            fetch().refused("CorruptWeights", f"but should be {SHA256[WEIGHTS]}", SILENT, "removed from the cache")
        finally:
            hub.up()
        assert_sound(user.cached(good.repo))
        assert contents(fetch().get()) == FILES

    @pytest.mark.parametrize("revision", ["commit", "main"])
    def test_down(self, hub, good, fetch, revision):
        with hub.away():
            outcome = fetch(vars(good).get(revision, revision))
            outcome.refused("WeightsNotFound", SILENT)
            assert outcome.slept == 1 + 2 + 4 + 8 + 8
        assert contents(fetch().get()) == FILES

    @pytest.mark.parametrize("revision", ["commit", "main"])
    def test_offline(self, offline, good, fetch, revision):
        fetch(vars(good).get(revision, revision), by=offline).refused("WeightsNotFound", OFFLINE)

    def test_half_a_network(self, hub, user, offline, good, fetch):
        """The client would give the folder all the same."""
        fetch("main", {CONFIG: None}).get()
        for revision in (good.commit, "main"):
            fetch(revision, by=offline).refused("WeightsNotFound", OFFLINE)
            with hub.away():
                fetch(revision).refused("WeightsNotFound", SILENT)
        offline(weights.locate, f"hf-hub:{good.repo}").refused("WeightsNotFound", OFFLINE)


# What happens to the requests for both files at a branch -> words of the error, or nothing where the cache answers.
WARM = {
    "401": ([UNAUTHORIZED], ""),
    "403": ([FORBIDDEN], ""),
    "gated": ([GATED], ""),
    "no repository": ([NO_REPO], ""),
    "no revision": ([NO_REVISION], "there is no such revision of it"),
    "no file": ([NO_ENTRY], "that file is not in it"),
    "asked too often": ([BUSY], ""),
    "trouble": ([TROUBLE], ""),
    "slow": ([LATE], ""),
    "too slow": ([TOO_LATE], ""),
    "drop": ([DROP], SILENT),
}


class TestWarmCache:
    @pytest.mark.parametrize("fault", WARM)
    def test_fault(self, hub, good, fetch, fault):
        faults, words = WARM[fault]
        fetch("main").get()
        hub.fail("head", *faults, repo=good.repo)
        assert contents(fetch().get()) == FILES  # asks for nothing
        outcome = fetch("main")
        if words:
            outcome.refused("WeightsNotFound", words)
        else:
            assert contents(outcome.get()) == FILES
        assert hub.asked("body", good.repo) == 2

    @pytest.mark.parametrize("revision", ["commit", "main"])
    def test_down_and_offline(self, hub, user, offline, good, fetch, revision):
        revision = vars(good).get(revision, revision)
        fetch("main").get()
        with hub.away():
            assert contents(fetch(revision).get()) == FILES
        before = len(hub.requests)
        assert contents(fetch(revision, by=offline).get()) == FILES
        assert len(hub.requests) == before

    @pytest.mark.parametrize("wanted", [SHA256, UNKNOWN])
    @pytest.mark.parametrize("revision", ["commit", "main"])
    @pytest.mark.parametrize("file", FILES)
    def test_damage_on_disk_is_healed(self, hub, good, fetch, file, revision, wanted):
        revision = vars(good).get(revision, revision)
        damage(fetch("main").get() / file)
        outcome = fetch(revision, wanted)
        assert contents(outcome.get()) == FILES and f"{file} is damaged, downloading it once more" in outcome.printed
        assert hub.asked("body", good.repo, file) == 2

    @pytest.mark.parametrize("wanted", [SHA256, UNKNOWN])
    @pytest.mark.parametrize("file", FILES)
    def test_damage_on_disk_without_a_network(self, hub, user, offline, good, fetch, file, wanted):
        for by, words in ((user, SILENT), (offline, OFFLINE)):
            damage(fetch().get() / file)
            with hub.away():
                fetch(wanted=wanted, by=by).refused("CorruptWeights", file, DAMAGED, words, "removed from the cache")
                fetch(wanted=wanted, by=by).refused("WeightsNotFound", words)
            assert_sound(user.cached(good.repo))
        assert contents(fetch(wanted=wanted).get()) == FILES

    def test_a_truncated_file_on_disk(self, fetch):
        path = fetch().get() / WEIGHTS
        path.resolve().write_bytes(FILES[WEIGHTS][:100])
        assert contents(fetch().get()) == FILES

    def test_blobs_that_repositories_share(self, user, offline, good, fetch):
        """With xet, a blob is a link to the store of the whole cache, where names are no sha256."""
        folder = fetch("main").get()
        blob = (folder / WEIGHTS).resolve()
        stored = user.home / "hub" / "blobs" / "ab" / ("ab" + 62 * "0")
        stored.parent.mkdir(parents=True)
        shutil.move(blob, stored)
        blob.symlink_to(os.path.relpath(stored, blob.parent))
        assert contents(fetch("main", UNKNOWN, by=offline).get()) == FILES
        damage(folder / WEIGHTS)
        fetch("main", UNKNOWN, by=offline).refused("CorruptWeights", f"but should be {SHA256[WEIGHTS]}")
        assert not stored.exists()
        assert contents(fetch("main", UNKNOWN).get()) == FILES

    def test_a_blob_whose_name_is_no_hash(self, offline, good, fetch):
        """A mirror may call its files as it likes; then nothing is known of them."""
        folder = fetch("main").get()
        blob = (folder / WEIGHTS).resolve().rename(folder.parents[1] / "blobs" / "65a1-1f4")
        (folder / WEIGHTS).unlink()
        (folder / WEIGHTS).symlink_to(blob)
        assert contents(fetch("main", UNKNOWN, by=offline).get()) == FILES
        blob.write_bytes(OTHER[WEIGHTS])
        fetch("main", by=offline).refused("CorruptWeights", f"but should be {SHA256[WEIGHTS]}")

    @pytest.mark.parametrize("wanted", [SHA256, UNKNOWN])
    @pytest.mark.parametrize("file", FILES)
    def test_a_copy_without_links_is_compared_with_the_hub_and_healed(self, hub, good, fetch, file, wanted):
        """As a file system without symbolic links holds it, or a cache that was copied."""
        path = fetch().get() / file
        path.write_bytes(path.read_bytes())
        blob = path.resolve()
        path.unlink()
        shutil.move(blob, path)
        assert contents(fetch(wanted=wanted).get()) == FILES
        path.write_bytes(loopback.flipped(FILES[file]))
        outcome = fetch(wanted=wanted)
        assert contents(outcome.get()) == FILES and f"{file} is damaged, downloading it once more" in outcome.printed

    @pytest.mark.parametrize("place", ["outside", "other repository"])
    def test_what_a_link_leads_to_outside_stays(self, hub, user, good, fetch, tmp_path, place):
        path = fetch().get() / WEIGHTS
        kept = tmp_path / "mine.safetensors"
        if place == "other repository":
            kept = user.home / "hub" / "models--acme--else" / "blobs" / ("0" * 64)
            kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(b"something else of mine")
        path.unlink()
        path.symlink_to(kept)
        hub.fail("body", FLIPPED, repo=good.repo, file=WEIGHTS)
        fetch().refused("CorruptWeights", f"but should be {SHA256[WEIGHTS]}")
        assert kept.read_bytes() == b"something else of mine"
        assert contents(fetch().get()) == FILES
        assert kept.read_bytes() == b"something else of mine"

    def test_a_folder_in_the_place_of_a_file(self, good, fetch):
        path = fetch().get() / WEIGHTS
        path.unlink()
        path.mkdir()
        fetch().refused("WeightsNotFound", f"{WEIGHTS} is not a file: remove it from the cache")

    def test_another_commit_for_the_second_file(self, hub, good, fetch):
        headers = {"X-Repo-Commit": 40 * "d", "X-Linked-Etag": SHA256[WEIGHTS], "X-Linked-Size": "3000"}
        hub.fail("head", Fault(status=200, headers=headers), repo=good.repo, file=WEIGHTS)
        fetch("main").refused("WeightsNotFound", f"{WEIGHTS} came from commit {40 * 'd'}", good.commit, "mirror")
        assert contents(fetch("main").get()) == FILES


class TestTokens:
    NOBODY = "there is no such repository, or it is private: log in"
    ASKING = "its owners require consent"

    @pytest.mark.parametrize(
        ("token", "words"),
        [(WRITER, ""), (READER, ""), (STRANGER, NOBODY), ("", NOBODY), (REVOKED, "rejects the token")],
    )
    def test_private(self, hub, user, repo, token, words):
        commit = hub.put(repo, FILES, private=True)
        outcome = user(zoo.fetch, repo, commit, SHA256, token=token)
        assert not words or outcome.refused("WeightsNotFound", words)
        assert words or contents(outcome.get()) == FILES

    @pytest.mark.parametrize(
        ("token", "words"),
        [(READER, ""), (STRANGER, ASKING), ("", ASKING), (REVOKED, "rejects the token")],
    )
    def test_gated(self, hub, user, repo, token, words):
        commit = hub.put(repo, FILES, gated=("bob",))
        outcome = user(zoo.fetch, repo, commit, SHA256, token=token)
        assert not words or outcome.refused("WeightsNotFound", words)
        assert words or contents(outcome.get()) == FILES

    def test_the_storage_never_sees_one(self, hub, fetch):
        fetch().get()
        at_storage = [request for request in hub.requests if request.host.startswith("localhost")]
        assert at_storage and all(SECRET not in str(request.headers) for request in at_storage)
        assert any(request.token == READER for request in hub.requests)


@pytest.fixture
def trained(tmp_path):
    """A folder to publish."""
    for name, content in {**FILES, "README.md": b"---\nlicense: mit\n---\n"}.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def push(user, repo, trained):
    """Pushes the folder as `user` does."""

    def pushed(by=user, token=WRITER, **named):
        return by(zoo.push, trained, repo, "A message", token=token, **named)

    return pushed


# What happens to requests of a push -> words of the error, or nothing where it succeeds.
PUSH = {
    "someone else was faster": (
        "commit",
        [STALE],
        "someone else changed the repository in the meantime: run the same command",
    ),
    "trouble at the commit": ("commit", [TROUBLE], "has a problem (status 503): try again later"),
    "trouble at the upload": ("upload", [TROUBLE], ""),
    "trouble at the upload for ever": ("upload", [TROUBLE] * EVER, "has a problem (status 503): try again later"),
    "upload refused": ("upload", [FORBIDDEN], "the token does not allow this"),
    "asked too often": ("commit", [BUSY], "had too many requests: wait a while, then run the same command again"),
    "dropped": ("preupload", [DROP], ""),
    "dropped at the commit": ("commit", [DROP], SILENT),
    "answer lost": ("commit", [NOTHING], SILENT),
    "no answer to what it is": ("info", [TROUBLE], "has a problem (status 503): try again later"),
}


class TestPush:
    def test_a_new_repository(self, hub, user, repo, push, trained):
        commit = push(private=True).get()
        kept = hub.state.repos[repo]
        assert kept.head == commit and len(kept.commits) == 2 and kept.private
        assert {name: blob.content for name, blob in kept.commits[commit].files.items()} == {
            **contents(trained),
            ".gitattributes": GITATTRIBUTES,
        }
        fetched = user(zoo.fetch, repo, commit, SHA256, token=READER).get()
        assert contents(fetched) == FILES

    def test_only_what_changed(self, hub, repo, push, trained):
        first = push().get()
        assert push().get() == first and hub.asked("commit", repo) == 1
        (trained / CONFIG).write_bytes(OTHER[CONFIG])
        second = push().get()
        kept = hub.state.repos[repo].commits
        assert kept[second].parent == first and kept[second].files[CONFIG].content == OTHER[CONFIG]
        assert hub.asked("commit", repo) == 2 and hub.asked("upload", repo) == 1

    def test_a_folder_inside(self, hub, repo, push, trained):
        (trained / "onnx").mkdir()
        (trained / "onnx" / "evaluation.json").write_bytes(b"{}")
        commit = push().get()
        assert hub.state.repos[repo].commits[commit].files["onnx/evaluation.json"].content == b"{}"

    @pytest.mark.parametrize(("kind", "damaged"), [("upload", WEIGHTS), ("commit", f"README.md, {CONFIG}")])
    def test_what_arrives_damaged(self, hub, repo, push, trained, kind, damaged):
        hub.fail(kind, KEPT_DAMAGED, repo=repo)
        push().refused("CorruptWeights", f"hf-hub:{repo}@", f"{damaged} arrived damaged; publish it again")
        commit = push().get()
        files = hub.state.repos[repo].commits[commit].files
        assert {name: files[name].content for name in contents(trained)} == contents(trained)

    @pytest.mark.parametrize("fault", PUSH)
    def test_fault(self, hub, repo, push, fault):
        kind, faults, words = PUSH[fault]
        hub.fail(kind, *faults, repo=repo)
        outcome = push()
        assert not words or outcome.refused("HubError", f"hf-hub:{repo}: ", words)
        hub.heal()
        commit = push().get()
        assert commit == hub.state.repos[repo].head and len(hub.state.repos[repo].commits) == 2

    def test_someone_else_is_faster(self, hub, good, push):
        hub.fail("preupload", Fault(before=lambda: hub.put(good.repo, OTHER)), repo=good.repo)
        push().refused("HubError", "run the same command again")
        assert push().get() == hub.state.repos[good.repo].head

    @pytest.mark.parametrize(
        ("token", "words"),
        [
            (READER, "the token does not allow this, publishing needs write access to the organisation: log in"),
            (STRANGER, "write access"),
            (REVOKED, "rejects the token or requires one: log in"),
            ("", "rejects the token or requires one: log in with `hf auth login`, or set HF_TOKEN"),
        ],
    )
    @pytest.mark.parametrize("there", [True, False])
    def test_who_may_not(self, hub, repo, push, there, token, words):
        if there:
            hub.put(repo, FILES)
        push(token=token).refused("HubError", f"hf-hub:{repo}: ", words)

    def test_down_and_offline(self, hub, offline, push):
        push(by=offline).refused("HubError", OFFLINE)
        with hub.away():
            push().refused("HubError", SILENT)


class TestTagAndCollect:
    def test_a_tag_per_commit(self, hub, user, good):
        def tag(commit):
            return user(zoo.tag, good.repo, commit, "1", token=WRITER).get()

        commits = [good.commit, *(hub.put(good.repo, {CONFIG: content}) for content in (b"{}", b"[]"))]
        assert [tag(commit) for commit in (*commits, *commits)] == ["v1", "v1-2", "v1-3"] * 2
        assert hub.state.repos[good.repo].tags == dict(zip(["v1", "v1-2", "v1-3"], commits, strict=True))

    def test_no_tag(self, user, good):
        user(zoo.tag, good.repo, 40 * "b", "1", token=WRITER).refused("HubError", "there is no such revision of it")
        user(zoo.tag, good.repo, good.commit, "1", token=READER).refused("HubError", "write access")
        user(zoo.tag, "acme/nowhere", good.commit, "1", token=READER).refused("HubError", "there is no such repository")

    @pytest.mark.parametrize("private", [True, False])
    def test_a_collection_once_and_an_item_once(self, hub, user, good, private):
        other = f"{good.repo}-other"
        hub.put(other, FILES)
        title = f"Models of {good.repo}"
        for repo in (good.repo, other) * 2:
            slug = user(zoo.collect, repo, title, token=WRITER, private=private).get()
            kept = hub.state.collections[slug]
        assert (kept.title, kept.owner, kept.private, kept.items) == (title, "acme", private, [good.repo, other])
        user(zoo.collect, good.repo, title, token=STRANGER).refused("HubError", good.repo, "write access")

    def test_owner(self, user):
        assert user(zoo.owner, token=WRITER).get() == "ada"
        user(zoo.owner, token=REVOKED).refused("HubError", "rejects the token")
        user(zoo.owner, token="").refused("HubError", "there is no token on this machine: log in with `hf auth login`")


class TestExplain:
    def test_no_query_of_an_address_is_told(self):
        said = zoo.explain(OSError("no route to https://cdn.example/file?signature=secret today\nand more"))
        assert said == "OSError: no route to https://cdn.example/file today"
