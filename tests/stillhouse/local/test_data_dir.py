"""The data folder: its layout, its secrets, its owner, its place."""

import os
import stat
from pathlib import Path

import pytest

from stillhouse.local.data_dir import LAYOUT, MAX_SOCKET_DIR_BYTES, DataDir, default_data_dir
from stillhouse.local.errors import DataDirError


def test_folder_and_secrets_are_private(tmp_path: Path) -> None:
    folder = DataDir(tmp_path / "new" / "data")
    folder.create()
    folder.prepare()
    first = folder.secret("secret-key")
    assert len(first) == 64
    assert folder.secret("secret-key") == first
    assert stat.S_IMODE((folder.root / "secret-key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    assert folder.version.read_text() == f"{LAYOUT}\n"


def test_existing_folder_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    DataDir(tmp_path).create()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_newer_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("99\n")
    with pytest.raises(DataDirError, match=r"newer Stillhouse \(layout 99, this one knows"):
        DataDir(tmp_path).prepare()


def test_damaged_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("one\n")
    with pytest.raises(DataDirError, match=f"holds no number; it should be {LAYOUT}"):
        DataDir(tmp_path).prepare()


def test_older_layout_is_upgraded_step_by_step(tmp_path: Path) -> None:
    steps: list[int] = []
    upgrades = {1: lambda root: steps.append(1), 2: lambda root: steps.append(2)}
    (tmp_path / "version").write_text("1\n")
    DataDir(tmp_path, layout=3, upgrades=upgrades).prepare()
    assert steps == [1, 2]
    assert (tmp_path / "version").read_text() == "3\n"


def test_postgres_folder_without_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    with pytest.raises(DataDirError, match="no data folder of Stillhouse"):
        DataDir(tmp_path).prepare()


def test_file_in_the_path_is_reported_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirError, match="cannot be used: Not a directory"):
        DataDir(tmp_path / "file" / "data").create()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "version").write_text(f"{LAYOUT}\n")
    os.chown(tmp_path / "version", 12345, 12345)
    with pytest.raises(DataDirError, match="belongs to user 12345"):
        DataDir(tmp_path).create()


def test_sockets_of_a_deep_folder_are_outside(tmp_path: Path) -> None:
    folder = DataDir(tmp_path / ("d" * 90))
    folder.create()
    sockets = folder.sockets()
    assert len(bytes(sockets)) <= MAX_SOCKET_DIR_BYTES
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert folder.sockets() == sockets
    folder.remove_scratch()
    assert not sockets.exists()


def test_default_folder_is_in_the_users_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert default_data_dir() == tmp_path / ".local" / "share" / "stillhouse"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    assert default_data_dir() == tmp_path / "share" / "stillhouse"
