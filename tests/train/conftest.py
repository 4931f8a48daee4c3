"""Fixtures of training tests: a world with the catalog of the test's module, and a console that can be read."""

import pytest
import torch
from rich.console import Console

from tests import world as worlds


@pytest.fixture(scope="module")
def world(request, tmp_path_factory):
    """A folder with a data set, and the module's `CATALOG` as its file if it has one."""
    return worlds.make(tmp_path_factory.mktemp("world"), getattr(request.module, "CATALOG", worlds.CATALOG))


@pytest.fixture(scope="module")
def home(world):
    """The world's catalog beside the zoo's, and a cache of its own, for this module's tests alone."""
    with worlds.included(world):
        yield


@pytest.fixture(scope="module")
def one_thread():
    """As many threads in this process as in those that the tests start: their number changes how sums are rounded."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def console(tmp_path):
    """A console whose text can be read."""
    with (tmp_path / "console.txt").open("w") as file:
        yield Console(file=file, width=100)
