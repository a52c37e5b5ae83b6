"""Archives of every kind hold the same data set; other files are named for what they are."""

import bz2
import gzip
import io
import lzma
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from kdcore.data.ingest.archives import compression
from kdcore.data.ingest.archives.byte_limit import RATIO_MIN_BYTES
from kdcore.data.ingest.archives.safe_zip import UnreadableMemberError
from kdcore.runtime.errors import RunCancelledError, UserError
from tests.kdcore.data.ingest.helpers import encode_shard, ingest_upload, write_upload
from tests.kdcore.uploads import Workdir, encode_image, image_tree, write_archive

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    zstd = pytest.importorskip("backports.zstd")

COMPRESSORS = {
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def encode_v7_tar(members):
    """A tar as Unix wrote it in 1979, without the magic ``ustar``."""
    blocks = []
    for name, data in members.items():
        info = tarfile.TarInfo(name)
        info.size = len(data)
        header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
        header[257:] = bytes(len(header) - 257)
        header[148:156] = b" " * 8
        header[148:156] = f"{sum(header):06o}\0 ".encode()
        blocks += [bytes(header), data, bytes(-len(data) % 512)]
    return b"".join([*blocks, bytes(1024)])


ENCODERS = {
    "tar": encode_shard,
    "tar of 1979": encode_v7_tar,
    **{
        name: lambda members, compress=compress: compress(encode_shard(members))
        for name, compress in COMPRESSORS.items()
    },
    "gzip in two members": lambda members: b"".join(
        gzip.compress(part) for part in (encode_shard(members)[:999], encode_shard(members)[999:])
    ),
    "zstd in two frames": lambda members: b"".join(
        zstd.compress(part) for part in (encode_shard(members)[:999], encode_shard(members)[999:])
    ),
}


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
def test_class_folders_in_a_tar_are_the_same_data_set_as_in_a_zip(tmp_path, encode):
    members = image_tree(5)
    zip_workdir, tar_workdir = Workdir(tmp_path / "zip"), Workdir(tmp_path / "tar")
    zipped = ingest_upload(zip_workdir, write_archive(zip_workdir.path / "a", members))
    packed = ingest_upload(tar_workdir, write_upload(tar_workdir, encode(members)))
    assert packed.info == zipped.info
    assert not list(tar_workdir.path.glob("*.unpacked"))


@pytest.mark.parametrize("name", COMPRESSORS)
def test_stream_that_is_cut_off_is_refused(workdir, name):
    data = ENCODERS[name](image_tree(5))
    path = write_upload(workdir, data[: len(data) // 2])
    with pytest.raises(UserError, match=f"the upload cannot be unpacked with {name}") as error:
        ingest_upload(workdir, path)
    assert error.value.code == "dataset_invalid"


def test_random_damage_of_a_stream_raises_only_expected_errors(tmp_path):
    chance = np.random.default_rng(5)
    for name, compress in COMPRESSORS.items():
        good = compress(bytes(range(256)) * 40)
        for _ in range(50):
            data = bytearray(good)
            for offset in chance.integers(0, len(data), 3):
                data[offset] = chance.integers(256)
            codec = next(codec for codec in compression.CODECS if codec.name == name)
            try:
                stream = compression.DecompressedStream(io.BytesIO(data), codec, lambda _: None)
                while stream.read(1000):
                    pass
            except UnreadableMemberError:
                continue


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_bomb_is_refused_while_it_unpacks(workdir, name):
    bomb = COMPRESSORS[name](bytes(RATIO_MIN_BYTES + (1 << 20)))
    assert len(bomb) < 100 << 10
    with pytest.raises(UserError, match=f"unpacks to more than {RATIO_MIN_BYTES} bytes"):
        ingest_upload(workdir, write_upload(workdir, bomb))
    assert not list(workdir.path.glob("*.unpacked"))


def test_bomb_in_a_shard_is_refused_while_it_unpacks(workdir):
    members = {"train.tar.gz": gzip.compress(bytes(RATIO_MIN_BYTES + (1 << 20)))}
    with pytest.raises(UserError, match=f"unpacks to more than {RATIO_MIN_BYTES} bytes"):
        ingest_upload(workdir, write_archive(workdir.path / "a.zip", members))


def test_zstd_window_that_takes_too_much_memory_is_refused():
    parameters = {zstd.CompressionParameter.window_log: 28}
    compressor = zstd.ZstdCompressor(options=parameters)
    data = compressor.compress(bytes(1000), zstd.ZstdCompressor.FLUSH_BLOCK)
    codec = compression.find_codec(data)
    with pytest.raises(UnreadableMemberError, match="zstd"):
        compression.DecompressedStream(io.BytesIO(data), codec, lambda _: None).read(10)


def encode_npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "name", "fix"),
    [
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive", "pack the files again as zip or tar.gz"),
        (b"Rar!\x1a\x07\x01\0", "a RAR archive", "pack the files again as zip or tar.gz"),
        (encode_npy(np.ones(3)), "one array of numpy", "pack both .npy files into one zip"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "numpy.savez"),
        (b"\x80\x04\x95", "a pickle, which is never opened", "numpy.savez"),
        (b"\0\0\x08\x03\0\0\xea\x60", "an IDX file", "numpy.savez"),
        (gzip.compress(b"\0\0\x08\x03\0\0\xea\x60", mtime=0), "an IDX file", "numpy.savez"),
        (encode_image(Image.new("L", (9, 9))), "one image", "into a zip, in class folders"),
        (b"<!DOCTYPE html><html>", "a web page", "download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS", "git lfs pull"),
        (b"path,label\n1.png,ant\n", "a table (CSV)", "images into one zip"),
        (b'{"a": 1}', "a JSON text", "into one zip"),
        (b"hello" * 99, "a text file", "into a zip"),
        (b"\xfe\xdc" * 99, "of an unknown type: it begins with the bytes fe dc", "zip or tar.gz"),
        (bytes(600), "of an unknown type", "zip or tar.gz"),
        (b"", "empty", "upload an archive"),
    ],
)
def test_other_files_are_named_for_what_they_are(workdir, data, name, fix):
    with pytest.raises(UserError) as error:
        ingest_upload(workdir, write_upload(workdir, data))
    assert error.value.code == "dataset_invalid"
    assert error.value.message.startswith(f"the upload is {name}")
    assert not data or "Parquet are read" in error.value.message
    assert fix in error.value.hint
    assert not error.value.items


@pytest.mark.parametrize("name", ["zstd", "bzip2", "xz"])
def test_many_empty_frames_are_refused(name, monkeypatch):
    monkeypatch.setattr(compression, "MAX_EMPTY_FRAMES", 100)
    codec = next(codec for codec in compression.CODECS if codec.name == name)
    for count, is_allowed in ((100, True), (102, False)):
        data = COMPRESSORS[name](b"") * count + COMPRESSORS[name](b"abc")
        stream = compression.DecompressedStream(io.BytesIO(data), codec, lambda _: None)
        if is_allowed:
            assert stream.read(10) == b"abc"
        else:
            with pytest.raises(UnreadableMemberError, match="more than 100 empty frames"):
                stream.read(10)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_cancellation_stops_a_stream_of_empty_frames(workdir, name):
    path = write_upload(workdir, COMPRESSORS[name](b"") * 20_000)
    workdir.cancellation.cancel()
    with pytest.raises(RunCancelledError):
        ingest_upload(workdir, path)


def test_decompressors_get_few_bytes_because_they_copy_those_behind_a_frame():
    sizes = []

    class RecordedFile(io.BytesIO):
        def read(self, size=-1, /):
            sizes.append(size)
            return super().read(size)

    data = zstd.compress(b"a") * 30_000
    codec = next(codec for codec in compression.CODECS if codec.name == "zstd")
    stream = compression.DecompressedStream(RecordedFile(data), codec, lambda _: None)
    assert sum(len(part) for part in iter(stream.read, b"")) == 30_000
    assert max(sizes) <= 64 << 10
