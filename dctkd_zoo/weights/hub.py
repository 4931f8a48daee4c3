"""Downloads from and uploads to the Hugging Face Hub, at one commit, with hashes compared before use."""

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

HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")  # sha1 of a git blob, or sha256
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def fetch(repo: str, revision: str, wanted: Mapping[str, str | None]) -> Path:
    """Download the files of `wanted` at one commit of `repo`, and return their folder in the Hub's cache.

    `wanted` has the sha256 of each file, or None to use the hash that the Hub has for it. A damaged file is downloaded
    once more, then removed: `CorruptWeights`. `WeightsNotFound` says why a file is not available.
    """
    folder: Path | None = None
    for name, expected in wanted.items():
        result = _verified(repo, revision, name, expected).parent
        if folder is not None and result.name != folder.name:
            raise WeightsNotFound(
                f"hf-hub:{repo}@{revision}: {name} came from commit {result.name}, the file before it from "
                f"{folder.name}: try again, or set HF_ENDPOINT to another mirror"
            )
        folder = result
        revision = folder.name  # the commit: a branch may move between two files
    assert folder is not None
    return folder


def _verified(repo: str, revision: str, name: str, expected: str | None) -> Path:
    """Return the path of a file in the cache that matches its hash."""
    path = _downloaded(repo, revision, name)
    expected = expected or _cached_hash(path) or _hub_hash(repo, path.parent.name, name)
    damage = _damage(path, expected)
    if damage:
        log.warning("hf-hub:%s@%s: %s is damaged, downloading it once more", repo, revision, name)
        _discard(path)  # the client keeps a copy that is not a link, even with force_download
        try:
            path = _downloaded(repo, revision, name, again=True)
            damage = _damage(path, expected or _cached_hash(path))
        except WeightsNotFound as error:
            damage += f"; {error}"
    if damage:
        _discard(path)
        raise CorruptWeights(f"hf-hub:{repo}@{revision}: {name}: {damage}; the file was removed from the cache")
    return path


def _downloaded(repo: str, revision: str, name: str, *, again: bool = False) -> Path:
    from huggingface_hub import hf_hub_download  # slow to import, and not needed for weights on disk

    try:
        path = Path(hf_hub_download(repo, name, revision=revision, force_download=again))
    except Exception as error:  # the client passes on errors of its HTTP library, which differs by version
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise WeightsNotFound(f"hf-hub:{repo}@{revision} cannot be fetched: {explain(error)}") from error
    if not path.is_file():
        raise WeightsNotFound(
            f"hf-hub:{repo}@{revision}: {path} is not a file: remove it from the cache, then try again"
        )
    return path


def _damage(path: Path, expected: str | None) -> str:
    """Return how a file's hash differs from the expected one; empty if it does not, or if none is known."""
    if expected is None or (result := hashing.like(expected, path)) == expected:
        return ""
    return f"its hash is {result} but should be {expected}"


def _cached_hash(path: Path) -> str | None:
    """Return the hash that the cache names a link's target by; a target with another name has none."""
    name = path.readlink().name if path.is_symlink() else ""
    return name if HASH.fullmatch(name) else None


def _hub_hash(repo: str, commit: str, name: str) -> str | None:
    """Return the Hub's hash of a file, for a cache without links; None if the Hub cannot be reached."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        etag = get_hf_file_metadata(hf_hub_url(repo, name, revision=commit)).etag or ""
    except Exception as error:  # offline, for example
        log.info("hf-hub:%s@%s: the hash of %s is unknown: %s", repo, commit, name, explain(error))
        return None
    return etag if HASH.fullmatch(etag) else None


def _discard(path: Path) -> None:
    """Remove a file of the cache: its name in the snapshot, and the blob it links to.

    That is a blob of this repository, or of the store that repositories share. Any other target of a link does not
    belong to the cache and stays.
    """
    repository = path.parents[2]
    blobs = (repository / "blobs", repository.parent / "blobs")
    while True:
        target = path.parent / path.readlink() if path.is_symlink() else None
        path.unlink(missing_ok=True)
        if target is None or not any(target.parent.resolve().is_relative_to(folder.resolve()) for folder in blobs):
            return
        path = target


def explain(error: BaseException, *, publishing: bool = False) -> str:
    """Explain an error of the Hub's client and what to do; URLs lose their query, which may hold a signature."""
    from huggingface_hub import constants, errors

    library = errors.HfHubHTTPError.__mro__[1]  # base class of the errors of whichever HTTP library it uses
    while error.__cause__ and not isinstance(error, library):
        error = error.__cause__  # the cause behind "force download failed due to the above error"
    here = constants.ENDPOINT
    offline = "HF_HUB_OFFLINE is set: unset it, or fetch what is needed once where there is a network"
    status = getattr(getattr(error, "response", None), "status_code", 0)
    messages = {
        errors.GatedRepoError: f"its owners require consent: accept their terms on {here}, then {LOG_IN}",
        errors.RepositoryNotFoundError: f"there is no such repository, or it is private: {LOG_IN}",
        errors.RevisionNotFoundError: "there is no such revision of it",
        errors.RemoteEntryNotFoundError: "that file is not in it",
        errors.LocalTokenNotFoundError: f"there is no token on this machine: {LOG_IN}",
        errors.OfflineModeIsEnabled: offline,
        errors.DisabledRepoError: "the Hub has closed that repository: its page says why",
        errors.FileMetadataError: f"the server at {here} is not a Hub: is there a login page or a proxy? Log "
        "in to this network, or set HF_ENDPOINT to a mirror",
        errors.HFValidationError: "that is not the name of a repository, ORG/NAME",
    }
    refused = "publishing needs write access to the organisation" if publishing else "it needs read access"
    statuses = {
        0: f"{here} does not answer or closed the connection: try again later, or set HF_ENDPOINT to a mirror",
        401: f"{here} rejects the token or requires one: {LOG_IN}",
        403: f"the token does not allow this, {refused}: {LOG_IN}",
        404: "the Hub has nothing by that name",
        409: "someone else is changing the repository: run the same command again",
        412: "someone else changed the repository in the meantime: run the same command again",
        429: f"{here} had too many requests: wait a while, then run the same command again",
    }
    other = f"{here} has a problem (status {status}): try again later"
    if status < 500:
        other = (
            f"{here} refuses the request (status {status}): is there a proxy in between, or is HF_ENDPOINT not a Hub?"
        )
    by_status = statuses.get(status, other) if isinstance(error, library) else ""
    message = next((text for kind, text in messages.items() if isinstance(error, kind)), by_status)
    return f"{message} ({type(error).__name__})" if message else re.sub(r"\?\S*", "", named(error).partition("\n")[0])


def check_card(card: Path, repo: str) -> None:
    """Have the Hub validate the metadata of a model card; `HubError` with the Hub's answer if it refuses them."""
    from huggingface_hub import ModelCard

    with _explained(repo):
        try:
            ModelCard.load(card).validate()
        except ValueError as error:  # the Hub's answer
            answer = " ".join(str(error).split())
            raise HubError(f"hf-hub:{repo}: the Hub refuses the metadata of its card: {answer:.500}") from error


def push(folder: Path, repo: str, message: str, *, private: bool = False) -> str:
    """Upload the files of `folder` to a repository, created if needed, in one commit, and return the commit.

    Unchanged files are not sent again, and if nothing differs no commit is made. The hashes on the Hub are then
    compared with the local ones. `HubError` if the Hub refuses, `CorruptWeights` if a file arrived damaged.
    """
    with _explained(repo) as api:
        api.create_repo(repo, private=private, exist_ok=True)
        head = api.model_info(repo).sha
        info = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message, parent_commit=head)
        _compare(api, folder, repo, info.oid)
    commit: str = info.oid
    return commit


def _compare(api: HfApi, folder: Path, repo: str, commit: str) -> None:
    """Refuse a commit whose files differ from those of the folder."""
    siblings = api.model_info(repo, revision=commit, files_metadata=True).siblings or []
    hashes = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id or "" for file in siblings}
    damaged = [
        name
        for name, path in sorted((p.relative_to(folder).as_posix(), p) for p in folder.rglob("*") if p.is_file())
        if not hashes.get(name) or hashing.like(hashes[name], path) != hashes[name]
    ]
    if damaged:
        raise CorruptWeights(f"hf-hub:{repo}@{commit}: {', '.join(damaged)} arrived damaged; publish it again")


def tag(repo: str, commit: str, version: str) -> str:
    """Tag a commit `v<version>`, or `v<version>-2` and so on if that is taken; return the tag, also if it had one."""
    with _explained(repo) as api:
        existing = {ref.name for ref in api.list_repo_refs(repo).tags}
        for number in count(1):
            name = f"v{version}" + (f"-{number}" if number > 1 else "")
            if name not in existing:
                api.create_tag(repo, tag=name, revision=commit)
                return name
            if api.model_info(repo, revision=name).sha == commit:
                return name
    raise AssertionError("unreachable: count() is infinite")


def collect(repo: str, title: str, *, private: bool = False) -> str:
    """Add a repository to its owner's collection called `title`, created if needed, and return the collection."""
    with _explained(repo) as api:
        collection = api.create_collection(title, namespace=repo.split("/")[0], private=private, exists_ok=True)
        if repo not in {item.item_id for item in collection.items}:
            api.add_collection_item(collection.slug, repo, "model", exists_ok=True)
    slug: str = collection.slug
    return slug


def owner() -> str:
    """Return the name of the user whose token is on this machine."""
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
    except Exception as error:  # as in downloading
        message = explain(error, publishing=True)
        raise HubError(f"hf-hub:{repo}: {message}" if repo else message) from error
