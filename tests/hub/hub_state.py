"""What the loopback Hub keeps: repositories, whose commits map paths to contents, accounts and collections."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

LARGE = (".safetensors", ".png")  # kept as LFS objects, under their sha256; the rest as blobs of git
GITATTRIBUTES = "".join(f"*{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in LARGE).encode()
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"


@dataclass(frozen=True)
class Blob:
    """The content of a file, and the names that the Hub has for it."""

    content: bytes
    large: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        """What git keeps of a large file."""
        return POINTER.format(self.sha256, len(self.content)).encode()

    @cached_property
    def blob_id(self) -> str:
        """The hash that git has for what it keeps."""
        kept = self.pointer if self.large else self.content
        return hashlib.sha1(b"blob %d\0%b" % (len(kept), kept), usedforsecurity=False).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.blob_id


Files = Mapping[str, Blob]


@dataclass(frozen=True)
class Commit:
    """All files as they were at one time; the same files on the same parent have the same id."""

    parent: str
    message: str
    files: Files

    @cached_property
    def id(self) -> str:
        lines = [self.parent, self.message, *(f"{path} {blob.etag}" for path, blob in sorted(self.files.items()))]
        return hashlib.sha1("\n".join(lines).encode(), usedforsecurity=False).hexdigest()


@dataclass
class Repo:
    """A repository with one branch; who may read a gated one is in `consenting`."""

    name: str
    private: bool = False
    gated: bool = False
    consenting: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit("initial commit", {".gitattributes": GITATTRIBUTES})

    @property
    def owner(self) -> str:
        return self.name.partition("/")[0]

    @property
    def head(self) -> str:
        """The last commit of the branch, and nothing before the first."""
        return self.branches.get("main", "")

    def at(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag or a full id."""
        names = {**self.tags, **self.branches}
        return self.commits.get(names.get(revision, revision))

    def large(self, oid: str) -> bytes | None:
        """The content of a large file of any commit."""
        blobs = (blob for commit in self.commits.values() for blob in commit.files.values())
        return next((blob.content for blob in blobs if blob.large and blob.sha256 == oid), None)

    def commit(self, message: str, changes: Mapping[str, bytes | None]) -> str:
        """Add to the branch a commit with other contents, None for a file that goes away, and give its id."""
        before = self.commits[self.head].files if self.head else {}
        after = dict(before)
        for path, content in changes.items():
            after.pop(path, None)
            if content is not None:
                after[path] = Blob(content, large=path.endswith(LARGE))
        made = Commit(self.head, message, after)
        self.commits[made.id] = made
        self.branches["main"] = made.id
        return made.id


@dataclass(frozen=True)
class Account:
    """Whom a token belongs to, and what it may do in which namespaces."""

    name: str
    orgs: tuple[str, ...] = ()
    write: bool = True

    def belongs_to(self, namespace: str) -> bool:
        return namespace in (self.name, *self.orgs)


@dataclass
class Collection:
    """A list of repositories with a title."""

    title: str
    owner: str
    private: bool
    items: list[str] = field(default_factory=list)

    @property
    def slug(self) -> str:
        words = re.sub(r"\W+", "-", self.title.lower()).strip("-")
        return f"{self.owner}/{words}-{hashlib.sha256(self.title.encode()).hexdigest()[:24]}"


@dataclass
class State:
    """All that is kept. `uploads` are large files that arrived, by the sha256 they were announced with."""

    port: int = 0
    repos: dict[str, Repo] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    collections: dict[str, Collection] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        """What `HF_ENDPOINT` is to be."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage(self) -> str:
        """Where large files lie: another host to every version of the client, which compares ports or does not."""
        return f"http://localhost:{self.port}/cdn"
