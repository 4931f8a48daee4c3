"""What tests of several modules share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from dctkd_zoo import registry

SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]  # a folder is written anew by each example
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, suppress_health_check=SLOW)
settings.register_profile("soak", settings.get_profile("ci"), max_examples=10_000, derandomize=False)
settings.load_profile("soak" if os.environ.get("SOAK") == "1" else "ci")


SLOWEST = frozenset((Path(__file__).parent / "slow.txt").read_text(encoding="utf-8").splitlines())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests and files of slow.txt as slow: those that `--durations` measured at more than 5 s on two cores."""
    for item in items:
        name = item.nodeid.partition("[")[0]
        if name in SLOWEST or name.partition("::")[0] in SLOWEST:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def fresh_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The zoo's own catalog, before and after what a test includes."""
    monkeypatch.setattr(registry, "_MODULES", [])
    registry._bundled_and_included.cache_clear()
    yield
    registry._bundled_and_included.cache_clear()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of class orders and real images that lies beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing: class orders and real images are not part of the repository")
    return folder
