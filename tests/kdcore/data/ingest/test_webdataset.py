"""WebDataset shards are read as a stream; a damaged shard is named."""

import gzip
import hashlib
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from kdcore.data import dataset, decode
from kdcore.runtime.errors import UserError
from tests.kdcore.data.ingest.helpers import (
    assert_upload_refused,
    encode_shard,
    ingest_upload,
    labeled_samples,
    read_summary,
    write_upload,
)
from tests.kdcore.uploads import Workdir, encode_image, png, write_archive


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_one_shard_becomes_a_data_set(workdir, tar_format):
    data = ingest_upload(
        workdir, write_upload(workdir, encode_shard(labeled_samples(0, 40), tar_format=tar_format))
    )
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
        "train/a-0000.tar": encode_shard(labeled_samples(0, 8)),
        "train/a-0001.tar": encode_shard(labeled_samples(8, 8)),
        "val-0000.tar": encode_shard(labeled_samples(16, 4)),
        "test/x.tar": encode_shard(labeled_samples(20, 6)),
        "unlabeled/x.tar": encode_shard({f"{i}.png": png(i) for i in range(26, 31)}),
    }


def test_shards_in_a_zip_and_in_a_tar_give_the_same_bytes(tmp_path):
    digests = set()
    for name, wrap in (("zip", lambda m, p: write_archive(p, m)), ("tar", None)):
        workdir = Workdir(tmp_path / name)
        if wrap is None:
            path = write_upload(workdir, encode_shard(dict(reversed(shards().items()))))
        else:
            path = wrap(shards(), workdir.path / "in.zip")
        data = ingest_upload(workdir, path)
        counts = {split: part.count for split, part in data.info.splits.items()}
        assert counts == {"train": 16, "val": 4, "test": 6, "unlabeled": 5}
        unlabeled = {image.numpy().tobytes() for image in data.images("unlabeled")}
        assert unlabeled == {png_pixels(number) for number in range(26, 31)}
        file = workdir.path / "artifacts" / "dataset.safetensors"
        digests.add(hashlib.sha256(file.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_labels_may_be_numbers_or_json(workdir):
    members = {}
    for number in range(36):
        members[f"{number}.jpg"] = encode_image(Image.new("RGB", (12, 12), (number, 0, 0)), "JPEG")
        if number % 2:
            members[f"{number}.cls"] = f"{number % 12}\n".encode()
        members[f"{number}.json"] = f'{{"label": {number % 12}, "x": [1]}}'.encode()
        members[f"{number}.txt"] = b"a caption"
    data = ingest_upload(workdir, write_upload(workdir, encode_shard(members)))
    assert data.info.classes == tuple(str(number) for number in range(12))
    (summary,) = (event["summary"] for event in workdir.events() if "summary" in event)
    (ignored,) = summary["ignored"]
    assert ignored["count"] == 36
    assert ignored["examples"][0] == "0.txt"


def test_every_invalid_sample_is_named(workdir):
    good = labeled_samples(0, 20)
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
    details = assert_upload_refused(workdir, write_upload(workdir, encode_shard(good | bad)))
    assert set(details) == {"a", "b", "c.png", "d", "e.cls", "../f.png", "g.json", "h.png"}
    assert "no label" in details["a"]
    assert "several images" in details["d"]


def images_and_labels(data):
    """Pixels of the images by label, of all splits."""
    pairs = set()
    for split in dataset.SPLITS:
        for image, target in zip(data.images(split), data.targets(split), strict=True):
            pairs.add((image.numpy().tobytes(), data.info.classes[target]))
    return pairs


EXPECTED = {(png_pixels(number), "ab"[number % 2]) for number in range(12)}


@pytest.mark.parametrize("name", ["label", "cls", "class_id", "class_name"])
def test_labels_are_read_from_several_fields_of_json(workdir, name):
    members = {}
    for number in range(12):
        members[f"{number}.png"] = png(number)
        members[f"{number}.json"] = json.dumps({"id": number, name: "ab"[number % 2]}).encode()
    path = write_upload(workdir, encode_shard(members))
    assert images_and_labels(ingest_upload(workdir, path)) == EXPECTED


def test_a_stray_image_beside_shards_is_named_alone(workdir):
    members = {"a.tar": encode_shard(labeled_samples(0, 12)), "preview.png": png(99)}
    details = assert_upload_refused(workdir, write_archive(workdir.path / "in.zip", members))
    assert list(details) == ["preview"]
    assert "or remove it" in details["preview"]


def samples_with_json(fields, labels=True, prefix=""):
    """Twelve samples; ``fields`` takes the number of a sample."""
    members = {}
    for number in range(12):
        members[f"{prefix}{number}.png"] = png(number)
        if labels:
            members[f"{prefix}{number}.cls"] = b"ab"[number % 2 :][:1]
        members[f"{prefix}{number}.json"] = json.dumps(fields(number)).encode()
    return members


def test_splits_are_read_from_a_field_of_json(workdir):
    members = samples_with_json(lambda n: {"split": "train" if n < 8 else "test"})
    data = ingest_upload(workdir, write_upload(workdir, encode_shard(members)))
    assert data.info.splits["test"].count == 4
    assert read_summary(workdir).splits["test"].source == "a field of .json"


@pytest.mark.parametrize(
    ("fields", "prefix", "name", "words"),
    [
        (lambda n: {"split": "test"}, "train/", "train/0.png", "split test in .json, but train in"),
        (lambda n: {"split": "third"}, "", "0.json", "the split 'third'; train, val, test"),
        (
            lambda n: {"split": "test"} if n < 8 else {},
            "",
            "the split in .json",
            "is missing in 4 samples, for example 10.png",
        ),
        (lambda n: {"label": "ab"[n // 2 % 2]}, "", "1", "the label b in .cls, but a in .json"),
        (lambda n: {"label": "xyz"[n % 3]}, "", "0", "the label a in .cls, but x in .json"),
    ],
)
def test_fields_of_json_that_contradict_are_refused(workdir, fields, prefix, name, words):
    members = samples_with_json(fields, prefix=prefix)
    details = assert_upload_refused(workdir, write_upload(workdir, encode_shard(members)))
    assert words in details[name]


def test_other_names_of_the_same_classes_in_json_are_a_warning(workdir):
    members = samples_with_json(lambda n: {"label": ("ant", "bee")[n % 2]})
    data = ingest_upload(workdir, write_upload(workdir, encode_shard(members)))
    assert images_and_labels(data) == EXPECTED
    assert "not read, for example ant beside a" in read_summary(workdir).warnings[0]


@pytest.mark.parametrize(
    "names",
    [
        ("{}.input.jpg.png", "{}.cls"),
        ("{}.input.png", "{}.cls"),
        ("img.{}.png", "img.{}.cls"),
        ("d.ir/img.{}.png", "d.ir/img.{}.json"),
    ],
)
def test_files_of_a_sample_may_be_apart_and_have_several_dots(workdir, names):
    image_name, label_name = names
    members = {image_name.format(n): png(n) for n in range(12)}
    for number in range(12):
        label = "ab"[number % 2]
        data = json.dumps(label) if label_name.endswith(".json") else label
        members[label_name.format(number)] = data.encode()
    path = write_upload(workdir, encode_shard(members))
    assert images_and_labels(ingest_upload(workdir, path)) == EXPECTED


@pytest.mark.parametrize("container", ["zip", "tar.gz"])
def test_compressed_shards_and_samples_in_a_zip_are_read(workdir, container):
    members = {}
    for number in range(12):
        members |= {f"{number}.png": png(number), f"{number}.cls": b"ab"[number % 2 :][:1]}
    if container == "tar.gz":
        members = {"a.tar.gz": gzip.compress(encode_shard(members))}
    data = ingest_upload(workdir, write_archive(workdir.path / "in.zip", members))
    assert images_and_labels(data) == EXPECTED


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"{}.cls": None, "{}.txt": b"ant"}, "0", "a .txt file is not read as a label (9 others"),
        (
            {"{}.cls": None, "{}.json": b'{"id": 1, "caption": "x"}'},
            "0",
            "json has the fields id, caption; label, cls or class_id was expected (9 others",
        ),
        ({"0.mask.png": png(77)}, "0", "several images, 0.mask.png, 0.png; keep one"),
        ({"0.b.cls": b"a"}, "0", "several .cls files"),
        (
            {"{}.png": None, "{}.npy": b"x"},
            None,
            "the samples have no images, but files of the types .cls, .npy",
        ),
        (
            {"0.cls": None, "0.json": b'{"label": 1}', "1.cls": None, "1.json": b'{"cls": 1}'},
            "the field cls",
            "missing in others: label in 0.json, cls in 1.json",
        ),
    ],
)
def test_samples_that_lack_a_part_are_named_once(workdir, changes, name, words):
    members = {}
    for number in range(10):
        members |= {f"{number}.png": png(number), f"{number}.cls": b"ab"[number % 2 :][:1]}
    for pattern, data in changes.items():
        for number in range(10):
            members[pattern.format(number)] = data
    members = {key: data for key, data in members.items() if data is not None}
    path = write_upload(workdir, encode_shard(members))
    if name is None:
        with pytest.raises(UserError, match=words):
            ingest_upload(workdir, path)
    else:
        details = assert_upload_refused(workdir, path)
        assert set(details) == {name}
        assert words in details[name]


def damage(data, how):
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
@pytest.mark.parametrize("container", ["zip", "tar", "none"])
def test_shard_damaged_in_the_middle_is_named(workdir, how, container):
    members = shards() | {"train/a-0001.tar": damage(encode_shard(labeled_samples(0, 8)), how)}
    if container == "zip":
        details = assert_upload_refused(workdir, write_archive(workdir.path / "in.zip", members))
    elif container == "tar":
        details = assert_upload_refused(workdir, write_upload(workdir, encode_shard(members)))
    else:
        details = assert_upload_refused(workdir, write_upload(workdir, members["train/a-0001.tar"]))
    name = "the tar archive" if container == "none" else "train/a-0001.tar"
    assert "is damaged near byte" in details[name]
    assert "after ./s000" in details[name]
    # The damaged sample may be named too, but no other.
    others = {other.removeprefix(f"{name}/") for other in set(details) - {name}}
    assert others <= {"s0003", "s0004", "s0004.png"}


def test_shard_in_a_damaged_zip_is_named(workdir):
    path = write_archive(workdir.path / "in.zip", shards())
    data = bytearray(path.read_bytes())
    offset = data.index(b"s0010.png") + 700
    data[offset] ^= 255
    path.write_bytes(data)
    details = assert_upload_refused(workdir, path)
    assert "train/a-0001.tar" in details
    assert "CRC" in details["train/a-0001.tar"]


def test_links_and_pipes_in_a_tar_are_refused(workdir):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in labeled_samples(0, 20).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, kind in (("l.png", tarfile.SYMTYPE), ("p.png", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    details = assert_upload_refused(workdir, write_upload(workdir, file.getvalue()))
    assert set(details) == {"l.png", "p.png"}


def test_random_damage_of_a_tar_raises_only_user_errors(tmp_path):
    good = encode_shard(labeled_samples(0, 6))
    chance = np.random.default_rng(3)
    for trial in range(60):
        data = bytearray(good)
        for offset in chance.integers(0, len(data), chance.integers(1, 6)):
            data[offset] = chance.integers(256)
        workdir = Workdir(tmp_path / str(trial))
        try:
            ingest_upload(workdir, write_upload(workdir, bytes(data[: len(data) - trial * 3])))
        except UserError:
            continue
