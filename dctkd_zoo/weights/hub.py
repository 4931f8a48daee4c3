"""Files from and to the Hugging Face Hub, at one commit, compared with their hashes before anything is read."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from dctkd_zoo._io import hashing
from dctkd_zoo.errors import CorruptWeights, HubError, WeightsNotFound, named

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)

HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")  # of git, sha256
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def fetch(repo: str, revision: str, wanted: Mapping[str, str | None]) -> Path:
    """The folder of the Hub's cache that holds the files of `wanted` as they are at one commit of `repo`.

    `wanted` gives each file its sha256; for None it is compared with the hash that the Hub keeps it under. A damaged
    file is fetched once more, then removed: `CorruptWeights`. `WeightsNotFound` says why a file cannot be had.
    """
    folder: Path | None = None
    for name, expected in wanted.items():
        result = _sound(repo, revision, name, expected).parent
        if folder is not None and result.name != folder.name:
            raise WeightsNotFound(
                f"hf-hub:{repo}@{revision}: {name} came from commit {result.name}, the file before it from "
                f"{folder.name}: try again, or set HF_ENDPOINT to another mirror"
            )
        folder = result
        revision = folder.name  # the commit: a branch may move between two files
    assert folder is not None
    return folder


def _sound(repo: str, revision: str, name: str, expected: str | None) -> Path:
    """A file of the cache without damage."""
    path = _downloaded(repo, revision, name)
    expected = expected or _kept_under(path) or _told_by_hub(repo, path.parent.name, name)
    damage = _damage(path, expected)
    if damage:
        log.warning("hf-hub:%s@%s: %s is damaged, fetching it once more", repo, revision, name)
        _discard(path)  # the client would keep a copy that is no link, whatever it is told
        try:
            path = _downloaded(repo, revision, name, again=True)
            damage = _damage(path, expected or _kept_under(path))
        except WeightsNotFound as error:
            damage += f"; {error}"
    if damage:
        _discard(path)
        raise CorruptWeights(f"hf-hub:{repo}@{revision}: {name}: {damage}; the file was removed from the cache")
    return path


def _downloaded(repo: str, revision: str, name: str, *, again: bool = False) -> Path:
    from huggingface_hub import hf_hub_download  # a slow import that finding weights on disk does without

    try:
        path = Path(hf_hub_download(repo, name, revision=revision, force_download=again))
    except Exception as error:  # the client lets its HTTP library's errors through, and changes the library
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise WeightsNotFound(f"hf-hub:{repo}@{revision} cannot be fetched: {explain(error)}") from error
    if not path.is_file():
        raise WeightsNotFound(f"hf-hub:{repo}@{revision}: {path} is no file: remove it from the cache, then try again")
    return path


def _damage(path: Path, expected: str | None) -> str:
    """How a file differs from what it should be; empty where it does not, or where nothing is known."""
    if expected is None or (result := hashing.like(expected, path)) == expected:
        return ""
    return f"its hash is {result} but should be {expected}"


def _kept_under(path: Path) -> str | None:
    """The hash by which the cache calls what a link stands for; it may be a link itself, to a name of another kind."""
    name = path.readlink().name if path.is_symlink() else ""
    return name if HASH.fullmatch(name) else None


def _told_by_hub(repo: str, commit: str, name: str) -> str | None:
    """The hash that the Hub keeps a file under: for a cache without links. None where the Hub cannot be asked."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        etag = get_hf_file_metadata(hf_hub_url(repo, name, revision=commit)).etag or ""
    except Exception as error:  # offline, say: then nothing is known
        log.info("hf-hub:%s@%s: the hash of %s is not known: %s", repo, commit, name, explain(error))
        return None
    return etag if HASH.fullmatch(etag) else None


def _discard(path: Path) -> None:
    """Remove a file of the cache: its name in the snapshot, and what that links to within the cache.

    That is a blob of this repository, or of the store that repositories share. Whatever else a link leads to is not
    the cache's, and stays.
    """
    repository = path.parents[2]
    blobs = (repository / "blobs", repository.parent / "blobs")
    while True:
        target = path.parent / path.readlink() if path.is_symlink() else None
        path.unlink(missing_ok=True)
        if target is None or not any(target.parent.resolve().is_relative_to(place.resolve()) for place in blobs):
            return
        path = target


def explain(error: BaseException, *, publishing: bool = False) -> str:
    """What an error of the Hub's client means, and the way on; no address in it keeps its query, which may sign."""
    from huggingface_hub import constants, errors

    library = errors.HfHubHTTPError.__mro__[1]  # what all errors of the HTTP library are, whichever library it is
    while error.__cause__ and not isinstance(error, library):
        error = error.__cause__  # what went wrong, out of "force download failed due to the above error"
    here = constants.ENDPOINT
    offline = "HF_HUB_OFFLINE is set: unset it, or fetch what is needed once where there is a network"
    status = getattr(getattr(error, "response", None), "status_code", 0)
    ways = {
        errors.GatedRepoError: f"its owners want to be asked: accept their terms on {here}, then {LOG_IN}",
        errors.RepositoryNotFoundError: f"there is no such repository, or it is private: {LOG_IN}",
        errors.RevisionNotFoundError: "there is no such revision of it",
        errors.RemoteEntryNotFoundError: "that file is not in it",
        errors.LocalTokenNotFoundError: f"there is no token on this machine: {LOG_IN}",
        errors.OfflineModeIsEnabled: offline,
        errors.DisabledRepoError: "the Hub has closed that repository: its page says why",
        errors.FileMetadataError: f"what answers at {here} is no Hub: is there a login page or a proxy in between? Log "
        "in to this network, or set HF_ENDPOINT to a mirror",
        errors.HFValidationError: "that is no name of a repository: ORG/NAME",
    }
    refused = "publishing wants write access to the organisation" if publishing else "it has to be allowed to read this"
    statuses = {
        0: f"{here} does not answer, or breaks off: try again later, or set HF_ENDPOINT to a mirror",
        401: f"{here} does not know the token, or wants one: {LOG_IN}",
        403: f"the token may not do this, {refused}: {LOG_IN}",
        404: "there is no such thing on it",
        409: "someone else is changing it: run the same command again",
        412: "someone else changed the repository meanwhile: run the same command again",
        429: f"{here} was asked too often: wait a while, then run the same command again",
    }
    other = f"{here} is in trouble (status {status}): try again later"
    if status < 500:
        other = f"{here} refuses the request (status {status}): a proxy in between may, or HF_ENDPOINT is no Hub"
    answered = statuses.get(status, other) if isinstance(error, library) else ""
    way = next((words for kind, words in ways.items() if isinstance(error, kind)), answered)
    said = re.sub(r"\?\S*", "", named(error).partition("\n")[0])
    return f"{way} ({type(error).__name__})" if way else said


def check_card(card: Path, repo: str) -> None:
    """Have the Hub validate the metadata of a model card; `HubError` with its answer if it does not accept them."""
    from huggingface_hub import ModelCard

    with _explained(repo):
        try:
            ModelCard.load(card).validate()
        except ValueError as error:  # the Hub's answer
            said = " ".join(str(error).split())
            raise HubError(f"hf-hub:{repo}: the Hub does not accept the metadata of its card: {said:.500}") from error


def push(folder: Path, repo: str, message: str, *, private: bool = False) -> str:
    """Put the files of `folder` into a repository, made if need be, in one commit, and return the commit.

    Files that are there already are not sent again, and where nothing differs no commit is made. The hashes that the
    Hub then keeps them under are compared with ours. `HubError` where the Hub refuses, `CorruptWeights` where a file
    arrived damaged.
    """
    with _explained(repo) as api:
        api.create_repo(repo, private=private, exist_ok=True)
        head = api.model_info(repo).sha
        info = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message, parent_commit=head)
        _compare(api, folder, repo, info.oid)
    commit: str = info.oid
    return commit


def _compare(api: HfApi, folder: Path, repo: str, commit: str) -> None:
    """Refuse a commit whose files are not those of the folder."""
    siblings = api.model_info(repo, revision=commit, files_metadata=True).siblings or []
    kept = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id or "" for file in siblings}
    damaged = [
        path.name
        for path in sorted(folder.iterdir())
        if not kept.get(path.name) or hashing.like(kept[path.name], path) != kept[path.name]
    ]
    if damaged:
        raise CorruptWeights(f"hf-hub:{repo}@{commit}: {', '.join(damaged)} arrived damaged; publish it again")


def tag(repo: str, commit: str, version: str) -> str:
    """Tag a commit `v<version>`, or `v<version>-2` and on where another commit has that; its tag if it has one."""
    with _explained(repo) as api:
        taken = {ref.name for ref in api.list_repo_refs(repo).tags}
        for number in count(1):
            name = f"v{version}" + (f"-{number}" if number > 1 else "")
            if name not in taken:
                api.create_tag(repo, tag=name, revision=commit)
                return name
            if api.model_info(repo, revision=name).sha == commit:
                return name
    raise AssertionError("numbers do not end")


def collect(repo: str, title: str, *, private: bool = False) -> str:
    """Put a repository into its owner's collection called `title`, made if need be, and return the collection."""
    with _explained(repo) as api:
        collection = api.create_collection(title, namespace=repo.split("/")[0], private=private, exists_ok=True)
        if repo not in {item.item_id for item in collection.items}:
            api.add_collection_item(collection.slug, repo, "model", exists_ok=True)
    slug: str = collection.slug
    return slug


def owner() -> str:
    """The name that the token on this machine belongs to."""
    with _explained("") as api:
        name: str = api.whoami()["name"]
    return name


@contextmanager
def _explained(repo: str) -> Iterator[HfApi]:
    from huggingface_hub import HfApi

    try:
        yield HfApi()
    except (CorruptWeights, HubError):
        raise
    except Exception as error:  # as in fetching
        words = explain(error, publishing=True)
        raise HubError(f"hf-hub:{repo}: {words}" if repo else words) from error
