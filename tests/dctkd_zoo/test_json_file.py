"""dctkd_zoo._io.json_file: what was written, or an error that names the file."""

import json

import pytest

from dctkd_zoo._io import json_file
from dctkd_zoo.errors import CorruptCache

CONTENT = {"names": ["ä", "b"], "sizes": [1, 2.5, None]}


def test_content_comes_back(tmp_path):
    json_file.write_sealed(tmp_path / "note.json", CONTENT)
    assert json_file.read_sealed(tmp_path / "note.json") == CONTENT


def test_every_flipped_bit_and_every_cut_is_found(tmp_path):
    path = tmp_path / "note.json"
    json_file.write_sealed(path, CONTENT)
    whole = path.read_bytes()
    for position in range(len(whole)):
        for damaged in (whole[:position], *(_flipped(whole, position, bit) for bit in range(8))):
            path.write_bytes(damaged)
            try:
                result = json_file.read_sealed(path)
            except CorruptCache as error:
                assert str(path) in str(error)
            else:  # "\u00e4" may be spelt "\u00E4"
                assert result == CONTENT, damaged


def _flipped(data: bytes, position: int, bit: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


@pytest.mark.parametrize("text", ["", "[]", "null", '{"content": 1}', "[" * 100_000, json.dumps({"sha256": 3})])
def test_other_json_is_refused(tmp_path, text):
    (tmp_path / "note.json").write_text(text)
    with pytest.raises(CorruptCache, match=r"note\.json"):
        json_file.read_sealed(tmp_path / "note.json")
