"""What all tests share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public kernel profiles and serving logs, named by BURSTBENCH_SHARED_DATA."""
    folder = os.environ.get("BURSTBENCH_SHARED_DATA", "")
    if not folder:
        pytest.skip("BURSTBENCH_SHARED_DATA is not set: the public profiles and logs are not part of the repository")
    return Path(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow files first: a worker takes a file at a time, and one taken last leaves the other cores idle."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
