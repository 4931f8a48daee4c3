"""dctkd_zoo._io.atomic: the old content or the new, never half of it."""

import numpy as np
import pytest

from dctkd_zoo._io.atomic import replacing, write_bytes, write_text


def test_writes_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b" / "note.txt"
    write_text(path, "näh\n")
    assert path.read_bytes() == "näh\n".encode()
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two" and list(path.parent.iterdir()) == [path]


def test_failure_keeps_the_old_content(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_suffix_is_kept_for_writers_that_look_at_it(tmp_path):
    with replacing(tmp_path / "table.npy") as temporary:
        np.save(temporary, np.arange(3))
    assert np.load(tmp_path / "table.npy").tolist() == [0, 1, 2]


def test_nothing_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "note.txt"):
        pass
