"""The loopback Hub as the client itself sees it, and the habits of the client that the zoo guards against."""

import hashlib
import os
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.hub import loopback
from tests.hub.hub_state import GITATTRIBUTES, Blob
from tests.hub.hub_user import User
from tests.hub.loopback import BUSY, CUT, DROP, FINE, FLIPPED, Fault, serving

CONFIG, WEIGHTS = b'{"architecture": "resnet18"}\n', os.urandom(3000)
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS}
WRITER, READER, STRANGER = "hf_writer", "hf_reader", "hf_stranger"


@pytest.fixture(scope="module")
def hub():
    with serving() as hub:
        hub.login(WRITER, "ada", "acme")
        hub.login(READER, "bob", "acme", write=False)
        hub.login(STRANGER, "eve")
        yield hub


@pytest.fixture(scope="module")
def user(hub, tmp_path_factory):
    user = User(hub.endpoint, tmp_path_factory.mktemp("user"))
    yield user
    user.close()


@pytest.fixture
def folder(tmp_path):
    """A folder to upload."""
    for name, content in {**FILES, "README.md": b"---\nlicense: mit\n---\n"}.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def api(name, *arguments, **named):
    """A method of `HfApi`, called in the user's process."""
    from huggingface_hub import HfApi

    return getattr(HfApi(), name)(*arguments, **named)


def download(repo, file, revision="main", **named):
    from huggingface_hub import hf_hub_download

    path = Path(hf_hub_download(repo, file, revision=revision, **named))
    return path.parent.name, path.resolve().name, path.read_bytes()


def upload(repo, folder, **named):
    from huggingface_hub import HfApi

    return HfApi().upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload", **named).oid


def info(repo, revision=None):
    """The commit, and the hashes of the files."""
    from huggingface_hub import HfApi

    result = HfApi().model_info(repo, revision=revision, files_metadata=True)
    return result.sha, {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in result.siblings or []}


def refs(repo):
    from huggingface_hub import HfApi

    result = HfApi().list_repo_refs(repo)
    return {ref.ref: ref.target_commit for ref in [*result.branches, *result.tags]}


def collection(name, *arguments, **named):
    """A call that gives a collection, to its slug and the repositories in it."""
    result = api(name, *arguments, **named)
    return result.slug, [item.item_id for item in result.items]


class TestCommits:
    def test_a_folder_in_one_commit(self, hub, user, folder):
        assert str(user(api, "create_repo", "acme/folder", token=WRITER).get()) == f"{hub.endpoint}/acme/folder"
        first = user(info, "acme/folder").get()
        assert [*first[1]] == [".gitattributes"]
        commit = user(upload, "acme/folder", folder, token=WRITER).get()
        sha, hashes = user(info, "acme/folder").get()
        assert sha == commit and hub.state.repos["acme/folder"].commits[commit].parent == first[0]
        assert hashes["model.safetensors"] == hashlib.sha256(WEIGHTS).hexdigest()
        assert hashes["config.json"] == Blob(CONFIG, large=False).blob_id
        assert user(info, "acme/folder", first[0]).get() == first

    def test_an_unchanged_folder_makes_no_commit(self, hub, user, folder):
        user(api, "create_repo", "acme/twice", token=WRITER).get()
        commits = [user(upload, "acme/twice", folder, token=WRITER).get() for _ in range(2)]
        assert commits[0] == commits[1] and len(hub.state.repos["acme/twice"].commits) == 2
        assert hub.asked("upload", "acme/twice") == hub.asked("commit", "acme/twice") == 1

    def test_what_arrives_damaged_is_reported_as_it_is_kept(self, hub, user, folder):
        user(api, "create_repo", "acme/damaged", token=WRITER).get()
        hub.fail("upload", loopback.KEPT_DAMAGED, repo="acme/damaged")
        user(upload, "acme/damaged", folder, token=WRITER).get()
        _, hashes = user(info, "acme/damaged").get()
        assert hashes["model.safetensors"] == hashlib.sha256(loopback.flipped(WEIGHTS)).hexdigest()
        user(upload, "acme/damaged", folder, token=WRITER).get()
        assert user(info, "acme/damaged").get()[1]["model.safetensors"] == hashlib.sha256(WEIGHTS).hexdigest()

    def test_a_stale_parent_is_refused(self, hub, user, folder):
        stale = hub.put("acme/stale", FILES)
        hub.put("acme/stale", {"config.json": b"{}"})
        outcome = user(upload, "acme/stale", folder, token=WRITER, parent_commit=stale)
        outcome.refused("HfHubHTTPError", "412", "A commit has happened since")

    def test_files_can_go(self, hub, user):
        hub.put("acme/gone", FILES)
        user(api, "delete_file", "config.json", "acme/gone", token=WRITER).get()
        assert sorted(user(info, "acme/gone").get()[1]) == [".gitattributes", "model.safetensors"]

    def test_ids_say_what_is_in_them(self, hub):
        assert hub.put("acme/one", FILES) == hub.put("acme/other", FILES) != hub.put("acme/other", FILES)


class TestFiles:
    @pytest.mark.parametrize("file", FILES)
    def test_download(self, hub, user, file):
        commit = hub.put("acme/files", FILES)
        blob = Blob(FILES[file], large=file.endswith(".safetensors"))
        assert user(download, "acme/files", file).get() == (commit, blob.etag, FILES[file])

    def test_the_storage_is_asked_without_the_token(self, hub, user):
        hub.put("acme/storage", FILES, private=True)
        user(download, "acme/storage", "model.safetensors", token=WRITER).get()
        head, body = [request for request in hub.requests if request.named.get("repo") == "acme/storage"]
        assert (head.host.partition(":")[0], head.token) == ("127.0.0.1", WRITER)
        assert (body.host.partition(":")[0], body.token) == ("localhost", "")

    def test_a_token_at_the_storage_is_an_error(self, hub):
        hub.put("acme/stray", FILES)
        url = f"{hub.state.storage}/acme/stray/{hashlib.sha256(WEIGHTS).hexdigest()}/model.safetensors"
        assert urlopen(url).read() == WEIGHTS
        with pytest.raises(HTTPError, match="400") as refused:
            urlopen(Request(url, headers={"Authorization": f"Bearer {WRITER}"}))
        refused.value.close()
        assert "a token reached the storage" in str(hub.errors.pop())

    @pytest.mark.parametrize(
        ("asked", "start", "end"), [("bytes=0-9", 0, 10), ("bytes=2990-", 2990, 3000), ("bytes=-7", 2993, 3000)]
    )
    def test_ranges(self, hub, asked, start, end):
        hub.put("acme/ranges", FILES)
        url = f"{hub.state.storage}/acme/ranges/{hashlib.sha256(WEIGHTS).hexdigest()}/model.safetensors"
        with urlopen(Request(url, headers={"Range": asked})) as answer:
            assert (answer.status, answer.read()) == (206, WEIGHTS[start:end])
            assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/3000"

    def test_a_range_that_is_not_there(self, hub):
        hub.put("acme/ranges", FILES)
        with pytest.raises(HTTPError, match="416") as refused:
            urlopen(Request(f"{hub.endpoint}/acme/ranges/resolve/main/config.json", headers={"Range": "bytes=99-"}))
        refused.value.close()

    def test_the_whole_snapshot(self, hub, user):
        hub.put("acme/snapshot", FILES)
        path = Path(user(api, "snapshot_download", "acme/snapshot").get())
        assert {file.name: file.read_bytes() for file in path.iterdir()} == {".gitattributes": GITATTRIBUTES, **FILES}

    def test_checksums(self, hub, user):
        hub.put("acme/sums", FILES)
        user(download, "acme/sums", "model.safetensors").get()
        checked = user(api, "verify_repo_checksums", "acme/sums").get()
        assert checked.checked_count == 1 and not checked.mismatches


class TestRefsAndCollections:
    def test_tags(self, hub, user):
        first, second = hub.put("acme/tags", FILES), hub.put("acme/tags", {"config.json": b"{}"})
        user(api, "create_tag", "acme/tags", tag="v1", revision=first, token=WRITER).get()
        taken = user(api, "create_tag", "acme/tags", tag="v1", revision=second, token=WRITER)
        taken.refused("HfHubHTTPError", "409")
        assert user(refs, "acme/tags").get() == {"refs/heads/main": second, "refs/tags/v1": first}
        assert user(download, "acme/tags", "config.json", "v1").get()[::2] == (first, CONFIG)
        assert user(info, "acme/tags", "v1").get()[0] == first

    def test_collections(self, hub, user):
        hub.put("acme/member", FILES)
        slug, items = user(collection, "create_collection", "Our Models", namespace="acme", token=WRITER).get()
        assert slug.startswith("acme/our-models-") and items == []
        again = user(collection, "create_collection", "Our Models", namespace="acme", token=WRITER)
        again.refused("HfHubHTTPError", "409")
        added = user(collection, "add_collection_item", slug, "acme/member", "model", token=WRITER)
        assert added.get() == (slug, ["acme/member"])
        user(collection, "add_collection_item", slug, "acme/member", "model", token=WRITER).refused(
            "HfHubHTTPError", "409"
        )
        assert user(collection, "get_collection", slug).get() == (slug, ["acme/member"])


class TestRights:
    def test_names(self, user):
        assert user(api, "whoami", token=READER).get()["name"] == "bob"
        user(api, "whoami", token="hf_unknown").refused("HfHubHTTPError", "Invalid user token")

    @pytest.mark.parametrize(
        ("token", "error"), [("", "RepositoryNotFoundError"), (STRANGER, "RepositoryNotFoundError"), (READER, "")]
    )
    def test_private(self, hub, user, token, error):
        repo = f"acme/private{token}"
        hub.put(repo, FILES, private=True)
        outcome = user(download, repo, "config.json", token=token)
        assert outcome.error == error and ("401" if not token else "404" if error else "") in outcome.said

    @pytest.mark.parametrize(("token", "error"), [("", "GatedRepoError"), (STRANGER, "GatedRepoError"), (READER, "")])
    def test_gated(self, hub, user, token, error):
        repo = f"acme/gated{token}"
        hub.put(repo, FILES, gated=("bob",))
        assert user(download, repo, "config.json", token=token).error == error

    @pytest.mark.parametrize(
        ("token", "status"), [("", "401"), ("hf_unknown", "401"), (READER, "403"), (STRANGER, "403")]
    )
    def test_who_may_not_write(self, hub, user, folder, token, status):
        hub.put("acme/closed", FILES)
        user(upload, "acme/closed", folder, token=token).refused("HfHubHTTPError", status)
        user(api, "create_repo", "acme/new", token=token).refused("HfHubHTTPError", status)

    @pytest.mark.parametrize(
        ("repo", "file", "revision", "error"),
        [
            ("acme/nowhere", "config.json", "main", "RepositoryNotFoundError"),
            ("acme/here", "config.json", "v7", "RevisionNotFoundError"),
            ("acme/here", "nothing.json", "main", "RemoteEntryNotFoundError"),
        ],
    )
    def test_what_is_not_there(self, hub, user, repo, file, revision, error):
        hub.put("acme/here", FILES)
        assert "404" in user(download, repo, file, revision, token=READER).refused(error)


class TestFaults:
    def test_one_after_the_other_and_only_where_asked_for(self, hub):
        fault = Fault(status=418)
        hub.fail("head", fault, FINE, repo="acme/a", file="x")
        hub.fail("head", DROP, repo="acme/a")
        named = {"repo": "acme/a", "file": "x"}
        assert hub.fault("body", named) is hub.fault("head", {"repo": "acme/b", "file": "x"}) is FINE
        assert [hub.fault("head", named) for _ in range(4)] == [fault, FINE, DROP, FINE]

    @pytest.mark.parametrize("file", FILES)
    def test_a_body_that_breaks_off_is_asked_for_again(self, hub, user, file):
        hub.put(f"acme/cut-{file}", FILES)
        hub.fail("body", CUT, repo=f"acme/cut-{file}")
        outcome = user(download, f"acme/cut-{file}", file)
        assert outcome.get()[2] == FILES[file] and outcome.slept == 1
        assert hub.asked("body", f"acme/cut-{file}") == 2

    def test_a_large_one_goes_on_where_a_chunk_ended(self, hub, user):
        content = WEIGHTS * 7500
        hub.put("acme/large", {"model.safetensors": content})
        hub.fail("body", CUT, repo="acme/large")
        assert user(download, "acme/large", "model.safetensors").get()[2] == content
        again = [request for request in hub.requests if request.named.get("repo") == "acme/large"][-1]
        assert again.headers["Range"] == f"bytes={10 * 2**20}-"

    @pytest.mark.parametrize("file", FILES)
    def test_the_client_takes_a_damaged_body_for_good(self, hub, user, file):
        hub.put(f"acme/flip-{file}", FILES)
        hub.fail("body", FLIPPED, repo=f"acme/flip-{file}")
        for _ in range(2):  # and serves it again
            _, name, content = user(download, f"acme/flip-{file}", file).get()
            assert content == loopback.flipped(FILES[file])
            assert name == Blob(FILES[file], large=file.endswith(".safetensors")).etag
        assert user(download, f"acme/flip-{file}", file, force_download=True).get()[2] == FILES[file]

    def test_the_client_waits_as_it_is_told(self, hub, user):
        hub.put("acme/busy", FILES)
        hub.fail("body", BUSY, repo="acme/busy")
        assert user(download, "acme/busy", "config.json").slept == 8

    def test_down_means_that_nobody_answers(self, hub, user):
        hub.put("acme/down", FILES)
        user(download, "acme/down", "config.json").get()  # leaves a connection that is kept alive
        with hub.away():
            before = len(hub.requests)
            assert user(api, "model_info", "acme/down").error == "ConnectError"
            outcome = user(download, "acme/down", "model.safetensors")
            outcome.refused("LocalEntryNotFoundError")
            assert outcome.slept == 1 + 2 + 4 + 8 + 8 and len(hub.requests) == before
        assert user(download, "acme/down", "model.safetensors").get()[2] == WEIGHTS

    def test_a_request_without_a_route_is_an_error_of_the_server(self, hub):
        with pytest.raises(HTTPError, match="404") as refused:
            urlopen(f"{hub.endpoint}/api/spaces")
        refused.value.close()
        assert str(hub.errors.pop()) == "no route for GET /api/spaces"

    def test_the_server_s_own_errors_fail_what_used_it(self):
        with pytest.raises(AssertionError, match="no route for"), serving() as hub, pytest.raises(HTTPError) as refused:
            urlopen(f"{hub.endpoint}/api/spaces")
        refused.value.close()
