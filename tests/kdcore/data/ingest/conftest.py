"""A working directory to ingest in."""

import pytest

from tests.kdcore.uploads import Workdir


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path / "work")
