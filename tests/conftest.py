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
    """Put the slow files first, in the order of their marks.

    A worker takes a file at a time: a slow one taken last would leave the other cores idle.
    """
    marks = {item.nodeid: item.get_closest_marker("slow") for item in items}
    items.sort(key=lambda item: mark.args[0] if (mark := marks[item.nodeid]) else 99)
