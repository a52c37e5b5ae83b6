"""Objects of an S3 bucket as a source: names, versions, credentials, failures."""

from pathlib import Path

import obstore
import pytest

from kdcore.protocol.source_channel import ListedFile
from kdcore.runtime.errors import RunCancelledError, UserError
from kdcore.schema.dataset_sources import parse_file_source
from store.settings import settings
from tests.kdcore.data.ingest.helpers import encode_shard, ingest_upload, labeled_samples
from tests.kdcore.uploads import Workdir, image_tree, write_archive
from tests.worker.sources.conftest import S3Server
from tests.worker.sources.helpers import ingest_source, open_listed, put_objects
from worker.sources.file_readers import SourceRefusedError
from worker.sources.s3_reader import S3Reader

NAMES = ("a b.bin", "100%.bin", "%41.bin", "#1.bin", "é/ü.bin", "q?x=1&y.bin", "plus+.bin")


def reader(source: str) -> S3Reader:
    return S3Reader(parse_file_source(source))


@pytest.mark.parametrize(
    "files",
    [
        image_tree(4, prefix="train/"),
        {f"train-{n}.tar": encode_shard(labeled_samples(n, 10)) for n in (0, 10)},
    ],
    ids=["tree", "shards"],
)
def test_prefix_is_the_same_data_set_as_its_archive(
    s3_settings: S3Server, tmp_path: Path, files: dict[str, bytes], request: pytest.FixtureRequest
) -> None:
    archive = write_archive(tmp_path / "upload", files)
    uploaded = ingest_upload(Workdir(tmp_path / "one"), archive)
    prefix = f"sets/same-{len(files)}"
    source = put_objects(s3_settings, prefix, files)
    put_objects(s3_settings, f"{prefix}2", {"other.png": b"no image"})
    read = ingest_source(Workdir(tmp_path / "two"), reader(source))
    assert read.info == uploaded.info
    obstore.put(s3_settings.store, f"{prefix}.zip", archive.read_bytes())
    single = ingest_source(Workdir(tmp_path / "three"), reader(f"{source}.zip"))
    assert single.info == uploaded.info


def test_every_name_and_any_range_is_read(s3_settings: S3Server) -> None:
    data = bytes(range(256)) * 40_000
    source = put_objects(s3_settings, "sets/names", dict.fromkeys(NAMES, b"1234") | {"large": data})
    with open_listed(reader(source)) as archive:
        members = {member.name: member for member in archive.members}
        assert set(members) == {*NAMES, "large"}
        archive.expect_reads([members[name] for name in NAMES])
        assert [archive.read(members[name]) for name in NAMES] == [b"1234"] * len(NAMES)
        with archive.stream(members["large"]) as stream:
            stream.seek(5)
            assert stream.read() == data[5:]


def test_changed_object_is_refused_by_name(s3_settings: S3Server) -> None:
    source = put_objects(s3_settings, "sets/changed", {"1.bin": b"one", "2.bin": b"two"})
    with open_listed(reader(source)) as archive:
        put_objects(s3_settings, "sets/changed", {"1.bin": b"ONE"})
        obstore.delete(s3_settings.store, "sets/changed/2.bin")
        for member in archive.members:
            with pytest.raises(UserError, match=rf"^{member.name} changed after") as error:
                archive.read(member)
            assert [item.name for item in error.value.items] == [member.name]


def test_missing_prefix_and_bucket_are_named(s3_settings: S3Server) -> None:
    bucket = s3_settings.bucket
    for source, problem in (
        (f"s3://{bucket}/sets/none", f"s3://{bucket}/sets/none has no objects"),
        ("s3://no-such-bucket/sets", "s3://no-such-bucket does not exist"),
    ):
        with pytest.raises(UserError, match=problem), open_listed(reader(source)):
            pass


def test_errors_show_no_credentials(
    s3_settings: S3Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STILLHOUSE_SOURCES_S3_ACCESS_KEY_ID", "canary-key-4711")
    monkeypatch.setenv("STILLHOUSE_SOURCES_S3_SECRET_ACCESS_KEY", "canary-secret-4711")
    settings.cache_clear()
    source = f"s3://{s3_settings.bucket}/sets"
    with (
        pytest.raises(UserError, match="may not be read with the credentials") as error,
        open_listed(reader(source)),
    ):
        pass
    assert "canary" not in f"{error.value!r} {error.value.hint} {settings()!r}"
    assert "canary" not in "".join(capfd.readouterr())


def test_server_that_does_not_respond_can_be_read_later(
    s3_settings: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLHOUSE_SOURCES_S3_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("STILLHOUSE_OBJECT_RETRY_TIMEOUT_S", "0.01")
    settings.cache_clear()
    source = f"s3://{s3_settings.bucket}/sets"
    with (
        pytest.raises(RunCancelledError, match=f"{source} does not respond"),
        open_listed(S3Reader(parse_file_source(source), retry_delays_s=(0.01,))),
    ):
        pass


def test_version_is_checked_by_the_server(s3_settings: S3Server) -> None:
    source = put_objects(s3_settings, "sets/version", {"1.bin": b"one"})
    (file,) = (files := reader(source)).list_files()
    assert files.read(file, 1, 2) == b"ne"
    other = ListedFile(file.name, file.size, '"0123"')
    with pytest.raises(SourceRefusedError, match="changed after"):
        files.read(other, 0, 3)
