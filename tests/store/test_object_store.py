"""The object store: whole or absent, checked on the way back, the same for a folder and S3."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from obstore.store import LocalStore

from store import object_store
from store.ids import is_id, new_id
from tests.helpers import run_in_thread


@pytest.fixture(autouse=True)
def ready(environment: dict[str, str]) -> None:
    """The settings name the store."""


@pytest.fixture
def key() -> str:
    return f"prj_x/test/{new_id('art')}"


def put(key: str, data: bytes, folder: Path) -> None:
    path = folder / "sent"
    path.write_bytes(data)
    object_store.put_file(key, path)


def test_stored_bytes_come_back(key: str, tmp_path: Path) -> None:
    data = bytes(range(256)) * 40_000
    put(key, data, tmp_path)
    assert b"".join(object_store.read(key)) == data
    assert b"".join(object_store.read(key, 5, len(data) - 7)) == data[5:-7]
    assert b"".join(object_store.read(key, 5, 6)) == data[5:6]
    assert key in {entry.key for entry in object_store.list_objects()}
    object_store.copy(key, f"{key}-copy")
    object_store.delete(key)
    object_store.delete(key)
    assert not object_store.exists(key)
    assert b"".join(object_store.read(f"{key}-copy")) == data


def test_read_can_be_cancelled_between_two_chunks(key: str, tmp_path: Path) -> None:
    put(key, bytes(45), tmp_path)
    stops = iter([False, False, True])
    sha256 = hashlib.sha256(bytes(45)).hexdigest()
    target = tmp_path / "fetched"
    with (
        pytest.raises(object_store.ReadCancelledError),
        object_store.interruptible(lambda: next(stops)),
    ):
        object_store.fetch([key], target, sha256, chunk_bytes=10)
    assert list(tmp_path.glob("fetched*")) == []
    object_store.fetch([key], target, sha256)
    assert target.read_bytes() == bytes(45)


def test_missing_object_raises_oserror(key: str) -> None:
    with pytest.raises(FileNotFoundError):
        b"".join(object_store.read(key))
    with pytest.raises(FileNotFoundError):
        object_store.copy(key, f"{key}-copy")
    with pytest.raises(OSError, match="not found"):
        b"".join(object_store.read(key, 0, 1))


def test_failing_store_raises_oserror(key: str, tmp_path: Path) -> None:
    put(key, b"x", tmp_path)
    with pytest.raises(object_store.ObjectStoreUnavailableError):
        put(f"{key}/below-an-object", b"x", tmp_path)


def test_stream_that_breaks_leaves_nothing(key: str) -> None:
    async def chunks():
        yield b"x" * 100_000
        raise RuntimeError("the client hung up")

    with pytest.raises(RuntimeError, match="hung up"):
        run_in_thread(object_store.put_stream, key, chunks())
    assert not object_store.exists(key)
    folder = Path(str(getattr(object_store.store(), "prefix", "")))
    assert not [path for path in folder.rglob("*#*") if key.rpartition("/")[2] in str(path)]


def test_parts_are_fetched_as_one_and_checked(key: str, tmp_path: Path) -> None:
    put(f"{key}-1", b"first ", tmp_path)
    put(f"{key}-2", b"second", tmp_path)
    target = tmp_path / "target"
    object_store.fetch(
        [f"{key}-1", f"{key}-2"], target, hashlib.sha256(b"first second").hexdigest()
    )
    assert target.read_bytes() == b"first second"
    with pytest.raises(object_store.CorruptBlobError, match="SHA-256"):
        object_store.fetch([f"{key}-1"], tmp_path / "other", "0" * 64)
    assert {path.name for path in tmp_path.iterdir()} == {"sent", "target"}


def test_many_may_fetch_the_same_object_at_once(key: str, tmp_path: Path) -> None:
    data = b"".join(number.to_bytes(4, "big") for number in range(500_000))
    put(key, data, tmp_path)
    target, start = tmp_path / "target", threading.Barrier(8)

    def fetch(_: int) -> bytes:
        start.wait()
        object_store.fetch([key], target, hashlib.sha256(data).hexdigest())
        return target.read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert all(fetched == data for fetched in pool.map(fetch, range(8)))


def test_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "with a space & ünicode"
    store = object_store.open_store(folder.as_uri())
    assert isinstance(store, LocalStore)
    assert folder.is_dir()


def test_ids_are_sortable_and_have_a_checked_form() -> None:
    ids = [new_id("job") for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(is_id(text, "job") for text in ids)
    for odd in (f"{ids[0]}\n", ids[0].upper(), ids[0][:-1], f"{ids[0]}0", "", "job_"):
        assert not is_id(odd, "job")
    assert not is_id(ids[0], "mdl")
