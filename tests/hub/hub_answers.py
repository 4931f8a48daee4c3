"""Requests and answers of the loopback Hub, and who may read and write what."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

from tests.hub.hub_state import Account, Commit, Repo, State


def unchanged(body: bytes) -> bytes:
    """The bytes themselves: no damage."""
    return body


def token(headers: Message) -> str:
    """The token in the headers of a request, if any."""
    return headers.get("Authorization", "").removeprefix("Bearer ")


@dataclass(frozen=True)
class Request:
    """What came in. `named` are the parts of its path; uploaded contents are kept as `kept` leaves them."""

    kind: str
    method: str
    path: str
    host: str
    named: Mapping[str, str]
    query: Mapping[str, list[str]]
    headers: Message = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    account: Account | None = None
    kept: Callable[[bytes], bytes] = unchanged

    @property
    def token(self) -> str:
        """What it was asked with, if anything."""
        return token(self.headers)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def writer(self) -> Account:
        """The account, where its token may write."""
        if self.account is None:
            raise Refused(401, "Invalid username or password.")
        if not self.account.write:
            raise Refused(403, "Your token has read-only rights")
        return self.account


@dataclass(frozen=True)
class Answer:
    """What goes out."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """An answer other than the one asked for; the client chooses its exception by `code`."""

    def __init__(self, status: int, message: str, code: str = "", **told: str) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.told = status, message, code, told

    @property
    def answer(self) -> Answer:
        headers = {"X-Error-Message": self.message, **({"X-Error-Code": self.code} if self.code else {})}
        commit = self.told.get("commit")
        headers |= {"X-Repo-Commit": commit} if commit else {}
        return Answer(json.dumps({"error": self.message, **self.told}).encode(), self.status, headers)


Handler = Callable[[State, Request], Answer]


def told(content: object) -> Answer:
    """JSON to an answer."""
    return Answer(json.dumps(content).encode(), headers={"Content-Type": "application/json"})


def readable(hub: State, asked: Request) -> Repo:
    """The repository that a request is about; a private one is as if it were not there."""
    repo = hub.repos.get(asked.named["repo"])
    hidden = repo is None or (repo.private and not (asked.account and asked.account.belongs_to(repo.owner)))
    if repo is None or hidden:
        raise Refused(404 if asked.account else 401, "Repository not found", "RepoNotFound")
    return repo


def writable(hub: State, asked: Request) -> Repo:
    """The repository that a request is to change."""
    repo = readable(hub, asked)
    if not asked.writer.belongs_to(repo.owner):
        raise Refused(403, "You don't have the rights to write to this repository")
    return repo


def revision(repo: Repo, asked: Request) -> Commit:
    """The commit that a request is about."""
    result = repo.at(asked.named.get("revision") or "main")
    if result is None:
        raise Refused(404, "Invalid rev id", "RevisionNotFound")
    return result
