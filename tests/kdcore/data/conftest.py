"""A folder to ingest in."""

import pytest

from tests.kdcore.uploads import Room


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path / "work")
