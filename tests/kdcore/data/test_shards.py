"""WebDataset shards, read as a stream; a damaged one is named."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from kdcore.data import dataset, decode
from kdcore.runtime.errors import UserError
from tests.kdcore.data.helpers import refused, samples, shard, taken, write
from tests.kdcore.uploads import Room, archive, encoded, png


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_one_shard(room, kind):
    data = taken(room, write(room, shard(samples(0, 40), kind=kind)))
    assert data.info.classes == ("ant", "bee")
    assert {split: part.count for split, part in data.info.splits.items()} == {
        "train": 28,
        "val": 4,
        "test": 8,
    }
    known = {png_pixels(number): number % 2 for number in range(40)}
    for split in dataset.SPLITS:
        for image, target in zip(data.images(split), data.targets(split), strict=True):
            assert known.pop(image.numpy().tobytes()) == target
    assert not known


def png_pixels(number):
    return decode.decode(png(number), gray=False, size=10, max_pixels=999).tobytes()


def shards():
    return {
        "train/a-0000.tar": shard(samples(0, 8)),
        "train/a-0001.tar": shard(samples(8, 8)),
        "val-0000.tar": shard(samples(16, 4)),
        "test/x.tar": shard(samples(20, 6)),
        "unlabeled/x.tar": shard({f"{i}.png": png(i) for i in range(26, 31)}),
    }


def test_shards_in_a_zip_and_in_a_tar_are_the_same_data(tmp_path):
    digests = set()
    for name, wrap in (("zip", lambda m, p: archive(p, m)), ("tar", None)):
        room = Room(tmp_path / name)
        if wrap is None:
            path = write(room, shard(dict(reversed(shards().items()))))
        else:
            path = wrap(shards(), room.path / "in.zip")
        data = taken(room, path)
        counts = {split: part.count for split, part in data.info.splits.items()}
        assert counts == {"train": 16, "val": 4, "test": 6, "unlabeled": 5}
        found = {image.numpy().tobytes() for image in data.images("unlabeled")}
        assert found == {png_pixels(number) for number in range(26, 31)}
        file = room.path / "artifacts" / "dataset.safetensors"
        digests.add(hashlib.sha256(file.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_labels_of_shards_may_be_numbers_or_json(room):
    members = {}
    for number in range(36):
        members[f"{number}.jpg"] = encoded(Image.new("RGB", (12, 12), (number, 0, 0)), "JPEG")
        if number % 2:
            members[f"{number}.cls"] = f"{number % 12}\n".encode()
        members[f"{number}.json"] = f'{{"label": {number % 12}, "x": [1]}}'.encode()
        members[f"{number}.txt"] = b"a caption"
    data = taken(room, write(room, shard(members)))
    assert data.info.classes == tuple(str(number) for number in range(12))
    log = [line["message"] for line in room.lines() if line["type"] == "log"]
    assert any("36 files" in message for message in log)


def test_bad_samples_are_all_named(room):
    good = samples(0, 20)
    bad = {
        "a.png": png(100),
        "b.cls": b"ant",
        "c.png": b"no image",
        "c.cls": b"ant",
        "d.png": png(101),
        "d.jpg": png(101),
        "d.cls": b"ant",
        "e.png": png(102),
        "e.cls": b"\xff\xfe",
        "../f.png": png(103),
        "g.png": png(104),
        "g.json": b'{"label": ["ant"]}',
        "h.png": png(105)[:60],
        "h.cls": b"bee",
    }
    found = refused(room, write(room, shard(good | bad)))
    assert set(found) == {"a", "b", "c.png", "d", "e.cls", "../f.png", "g", "h.png"}
    assert "no label" in found["a"]
    assert "several images" in found["d"]


def damaged(data, how):
    middle = data.index(b"s0004.png")  # a header in the middle of the shard
    if how == "header":
        return data[:middle] + b"\xff" * 300 + data[middle + 300 :]
    if how == "zeros":
        start = middle - middle % 512
        return data[:start] + bytes(512) + data[start + 512 :]
    if how == "cut in a file":
        return data[: middle + 600]
    if how == "no end mark":
        return data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512)
    assert how == "cut at a header"
    return data[: middle - middle % 512]


@pytest.mark.parametrize(
    "how", ["header", "zeros", "cut in a file", "cut at a header", "no end mark"]
)
@pytest.mark.parametrize("around", ["zip", "tar", "alone"])
def test_a_damaged_shard_in_the_middle_is_named(room, how, around):
    members = shards() | {"train/a-0001.tar": damaged(shard(samples(0, 8)), how)}
    if around == "zip":
        found = refused(room, archive(room.path / "in.zip", members))
    elif around == "tar":
        found = refused(room, write(room, shard(members)))
    else:
        found = refused(room, write(room, members["train/a-0001.tar"]))
    name = "the tar archive" if around == "alone" else "train/a-0001.tar"
    assert "is damaged near byte" in found[name]
    assert "after ./s000" in found[name]
    # The sample that the damage fell on may be told too, but no other.
    others = {other.removeprefix(f"{name}/") for other in set(found) - {name}}
    assert others <= {"s0003", "s0004", "s0004.png"}


def test_a_shard_in_a_damaged_zip(room):
    path = archive(room.path / "in.zip", shards())
    data = bytearray(path.read_bytes())
    spot = data.index(b"s0010.png") + 700
    data[spot] ^= 255
    path.write_bytes(data)
    found = refused(room, path)
    assert "train/a-0001.tar" in found
    assert "CRC" in found["train/a-0001.tar"]


def test_strange_members_of_a_tar(room):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in samples(0, 20).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, kind in (("l.png", tarfile.SYMTYPE), ("p.png", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    found = refused(room, write(room, file.getvalue()))
    assert set(found) == {"l.png", "p.png"}


def test_random_damage_of_a_tar_never_ends_in_another_exception(tmp_path):
    good = shard(samples(0, 6))
    chance = np.random.default_rng(3)
    for trial in range(60):
        data = bytearray(good)
        for spot in chance.integers(0, len(data), chance.integers(1, 6)):
            data[spot] = chance.integers(256)
        room = Room(tmp_path / str(trial))
        try:
            taken(room, write(room, bytes(data[: len(data) - trial * 3])))
        except UserError:
            continue
