"""A Hugging Face Hub on this machine: real HTTP for huggingface_hub, with faults on demand.

What differs from the real one: no TLS and no xet, small files come without a redirect, files are large (LFS) by the
ending of their name alone, there is one branch, only the licence of a model card is validated, and a repository that is
hidden from someone without a token says `RepoNotFound`, which the client makes of a bare 401 over https only.
"""

from __future__ import annotations

import re
import socket
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.hub.hub_answers import Answer, Handler, Refused, Request, token, unchanged
from tests.hub.hub_api import ROUTES
from tests.hub.hub_state import Account, Repo, State


def flipped(body: bytes) -> bytes:
    """The same number of bytes, the last one damaged: what the client does not notice."""
    return body[:-1] + bytes(byte ^ 1 for byte in body[-1:])


def half(body: bytes) -> bytes:
    """The first half, where the header promised all of it."""
    return body[: len(body) // 2]


def nothing(body: bytes) -> bytes:
    """No byte of what the header promised."""
    return b""


@dataclass(frozen=True)
class Fault:
    """What happens to one request. `before` it is called `before()`; an error is `status` and what `headers` say.

    Bytes go out as `sent` leaves them, and what is uploaded is kept as `kept` leaves it.
    """

    before: Callable[[], object] = lambda: None
    drop: bool = False
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: Callable[[bytes], bytes] = unchanged
    kept: Callable[[bytes], bytes] = unchanged


FINE = Fault()
CUT, NOTHING, FLIPPED = Fault(sent=half), Fault(sent=nothing), Fault(sent=flipped)
KEPT_DAMAGED = Fault(kept=flipped)
DROP = Fault(drop=True)
UNAUTHORIZED, FORBIDDEN = Fault(status=401), Fault(status=403)
GATED = Fault(status=403, headers={"X-Error-Code": "GatedRepo"})
NO_REPO, NO_REVISION, NO_ENTRY = (
    Fault(status=404, headers={"X-Error-Code": f"{what}NotFound"}) for what in ("Repo", "Revision", "Entry")
)
CONFLICT, STALE, TROUBLE = Fault(status=409), Fault(status=412), Fault(status=503)
BUSY = Fault(status=429, headers={"Retry-After": "7"})


class Hub:
    """What the server keeps, what it was asked (`requests`), and where it erred itself (`errors`)."""

    def __init__(self) -> None:
        self.state = State()
        self.requests: list[Request] = []
        self.errors: list[BaseException] = []
        self.lock = threading.RLock()
        self._faults: defaultdict[tuple[str, str, str], deque[Fault]] = defaultdict(deque)
        self._server: Server | None = None

    @property
    def endpoint(self) -> str:
        """What `HF_ENDPOINT` is to be."""
        return self.state.endpoint

    def put(
        self,
        repo: str,
        files: Mapping[str, bytes | None],
        *,
        private: bool = False,
        gated: tuple[str, ...] | None = None,
    ) -> str:
        """Commit files to a repository, made if need be, and give the commit; `gated` names who may read it."""
        with self.lock:
            fresh = Repo(repo, private=private, gated=gated is not None, consenting=set(gated or ()))
            return self.state.repos.setdefault(repo, fresh).commit("put", files)

    def login(self, token: str, name: str, *orgs: str, write: bool = True) -> None:
        """Let a token be someone's, who belongs to `orgs`."""
        self.state.accounts[token] = Account(name, orgs, write)

    def fail(self, kind: str, *faults: Fault, repo: str = "", file: str = "") -> None:
        """Put the next requests of a kind (see `ROUTES`), to a repository and for a file if given, through faults."""
        self._faults[kind, repo, file].extend(faults)

    def heal(self) -> None:
        """Forget all faults that have not happened."""
        self._faults.clear()

    def fault(self, kind: str, named: Mapping[str, str]) -> Fault:
        """What is to happen to a request."""
        repo, file = named.get("repo", ""), named.get("file", "")
        keys = ((kind, repo, file), (kind, repo, ""), (kind, "", ""))
        return next((self._faults[key].popleft() for key in keys if self._faults[key]), FINE)

    def asked(self, kind: str, repo: str, file: str = "") -> int:
        """How often something was asked for."""
        expected = {"repo": repo, "file": file} if file else {"repo": repo}
        return sum(request.kind == kind and expected.items() <= request.named.items() for request in self.requests)

    def up(self) -> None:
        """Listen, on the same port as before."""
        self._server = Server(self)
        self.state.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def down(self) -> None:
        """Listen no more, and close what is open: connections that are kept alive would outlive the server."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.hang_up()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Down for a while."""
        self.down()
        try:
            yield
        finally:
            self.up()


class Server(ThreadingHTTPServer):
    """The sockets of a Hub."""

    daemon_threads = True

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", hub.state.port), Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Close the connections that are open."""
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):  # to hang up is the client's right
            self.hub.errors.append(error)


class Connection(BaseHTTPRequestHandler):
    """Reads requests and writes answers, with what faults make of them."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two packets, and the second would wait

    def respond(self) -> None:
        hub = self.server.hub
        asked, fault, handler = self._read()
        hub.requests.append(asked)
        fault.before()
        if fault.drop:
            self.close_connection = True
        elif fault.status:
            self._send(Answer(b"{}", fault.status, fault.headers), fault)
        else:
            with hub.lock:
                answer = answered(hub, handler, asked)
            self._send(answer, fault)

    do_HEAD = do_GET = do_POST = do_PUT = respond

    def _read(self) -> tuple[Request, Fault, Handler]:
        hub = self.server.hub
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind, named, handler = routed(self.command, path)
        fault = hub.fault(kind, named)
        account = hub.state.accounts.get(token(self.headers))
        host = self.headers["Host"]
        line = (kind, self.command, self.path, host, named, parse_qs(query, keep_blank_values=True))
        return Request(*line, self.headers, body, account, fault.kept), fault, handler

    def _send(self, answer: Answer, fault: Fault) -> None:
        body = fault.sent(answer.body)
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.close_connection |= len(body) < len(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal: requests are recorded in the Hub."""


def routed(method: str, path: str) -> tuple[str, Mapping[str, str], Handler]:
    """The kind of a request, the parts of its path, and what answers it."""
    for kind, expected, pattern, handler in ROUTES:
        match = re.fullmatch(pattern, path)
        if match and method == expected:
            return kind, {name: unquote(part) for name, part in match.groupdict().items() if part}, handler
    return "unknown", {}, unknown


def unknown(hub: State, asked: Request) -> Answer:
    """No answer: a Hub that is asked more than it knows would hide what the client needs."""
    raise LookupError(f"no route for {asked.method} {asked.path}")


def answered(hub: Hub, handler: Handler, asked: Request) -> Answer:
    """What is answered to a request, be it a refusal; what the server is to blame for is recorded as well."""
    stray = asked.token and asked.host.startswith("localhost")
    try:
        if stray:
            raise PermissionError(f"a token reached the storage: {asked.method} {asked.path}")
        if asked.token and asked.account is None:
            raise Refused(401, "Invalid credentials in Authorization header")
        return handler(hub.state, asked)
    except Refused as refused:
        return refused.answer
    except Exception as error:
        hub.errors.append(error)
        return Answer(status=400 if stray else 404 if asked.kind == "unknown" else 500)


@contextmanager
def serving() -> Iterator[Hub]:
    """A running Hub. That it did not err itself is asserted at the end."""
    hub = Hub()
    hub.up()
    try:
        yield hub
    finally:
        hub.down()
    assert not hub.errors, hub.errors
