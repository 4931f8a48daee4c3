"""dctkd_zoo.data.archive on sound, broken and hostile archives."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dctkd_zoo.data.archive import unpack
from dctkd_zoo.errors import DatasetError

NOISE = np.random.default_rng(0).bytes(300_000)


def packed_tar(members, mode="w:gz"):
    """Bytes of a tar archive; members are (TarInfo, content)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def packed_zip(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return file.getvalue()


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_with_link():
    info = zipfile.ZipInfo("out")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return packed_zip([("good.jpg", b"good"), (info, "/etc/passwd")])


GOOD = (member("good.jpg"), b"good")
HOSTILE = {
    "parent.tar": (packed_tar([GOOD, (member("../evil"), b"x")]), "'../evil' lies outside"),
    "inner-parent.tar": (packed_tar([GOOD, (member("a/../../evil"), b"x")]), "'a/../../evil' lies outside"),
    "absolute.tar": (packed_tar([GOOD, (member("/tmp/evil"), b"x")]), "'/tmp/evil' lies outside"),
    "symlink.tar": (
        packed_tar([GOOD, (member("out", tarfile.SYMTYPE, "/etc/passwd"), b"")]),
        "'out' links to '/etc/passwd'",
    ),
    "updir.tar": (
        packed_tar([GOOD, (member("out", tarfile.SYMTYPE, ".."), b""), (member("out/evil"), b"x")]),
        "'out' links to",
    ),
    "hardlink.tar": (packed_tar([GOOD, (member("out", tarfile.LNKTYPE, "../evil"), b"")]), "'out' links to '../evil'"),
    "loop.tar": (
        packed_tar([GOOD, (member("a", tarfile.SYMTYPE, "b"), b""), (member("b", tarfile.SYMTYPE, "a"), b"")]),
        "'a' links to 'b'",
    ),
    "device.tar": (packed_tar([GOOD, (member("dev", tarfile.CHRTYPE), b"")]), "'dev' is neither a file nor a folder"),
    "fifo.tar": (packed_tar([GOOD, (member("pipe", tarfile.FIFOTYPE), b"")]), "'pipe' is neither a file nor a folder"),
    "parent.zip": (packed_zip([("good.jpg", b"good"), ("../evil", b"x")]), "'../evil' lies outside"),
    "absolute.zip": (packed_zip([("good.jpg", b"good"), ("/evil", b"x")]), "'/evil' lies outside"),
    "drive.zip": (packed_zip([("good.jpg", b"good"), ("C:\\evil", b"x")]), "'C:.*evil' lies outside"),
    "link.zip": (zip_with_link(), "'out' is a link"),
}


def unpacked(folder, name, content):
    """Unpack an archive of these bytes into `folder`; the names at its top."""
    archive = folder.parent / name
    archive.write_bytes(content)
    folder.mkdir(exist_ok=True)
    return unpack(archive, folder, lambda done, total: None)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "tiny"


def test_progress_ends_at_the_size(folder, tmp_path):
    (tmp_path / "a.tar").write_bytes(packed_tar([GOOD, (member("noise"), NOISE)], "w"))
    steps = []
    unpack(tmp_path / "a.tar", folder, lambda done, total: steps.append((done, total)))
    assert steps == sorted(steps) and 0.9 < steps[-1][0] / steps[-1][1] <= 1


def test_folders_and_names_with_dots(folder):
    members = [(member("./a", tarfile.DIRTYPE), b""), (member("./b/x..y.jpg"), b"x"), (member("empty/"), b"")]
    assert unpacked(folder, "a.tar.gz", packed_tar(members)) == ("a", "b", "empty")
    assert (folder / "a").is_dir() and (folder / "b" / "x..y.jpg").read_bytes() == b"x"


def test_links_within_become_copies(folder):
    members = [
        (member("a/1.jpg"), b"one"),
        (member("a/soft.jpg", tarfile.SYMTYPE, "1.jpg"), b""),
        (member("b/hard.jpg", tarfile.LNKTYPE, "a/1.jpg"), b""),
    ]
    assert unpacked(folder, "a.tar.gz", packed_tar(members)) == ("a", "b")
    for name in ("a/soft.jpg", "b/hard.jpg"):
        assert (folder / name).read_bytes() == b"one" and not (folder / name).is_symlink()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive_leaves_nothing(folder, name):
    content, message = HOSTILE[name]
    with pytest.raises(DatasetError, match=f"refused, nothing was unpacked: member {message}"):
        unpacked(folder, name, content)
    assert list(folder.iterdir()) == [] and {path.name for path in folder.parent.iterdir()} == {name, "tiny"}
    assert not Path("/tmp/evil").exists() and not Path("/evil").exists()


@pytest.mark.parametrize("name", ["cut.tar.gz", "cut.tar", "cut.zip", "page.zip"])
def test_broken_archive_leaves_nothing(folder, name):
    whole = {
        "cut.tar.gz": packed_tar([GOOD, (member("noise"), NOISE)]),
        "cut.tar": packed_tar([GOOD, (member("noise"), NOISE)], "w"),
        "cut.zip": packed_zip([("good.jpg", b"good"), ("noise", NOISE)]),
        "page.zip": b"<html>Please log in</html>" * 2000,
    }[name]
    with pytest.raises(DatasetError, match=f"{name}: the archive is broken"):
        unpacked(folder, name, whole[: len(whole) // 2])
    assert list(folder.iterdir()) == []


def test_killed_run_leaves_nothing_behind(folder):
    (folder / ".unpacking").mkdir(parents=True)
    (folder / ".unpacking" / "half.jpg").write_bytes(b"ha")
    assert unpacked(folder, "a.tar.gz", packed_tar([GOOD])) == ("good.jpg",)
    assert [path.name for path in folder.iterdir()] == ["good.jpg"]
