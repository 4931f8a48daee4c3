"""What the errors say, and how the commands end whatever stream they print to."""

import ast

import pytest
from PIL import Image

from dctkd_zoo.data import decode
from dctkd_zoo.errors import Undecodable, named, reason_of
from tests.contract.test_layers import TREES, every_module


@pytest.mark.parametrize(
    ("error", "reason", "name"),
    [
        (ValueError("no such name"), "no such name", "ValueError: no such name"),
        (MemoryError(), "MemoryError", "MemoryError"),
        (TimeoutError(" \n"), "TimeoutError", "TimeoutError"),
    ],
)
def test_a_reason_is_never_empty(error, reason, name):
    assert (reason_of(error), named(error)) == (reason, name)


def test_an_image_that_fails_without_a_word_is_told_by_the_kind_of_failure(monkeypatch):
    def fail(*_, **__):
        raise IndexError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(Undecodable, match=r"^a\.png: IndexError$"):
        decode.decode(b"", "a.png")


@every_module
def test_no_exception_stands_where_its_text_is_meant(module):
    """An exception is always true, so that `error or ...` never comes to what follows."""
    caught = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.ExceptHandler) and node.name]
    result = [
        f"line {part.lineno}: {ast.unparse(part)}"
        for handler in caught
        for part in ast.walk(handler)
        if isinstance(part, ast.BoolOp) and any(ast.unparse(value) == handler.name for value in part.values[:-1])
    ]
    assert not result, f"{module}: {result}; errors.reason_of() has the words"
