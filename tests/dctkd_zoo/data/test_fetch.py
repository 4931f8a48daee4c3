"""dctkd_zoo.data.fetch against an HTTP server on this machine, with its faults, dropped connections first of all."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import threading
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from dctkd_zoo.data import download
from dctkd_zoo.data.fetch import fetch
from dctkd_zoo.errors import DatasetError
from dctkd_zoo.spec import Archive, Dataset

NOISE = np.random.default_rng(0).bytes(3_000_000)


class Server(ThreadingHTTPServer):
    """Serves `files`; the next answers are cut after the numbers of bytes in `cuts`; `seen` is (path, Range)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.seen, self.cuts = {}, [], []
        self.ranges, self.status = True, 200

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/sets/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.seen.append((self.path, asked))
        body = self.server.files.get(unquote(urlsplit(self.path).path.rpartition("/")[2]))
        if body is None or self.server.status != 200:
            self.send_error(404 if body is None else self.server.status)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        if start and start >= len(body):
            self.answer(416, {"Content-Range": f"bytes */{len(body)}"}, b"")
        elif start:
            ranged = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            self.answer(206, ranged, body[start:])
        else:
            self.answer(200, {}, body)

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else len(body)
        with suppress(ConnectionError):  # the client may have refused already
            self.wfile.write(body[:cut])
        self.close_connection = cut < len(body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server(monkeypatch):
    """A running server, and no pauses between attempts."""
    monkeypatch.setattr(download, "PAUSE", 0.001)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def dataset(*archives):
    three = (0.5, 0.5, 0.5)
    page = "https://example.org/tiny"
    return Dataset("tiny", "Tiny", "folders", 2, 2, 2, three, three, "none", page, archives=archives)


def packed_tar(name, content, mode):
    file, info = io.BytesIO(), tarfile.TarInfo(name)
    info.size = len(content)
    with tarfile.open(fileobj=file, mode=mode) as tar:
        tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def packed_zip(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return file.getvalue()


def files_in(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())


def test_zip_tar_and_plain_file(server, tmp_path, capsys):
    server.files["images.zip"] = packed_zip([("train/a/1.jpg", b"one"), ("train/b/2.jpg", b"two")])
    server.files["more.tar.gz"] = packed_tar("./train/a/3.jpg", b"three", "w:gz")
    server.files["flat.tar"] = packed_tar("meta.txt", b"m", "w")
    server.files["List 1.txt"] = b"1.jpg"
    names = ("images.zip", "more.tar.gz", "flat.tar")
    archives = [Archive(server.url(name)) for name in names]
    root = tmp_path / "data" / "tiny"
    fetch(dataset(*archives, Archive(server.url("List%201.txt"), unpack=False)), root)
    records = [f".fetched/{name}.json" for name in ("List 1.txt", "flat.tar", "images.zip", "more.tar.gz")]
    images = ["train/a/1.jpg", "train/a/3.jpg", "train/b/2.jpg"]
    assert files_in(root) == [*records, "List 1.txt", "meta.txt", *images]
    assert (root / "train/a/3.jpg").read_bytes() == b"three"
    assert f"sha256 {hashlib.sha256(b'1.jpg').hexdigest()}" in capsys.readouterr().err.replace("\n", "")


def test_second_fetch_asks_for_nothing(server, tmp_path, capsys):
    server.files["a.zip"] = packed_zip([("train/1.jpg", b"one")])
    tiny = dataset(Archive(server.url("a.zip")))
    fetch(tiny, tmp_path)
    fetch(tiny, tmp_path)
    assert len(server.seen) == 1 and "a.zip is already there" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "train")
    fetch(tiny, tmp_path)
    assert len(server.seen) == 2 and (tmp_path / "train/1.jpg").is_file()
    fetch(dataset(Archive(server.url("a.zip") + "?v=2")), tmp_path)
    assert len(server.seen) == 3


def test_dropped_connection_is_resumed(server, tmp_path):
    server.files["noise.bin"] = NOISE
    server.cuts = [1_200_000, 700_000]
    wanted = hashlib.sha256(NOISE).hexdigest()
    fetch(dataset(Archive(server.url("noise.bin"), unpack=False, sha256=wanted)), tmp_path)
    assert (tmp_path / "noise.bin").read_bytes() == NOISE
    assert [asked for _, asked in server.seen] == [None, "bytes=1200000-", "bytes=1900000-"]
    assert not (tmp_path / "noise.bin.part").exists()


def test_next_run_resumes(server, tmp_path):
    server.files["noise.bin"] = NOISE
    (tmp_path / "noise.bin.part").write_bytes(NOISE[:2_500_000])
    fetch(dataset(Archive(server.url("noise.bin"), unpack=False)), tmp_path)
    assert (tmp_path / "noise.bin").read_bytes() == NOISE
    assert server.seen == [("/sets/noise.bin", "bytes=2500000-")]


def test_server_without_ranges(server, tmp_path):
    server.files["noise.bin"], server.ranges = NOISE, False
    (tmp_path / "noise.bin.part").write_bytes(b"other bytes")
    fetch(dataset(Archive(server.url("noise.bin"), unpack=False)), tmp_path)
    assert (tmp_path / "noise.bin").read_bytes() == NOISE
    assert server.seen == [("/sets/noise.bin", "bytes=11-")]


def test_server_without_ranges_that_always_drops(server, tmp_path):
    server.files["noise.bin"], server.ranges = NOISE, False
    server.cuts = [1_000_000] * 20
    with pytest.raises(
        DatasetError, match=r"after 5 attempts: .* at 1,000,000 of 3,000,000 bytes; 1,000,000 bytes are kept"
    ):
        fetch(dataset(Archive(server.url("noise.bin"), unpack=False)), tmp_path)
    assert len(server.seen) == 6


@pytest.mark.parametrize("extra", [b"", b"left from a longer file"])
def test_part_that_is_complete_or_longer(server, tmp_path, extra):
    server.files["noise.bin"] = NOISE
    (tmp_path / "noise.bin.part").write_bytes(NOISE + extra)
    fetch(dataset(Archive(server.url("noise.bin"), unpack=False)), tmp_path)
    assert (tmp_path / "noise.bin").read_bytes() == NOISE
    assert len(server.seen) == (2 if extra else 1)


def test_complete_archive_is_not_fetched_again(server, tmp_path):
    content = packed_zip([("1.jpg", b"one")])
    (tmp_path / ".fetched").mkdir()
    (tmp_path / ".fetched" / "a.zip").write_bytes(content)
    fetch(dataset(Archive(server.url("a.zip"), sha256=hashlib.sha256(content).hexdigest())), tmp_path)
    assert not server.seen and (tmp_path / "1.jpg").read_bytes() == b"one"
    assert json.loads((tmp_path / ".fetched" / "a.zip.json").read_text())["names"] == ["1.jpg"]


def test_spoilt_part_is_fetched_afresh(server, tmp_path):
    server.files["noise.bin"] = NOISE
    (tmp_path / "noise.bin.part").write_bytes(b"other bytes")
    fetch(dataset(Archive(server.url("noise.bin"), unpack=False, sha256=hashlib.sha256(NOISE).hexdigest())), tmp_path)
    assert (tmp_path / "noise.bin").read_bytes() == NOISE
    assert [asked for _, asked in server.seen] == ["bytes=11-", None]


def test_wrong_hash(server, tmp_path):
    server.files["a.zip"] = packed_zip([("1.jpg", b"one")])
    with pytest.raises(DatasetError, match=f"a.zip: sha256 is [0-9a-f]{{64}} instead of {'0' * 64}, twice"):
        fetch(dataset(Archive(server.url("a.zip"), sha256="0" * 64)), tmp_path)
    assert len(server.seen) == 2 and files_in(tmp_path) == []


def test_not_found(server, tmp_path):
    with pytest.raises(DatasetError, match=r"http://127.0.0.1.*/sets/gone.zip: the server answers 404"):
        fetch(dataset(Archive(server.url("gone.zip"))), tmp_path)
    assert len(server.seen) == 1


def test_server_error_is_tried_again(server, tmp_path):
    server.files["a.zip"], server.status = b"", 503
    with pytest.raises(DatasetError, match="gave up after 5 attempts: HTTP Error 503"):
        fetch(dataset(Archive(server.url("a.zip"))), tmp_path)
    assert len(server.seen) == 5


def test_nobody_listens(server, tmp_path):
    url = server.url("a.zip")
    server.server_close()
    with pytest.raises(DatasetError, match=r"a.zip: gave up after 5 attempts: .*[Rr]efused"):
        fetch(dataset(Archive(url)), tmp_path)


def test_no_room(server, tmp_path, monkeypatch):
    server.files["a.zip"] = NOISE
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(DatasetError, match=r"needs 6,000,000 bytes in .*, 5 are free"):
        fetch(dataset(Archive(server.url("a.zip"))), tmp_path)


def test_no_archives(tmp_path):
    with pytest.raises(DatasetError, match=r"tiny has no archive to download; get it from https://example.org/tiny"):
        fetch(dataset(), tmp_path)


def test_earlier_files_are_replaced(server, tmp_path):
    server.files["a.zip"] = packed_zip([("train/1.jpg", b"new"), ("list.txt", b"new")])
    (tmp_path / "train").mkdir()
    for name in ("train/1.jpg", "train/2.jpg", "list.txt"):
        (tmp_path / name).write_bytes(b"old")
    fetch(dataset(Archive(server.url("a.zip"))), tmp_path)
    result = {name: (tmp_path / name).read_bytes() for name in ("train/1.jpg", "train/2.jpg", "list.txt")}
    assert result == {"train/1.jpg": b"new", "train/2.jpg": b"old", "list.txt": b"new"}


def test_hostile_archive_leaves_nothing(server, tmp_path):
    server.files["a.zip"] = packed_zip([("good.jpg", b"good"), ("../evil", b"x")])
    with pytest.raises(DatasetError, match=r"a.zip: refused, nothing was unpacked: member '../evil' lies outside"):
        fetch(dataset(Archive(server.url("a.zip"))), tmp_path / "tiny")
    assert files_in(tmp_path) == []


def test_broken_archive_is_fetched_again(server, tmp_path):
    whole = packed_zip([("good.jpg", b"good")])
    server.files["a.zip"] = whole[: len(whole) // 2]
    with pytest.raises(DatasetError, match=r"a.zip: the archive is broken"):
        fetch(dataset(Archive(server.url("a.zip"))), tmp_path)
    assert files_in(tmp_path) == []
    server.files["a.zip"] = whole
    fetch(dataset(Archive(server.url("a.zip"))), tmp_path)
    assert (tmp_path / "good.jpg").read_bytes() == b"good"
