"""dctkd_zoo.sealed: what was written, or an error that names the file."""

import json

import pytest

from dctkd_zoo import sealed
from dctkd_zoo.errors import CorruptCache

CONTENT = {"names": ["ä", "b"], "sizes": [1, 2.5, None]}


def test_content_comes_back(tmp_path):
    sealed.write(tmp_path / "note.json", CONTENT)
    assert sealed.read(tmp_path / "note.json") == CONTENT


def test_every_flipped_bit_and_every_cut_is_found(tmp_path):
    path = tmp_path / "note.json"
    sealed.write(path, CONTENT)
    whole = path.read_bytes()
    for position in range(len(whole)):
        for damaged in (whole[:position], *(_flipped(whole, position, bit) for bit in range(8))):
            path.write_bytes(damaged)
            try:
                found = sealed.read(path)
            except CorruptCache as error:
                assert str(path) in str(error)
            else:  # "\u00e4" may be spelt "\u00E4"
                assert found == CONTENT, damaged


def _flipped(data: bytes, position: int, bit: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


@pytest.mark.parametrize("text", ["", "[]", "null", '{"content": 1}', "[" * 100_000, json.dumps({"sha256": 3})])
def test_other_json_is_refused(tmp_path, text):
    (tmp_path / "note.json").write_text(text)
    with pytest.raises(CorruptCache, match=r"note\.json"):
        sealed.read(tmp_path / "note.json")
