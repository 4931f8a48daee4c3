"""Files in memory to a Hub on this machine: what `hf_hub_download` asks for, over real HTTP, with its faults."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "c0ffee" + 34 * "0"

RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")

Fault = Callable[[bytes], bytes]


def flipped(body: bytes) -> bytes:
    """The same number of bytes, the last one damaged: what the client does not notice."""
    return body[:-1] + bytes([body[-1] ^ 1])


def cut(body: bytes) -> bytes:
    """The first half, where the header promised all of it."""
    return body[: len(body) // 2]


def nothing(body: bytes) -> bytes:
    """No byte of what the header promised."""
    return b""


class Hub(ThreadingHTTPServer):
    """Serves `files`, by "org/name/file", at the one revision `COMMIT`.

    `faults` of a file are what its next bodies are put through, one each.
    `requests` are (method, path) as they came in, `errors` the exceptions of the server itself.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.requests: list[tuple[str, str]] = []
        self.errors: list[BaseException] = []

    @property
    def endpoint(self) -> str:
        """What `HF_ENDPOINT` is to be."""
        return f"http://127.0.0.1:{self.server_port}"

    def sent(self, name: str, body: bytes) -> bytes:
        """The body of a file as it goes out on the wire."""
        faults = self.faults[name]
        return faults.popleft()(body) if faults else body

    def asked(self, method: str, repo: str, file: str) -> int:
        """How often a file was asked for."""
        return sum(m == method and p.startswith(f"/{repo}/") and p.endswith(f"/{file}") for m, p in self.requests)


class Handler(BaseHTTPRequestHandler):
    """Answers `/{org}/{name}/resolve/{revision}/{file}` as the Hub does for files kept as LFS objects."""

    server: Hub

    def do_HEAD(self) -> None:
        self._respond(body=False)

    def do_GET(self) -> None:
        self._respond(body=True)

    def _respond(self, *, body: bool) -> None:
        self.server.requests.append((self.command, self.path))
        try:
            self._resolve(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client hung up, which is its right
        except Exception as error:
            self.server.errors.append(error)
            raise

    def _resolve(self, with_body: bool) -> None:
        match = RESOLVE.fullmatch(unquote(self.path))
        if match is None:
            self._refuse("")  # the client asks for more than files, and does without
            return
        repo, revision, file = match.groups()
        name = f"{repo}/{file}"
        if revision not in (COMMIT, "main"):
            self._refuse("RevisionNotFound")
        elif name in self.server.files:
            self._send(name, with_body)
        elif any(key.startswith(f"{repo}/") for key in self.server.files):
            self._refuse("EntryNotFound")
        else:
            self._refuse("RepoNotFound")

    def _send(self, name: str, with_body: bool) -> None:
        content = self.server.files[name]
        asked = self.headers.get("Range", "bytes=0-")
        start = int(asked.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if with_body:
            self.wfile.write(self.server.sent(name, content[start:]))

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal: requests are recorded in the server."""


@contextmanager
def serving() -> Iterator[Hub]:
    """A running Hub; one connection per request (HTTP/1.0), so that none outlives it."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
