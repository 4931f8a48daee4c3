"""Requests to answers of the loopback Hub: what huggingface_hub asks for, in the words of the Hub."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.hub.hub_answers import Answer, Handler, Refused, Request, readable, revision, told, writable
from tests.hub.hub_state import LARGE, Blob, Collection, Repo, State

Changes = dict[str, bytes | None]

TIME = "2026-01-01T00:00:00.000Z"


def resolve(hub: State, asked: Request) -> Answer:
    """A file, or where a large one lies."""
    repo = readable(hub, asked)
    if repo.gated and (asked.account is None or asked.account.name not in repo.consenting):
        raise Refused(403 if asked.account else 401, f"Access to model {repo.name} is restricted", "GatedRepo")
    commit = revision(repo, asked)
    blob = commit.files.get(asked.named["file"])
    if blob is None:
        raise Refused(404, "Entry not found", "EntryNotFound", commit=commit.id)
    about = {"X-Repo-Commit": commit.id, "ETag": f'"{blob.etag}"'}
    if not blob.large:
        return part(blob.content, asked, about)
    elsewhere = f"{hub.storage}/{repo.name}/{blob.sha256}/{asked.named['file']}?signature=not-for-logs"
    linked = {"X-Linked-ETag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.content)), "Location": elsewhere}
    return Answer(b"Found. Redirecting", 302, {"X-Repo-Commit": commit.id, **linked})


def part(content: bytes, asked: Request, headers: Mapping[str, str]) -> Answer:
    """A content, or the range of it that was asked for."""
    size = len(content)
    span = re.fullmatch(r"bytes=(\d*)-(\d*)", asked.headers.get("Range", ""))
    if span is None:
        return Answer(content, 200, {**headers, "Accept-Ranges": "bytes"})
    first, last = span.groups()
    start = int(first) if first else size - int(last)
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        return Answer(b"", 416, {**headers, "Content-Range": f"bytes */{size}"})
    return Answer(content[start : end + 1], 206, {**headers, "Content-Range": f"bytes {start}-{end}/{size}"})


def stored(hub: State, asked: Request) -> Answer:
    """A large file, from where it lies."""
    content = hub.repos[asked.named["repo"]].large(asked.named["oid"])
    if content is None:
        raise Refused(404, "NoSuchKey")
    return part(content, asked, {"ETag": '"of-another-kind"'})


def store(hub: State, asked: Request) -> Answer:
    """A large file arrives."""
    hub.uploads[asked.named["oid"]] = asked.kept(asked.body)
    return Answer()


def batch(hub: State, asked: Request) -> Answer:
    """Where to send large files; those that are here need not be sent."""
    repo = writable(hub, asked)
    verify = {"href": f"{hub.endpoint}/{repo.name}.git/info/lfs/verify"}
    objects = []
    for item in asked.json["objects"]:
        expected = {
            "upload": {"href": f"{hub.storage}/{repo.name}/{item['oid']}?signature=not-for-logs"},
            "verify": verify,
        }
        objects.append(item if repo.large(item["oid"]) is not None else {**item, "actions": expected})
    return told({"transfer": "basic", "objects": objects})


def verify(hub: State, asked: Request) -> Answer:
    """Whether a large file arrived; the size is all that is looked at."""
    if len(hub.uploads.get(asked.json["oid"], b"")) != asked.json["size"]:
        raise Refused(404, "Object does not exist on the server")
    return Answer()


def preupload(hub: State, asked: Request) -> Answer:
    """How files are to be sent, and the hashes of those that are there."""
    files = revision(writable(hub, asked), asked).files
    return told({"files": [announced(item["path"], files.get(item["path"])) for item in asked.json["files"]]})


def announced(path: str, present: Blob | None) -> dict[str, object]:
    """How one file is to be sent."""
    mode: dict[str, object] = {
        "path": path,
        "uploadMode": "lfs" if path.endswith(LARGE) else "regular",
        "shouldIgnore": False,
    }
    return {**mode, "oid": present.etag} if present else mode


def commit(hub: State, asked: Request) -> Answer:
    """Lines of JSON to a commit on the branch."""
    repo = writable(hub, asked)
    if asked.named["revision"] not in repo.branches:
        raise Refused(404, "Invalid rev id", "RevisionNotFound")
    lines = [json.loads(line) for line in asked.body.splitlines()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    if header.get("parentCommit", repo.head) != repo.head:
        raise Refused(412, "A commit has happened since. Please refresh and try again.")
    changes: Changes = {}
    for line in lines:
        changes |= CHANGES[line["key"]](hub, asked, line["value"])
    made = repo.commit(header["summary"], changes)
    return told({"success": True, "commitOid": made, "commitUrl": f"{hub.endpoint}/{repo.name}/commit/{made}"})


def small_file(hub: State, asked: Request, value: Any) -> Changes:
    """A file whose content is in the commit."""
    return {value["path"]: asked.kept(base64.b64decode(value["content"]))}


def large_file(hub: State, asked: Request, value: Any) -> Changes:
    """A file whose content was sent before."""
    content = hub.uploads.get(value["oid"]) or hub.repos[asked.named["repo"]].large(value["oid"])
    if content is None:
        raise Refused(400, f"LFS object {value['oid']} was not uploaded")
    return {value["path"]: content}


# The lines of a commit -> contents by path, None for a file that goes away.
CHANGES: Mapping[str, Callable[[State, Request, Any], Changes]] = {
    "header": lambda hub, asked, value: {},
    "file": small_file,
    "lfsFile": large_file,
    "deletedFile": lambda hub, asked, value: {value["path"]: None},
}


def info(hub: State, asked: Request) -> Answer:
    """What is known of a repository at a revision."""
    repo = readable(hub, asked)
    at = revision(repo, asked)
    flags = {"private": repo.private, "gated": "auto" if repo.gated else False, "disabled": False}
    siblings = [sibling(path, blob, "blobs" in asked.query) for path, blob in sorted(at.files.items())]
    names = {"_id": at.id[:24], "id": repo.name, "modelId": repo.name, "author": repo.owner, "sha": at.id}
    return told({**names, **flags, "lastModified": TIME, "tags": [], "siblings": siblings})


def sibling(path: str, blob: Blob, blobs: bool) -> dict[str, object]:
    """One file of a repository, with its hashes where they are asked for."""
    about: dict[str, object] = {"size": len(blob.content), "blobId": blob.blob_id} if blobs else {}
    if blobs and blob.large:
        about["lfs"] = {"sha256": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.pointer)}
    return {"rfilename": path, **about}


def tree(hub: State, asked: Request) -> Answer:
    """All files at a revision."""
    files = revision(readable(hub, asked), asked).files
    return told([leaf(path, blob) for path, blob in sorted(files.items())])


def leaf(path: str, blob: Blob) -> dict[str, object]:
    """One file, as a tree lists it."""
    about = {"type": "file", "path": path, "size": len(blob.content), "oid": blob.blob_id}
    large = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.pointer)}
    return {**about, "lfs": large} if blob.large else about


def refs(hub: State, asked: Request) -> Answer:
    """Branches and tags."""
    repo = readable(hub, asked)
    branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in repo.branches.items()]
    tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": c} for n, c in repo.tags.items()]
    return told({"branches": branches, "converts": [], "tags": tags})


def tag(hub: State, asked: Request) -> Answer:
    """A name for a commit, once."""
    repo, name = writable(hub, asked), asked.json["tag"]
    if name in repo.tags:
        raise Refused(409, f"Tag reference exists already: {name}")
    repo.tags[name] = revision(repo, asked).id
    return told({"tag": name})


def create(hub: State, asked: Request) -> Answer:
    """A repository, once."""
    owner = asked.json.get("organization") or asked.writer.name
    name = f"{owner}/{asked.json['name']}"
    if not asked.writer.belongs_to(owner):
        raise Refused(403, f"You don't have the rights to create a model under the namespace {owner!r}")
    if name in hub.repos:
        raise Refused(409, "You already created this model repo", url=f"{hub.endpoint}/{name}")
    hub.repos[name] = Repo(name, private=asked.json.get("visibility") == "private" or asked.json.get("private", False))
    return told({"url": f"{hub.endpoint}/{name}", "name": name})


def validate(hub: State, asked: Request) -> Answer:
    """Whether a model card's metadata is accepted: a licence has to look like one, and all else is taken."""
    if not re.search(r"^license: [a-z0-9.-]+$", asked.json["content"], re.MULTILINE):
        raise Refused(400, '"license" must be one of [apache-2.0, mit, ...]')
    return told({"errors": [], "warnings": []})


def whoami(hub: State, asked: Request) -> Answer:
    """Whom a token belongs to."""
    if asked.account is None:
        raise Refused(401, "Invalid username or password.")
    token = {"displayName": "a token", "role": "write" if asked.account.write else "read"}
    orgs = [{"type": "org", "name": name, "roleInOrg": "admin"} for name in asked.account.orgs]
    return told({"type": "user", "name": asked.account.name, "orgs": orgs, "auth": {"accessToken": token}})


def create_collection(hub: State, asked: Request) -> Answer:
    """A collection, once per title."""
    made = Collection(asked.json["title"], asked.json["namespace"], asked.json["private"])
    if not asked.writer.belongs_to(made.owner):
        raise Refused(403, f"You don't have the rights to create a collection under the namespace {made.owner!r}")
    if made.slug in hub.collections:
        raise Refused(409, "This collection already exists", slug=made.slug)
    hub.collections[made.slug] = made
    return listed(made)


def collection(hub: State, asked: Request) -> Answer:
    """What a collection holds."""
    result = hub.collections.get(asked.named["slug"])
    if result is None or (result.private and not (asked.account and asked.account.belongs_to(result.owner))):
        raise Refused(404, "Collection not found")
    return listed(result)


def add_item(hub: State, asked: Request) -> Answer:
    """A repository in a collection, once."""
    result, item = hub.collections[asked.named["slug"]], asked.json["item"]["id"]
    if not asked.writer.belongs_to(result.owner):
        raise Refused(403, "You don't have the rights to change this collection")
    if item not in hub.repos:
        raise Refused(404, "Repository not found", "RepoNotFound")
    if item in result.items:
        raise Refused(409, "The item is already in the collection")
    result.items.append(item)
    return listed(result)


def listed(found: Collection) -> Answer:
    """A collection in the Hub's words."""
    items = [{"_id": f"{n:024x}", "id": item, "type": "model", "position": n} for n, item in enumerate(found.items)]
    about = {"slug": found.slug, "title": found.title, "owner": {"name": found.owner}, "private": found.private}
    return told({**about, "items": items, "lastUpdated": TIME, "position": 0, "theme": "blue", "upvotes": 0})


def absent(hub: State, asked: Request) -> Answer:
    """What the client asks for and does without."""
    raise Refused(404, "Not found")


REPO, REVISION = r"(?P<repo>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
MODEL, CDN = rf"/api/models/{REPO}", rf"/cdn/{REPO}/(?P<oid>[0-9a-f]{{64}})"
SLUG = r"/api/collections/(?P<slug>[^/]+/[^/]+)"

# What faults and tests call a request, its method, its path, and what answers it.
ROUTES: tuple[tuple[str, str, str, Handler], ...] = (
    ("head", "HEAD", rf"/{REPO}/resolve/{REVISION}/(?P<file>.+)", resolve),
    ("body", "GET", rf"/{REPO}/resolve/{REVISION}/(?P<file>.+)", resolve),
    ("body", "GET", rf"{CDN}/(?P<file>.+)", stored),
    ("upload", "PUT", CDN, store),
    ("batch", "POST", rf"/{REPO}\.git/info/lfs/objects/batch", batch),
    ("verify", "POST", rf"/{REPO}\.git/info/lfs/verify", verify),
    ("preupload", "POST", rf"{MODEL}/preupload/{REVISION}", preupload),
    ("commit", "POST", rf"{MODEL}/commit/{REVISION}", commit),
    ("info", "GET", rf"{MODEL}(/revision/{REVISION})?", info),
    ("tree", "GET", rf"{MODEL}/tree/{REVISION}", tree),
    ("refs", "GET", rf"{MODEL}/refs", refs),
    ("tag", "POST", rf"{MODEL}/tag/{REVISION}", tag),
    ("create", "POST", r"/api/repos/create", create),
    ("validate", "POST", r"/api/validate-yaml", validate),
    ("whoami", "GET", r"/api/whoami-v2", whoami),
    ("create_collection", "POST", r"/api/collections", create_collection),
    ("collection", "GET", SLUG, collection),
    ("add_item", "POST", rf"{SLUG}/items", add_item),
    ("agents", "GET", r"/api/agent-harnesses", absent),
)
