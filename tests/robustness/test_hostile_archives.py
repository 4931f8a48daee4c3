"""Archives that lie, burst or lead out of their folder: all of their files or none, and nothing anywhere else."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from collections import namedtuple
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dctkd_zoo.data import archive as home
from dctkd_zoo.data.archive import unpack
from dctkd_zoo.errors import DatasetError
from tests.robustness.fuzz import snapshot

Usage = namedtuple("Usage", "total used free")
KINDS = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
PARTS = (
    "a",
    "b",
    "..",
    ".",
    "",
    "/",
    "C:",
    "\\",
    "con",
    "x" * 300,
    "ä",
    "\udcff",
    "\0",
    ".fetched",
    ".unpacking",
    "\n",
)
NAMES = st.lists(st.sampled_from(PARTS), min_size=1, max_size=5).map("/".join)


def tar(members, mode="w:") -> bytes:
    """Members are (name, kind, link, content)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as packed:
        for name, kind, link, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(content)
            packed.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zipped(members, kind=zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return file.getvalue()


def unpacked(tmp_path, data: bytes) -> tuple[str, ...]:
    """Unpack into a folder; where that is refused, nothing is there, and in any case nothing is anywhere else."""
    into = tmp_path / "into"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    (tmp_path / "archive").write_bytes(data)
    before = snapshot(tmp_path)
    try:
        names = unpack(tmp_path / "archive", into, lambda done, total: None)
    except DatasetError as error:
        assert str(tmp_path / "archive") in str(error)
        assert list(into.iterdir()) == []
        assert snapshot(tmp_path) == before
        raise
    assert {name for name in snapshot(tmp_path) if not name.startswith("into/")} == before.keys()
    assert not any(path.is_symlink() or not (path.is_file() or path.is_dir()) for path in into.rglob("*"))
    return names


def file(name: str, content: bytes = b"x"):
    return name, tarfile.REGTYPE, "", content


ZEROS = bytes(1 << 20)


@pytest.mark.parametrize("data", [tar([file("a", ZEROS * 70)], "w:gz"), zipped([("a", ZEROS * 70)])])
def test_a_bomb_is_refused_by_what_comes_out_of_it(tmp_path, data):
    with pytest.raises(DatasetError, match="refused, nothing was unpacked: it holds more than 200 times its own"):
        unpacked(tmp_path, data)


def test_more_than_the_disk_has_is_refused_before_it_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 0, home.RESERVE + (3 << 20)))
    members = [file(str(number), ZEROS) for number in range(4)]
    with pytest.raises(DatasetError, match=r"it holds more than the 271,581,184 bytes that are free in .*into"):
        unpacked(tmp_path, tar(members))
    assert unpacked(tmp_path, tar(members[:2])) == ("0", "1")


def test_empty_files_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(home, "SMALL", 1 << 20)
    data = tar([file(str(number), b"") for number in range(300)], "w:gz")
    with pytest.raises(DatasetError, match="it holds more than"):
        unpacked(tmp_path, data)


@pytest.mark.parametrize("size", [home.LONG_HEADER + 1, 1 << 40])
def test_a_header_that_would_fill_the_memory_is_refused(tmp_path, size):
    info = tarfile.TarInfo("a")
    info.type, info.size = tarfile.XHDTYPE, size
    with pytest.raises(DatasetError, match="is broken"):
        unpacked(tmp_path, tar([file("b")])[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


@pytest.mark.parametrize("damage", ["header", "cut"])
def test_a_tar_that_ends_early_is_broken_though_its_reader_says_nothing(tmp_path, damage):
    whole = tar([file("a"), file("b")])
    assert unpacked(tmp_path, whole) == ("a", "b")
    data = whole[:1024] if damage == "cut" else whole[:1024] + b"?" + whole[1025:]
    with pytest.raises(DatasetError, match="the archive is broken: after 1,024 bytes there is neither a member nor"):
        unpacked(tmp_path, data)


def test_a_zip_with_a_password_or_of_an_unknown_kind_is_broken(tmp_path):
    data = bytearray(zipped([("a", b"words" * 9)]))
    for flags, method in ((1, 8), (0, 99)):
        for at in (6, data.index(b"PK\x01\x02") + 8):
            data[at : at + 4] = bytes([flags, 0, method, 0])
        with pytest.raises(DatasetError, match="is broken"):
            unpacked(tmp_path, bytes(data))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a/" * 2000 + "b", "more than 1024 letters or 64 folders"),
        ("a/" * 80 + "b", "more than 1024 letters or 64 folders"),
        ("x" * 300, "File name too long"),
        (".fetched/a.json", "has a name reserved"),
        (".Unpacking", "has a name reserved"),
        ("..\\a", "lies outside"),
        ("a/b/c", "Not a directory|File exists"),
    ],
)
def test_names_that_no_folder_holds_are_refused(tmp_path, name, message):
    with pytest.raises(DatasetError, match=message):
        unpacked(tmp_path, tar([file("a"), file(name)] if name == "a/b/c" else [file(name)]))


@given(st.lists(st.tuples(NAMES, st.sampled_from(KINDS), NAMES, st.binary(max_size=9)), max_size=4))
def test_whatever_a_tar_holds_nothing_lies_outside(tmp_path, members):
    meta = [(name.replace("\0", ""), kind, link, data * (kind == KINDS[0])) for name, kind, link, data in members]
    with suppress(DatasetError):
        unpacked(tmp_path, tar(meta))


@given(st.lists(st.tuples(NAMES, st.binary(max_size=9)), max_size=4))
@pytest.mark.filterwarnings("ignore:Duplicate name")  # of zipfile, when it writes
def test_whatever_a_zip_holds_nothing_lies_outside(tmp_path, members):
    meta = [(name.replace("\udcff", "?"), data) for name, data in members if name.partition("\0")[0]]
    with suppress(DatasetError):
        unpacked(tmp_path, zipped(meta))
