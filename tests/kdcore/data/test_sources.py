"""Arrays, shards, unlabelled folders and mixed sizes become one and the same kind of store."""

import hashlib
import io
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from kdcore.data import decode, store
from kdcore.data.ingest import ingest
from kdcore.errors import UserFault
from kdcore.spec.assets import DatasetInfo
from kdcore.spec.protocol import IngestRequest
from tests.kdcore.uploads import Room, archive, encoded, png, tree

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 9, 9, 3), dtype=np.uint8)
NUMBERS = np.arange(40) % 4


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path / "work")


def taken(room, path, **options):
    request = IngestRequest(source="archive", path=str(path), **options)
    info = DatasetInfo.model_validate(room.call(ingest, request))
    data = store.load(room.path / "artifacts" / "dataset.safetensors")
    assert data.info == info
    return data


def refused(room, path, **options):
    with pytest.raises(UserFault) as fault:
        taken(room, path, **options)
    assert fault.value.code == "dataset_invalid"
    assert not (room.path / "artifacts" / "dataset.safetensors").exists()
    return {item.name: item.detail for item in fault.value.items}


def npz(room, packed=False, **arrays):
    path = room.path / "data.bin"
    with path.open("wb") as file:
        (np.savez_compressed if packed else np.savez)(file, **arrays)
    return path


def rows(data, split):
    return data.images(split).permute(0, 2, 3, 1).numpy()


# --- arrays


@pytest.mark.parametrize("packed", [False, True])
def test_arrays_are_taken_as_they_are(room, packed):
    names = np.array(["zebra", "ant", "bee", "cow"])
    path = npz(
        room,
        packed,
        images=PIXELS[:24],
        labels=NUMBERS[:24],
        val_images=PIXELS[24:32],
        val_labels=NUMBERS[24:32].astype(np.uint8)[:, None],
        test_images=PIXELS[32:],
        test_labels=NUMBERS[32:],
        class_names=names,
    )
    data = taken(room, path)
    assert data.info.classes == tuple(names)
    assert np.array_equal(rows(data, "train"), PIXELS[:24])
    assert np.array_equal(rows(data, "test"), PIXELS[32:])
    assert data.targets("val").tolist() == NUMBERS[24:32].tolist()


def test_missing_splits_of_arrays_are_drawn_by_class(room):
    data = taken(room, npz(room, images=PIXELS[..., 0], labels=NUMBERS))
    assert data.info.in_channels == 1
    assert data.info.classes == ("0", "1", "2", "3")
    counts = {split: part.count for split, part in data.info.splits.items()}
    assert counts == {"train": 28, "val": 4, "test": 8}
    for split in store.SPLITS:
        for image, target in zip(data.images(split), data.targets(split), strict=True):
            row = np.flatnonzero((PIXELS[..., 0] == image[0].numpy()).all((1, 2)))
            assert NUMBERS[row].tolist() == [target]


def test_labels_of_arrays_may_be_text_and_numbers_keep_their_order(room, tmp_path):
    words = np.array(["bee", "ant"])[np.arange(40) % 2]
    assert taken(room, npz(room, images=PIXELS, labels=words)).info.classes == ("ant", "bee")
    other = Room(tmp_path / "b")
    numbers = np.where(np.arange(40) % 2, 10, 9)
    assert taken(other, npz(other, images=PIXELS, labels=numbers)).info.classes == ("9", "10")


def test_arrays_that_are_not_square_or_not_opaque(room):
    wide = np.zeros((40, 8, 12, 4), np.uint8)
    wide[:, :, 2:10, 0] = 200
    wide[:, :, 2:10, 3] = 255
    data = taken(room, npz(room, images=wide, labels=NUMBERS), image_size=8)
    assert data.images("train").shape[1:] == (3, 8, 8)
    assert (data.images("train")[:, 0] == 200).all()


def test_unlabelled_arrays(room):
    path = npz(room, images=PIXELS[:20], labels=NUMBERS[:20], unlabelled_images=PIXELS[20:])
    data = taken(room, path)
    assert np.array_equal(rows(data, "unlabelled"), PIXELS[20:])
    assert data.info.splits["unlabelled"].count == 20
    assert data.info.splits["unlabelled"].per_class == {}


@pytest.mark.parametrize(
    ("changed", "where", "words"),
    [
        ({"images": PIXELS.astype(np.float32)}, "images", "float32; uint8"),
        ({"images": PIXELS.transpose(0, 3, 1, 2)}, "images", r"(40, 3, 9, 9)"),
        ({"images": np.asfortranarray(PIXELS)}, "images", "Fortran"),
        ({"images": PIXELS[0]}, "labels of train", "40, but there are 9 images"),
        ({"labels": NUMBERS[:39]}, "labels of train", "39, but there are 40"),
        ({"labels": NUMBERS - 1}, "labels of train", "-1 in row 0; 0 or more"),
        ({"labels": NUMBERS + 0.5}, "labels", "float64; integers or text"),
        ({"labels": np.eye(40)[:, :4]}, "labels", "(40, 4)"),
        ({"labels": np.array([{}] * 40)}, "labels", "never unpickled"),
        ({"class_names": np.array(["a", "b", "c"])}, "labels of train", "3 in row 3; 0 to 2"),
        ({"class_names": np.array(["a", "b", "a", "d"])}, "class_names", "a twice"),
        ({"test_images": PIXELS}, "images of test", "no labels"),
        ({"test_labels": NUMBERS}, "labels of test", "no images"),
        ({"train_images": PIXELS}, "train_images", "two names"),
        ({"x": NUMBERS}, "x", "`images` and `labels` are expected"),
    ],
)
def test_faults_of_arrays_are_named(room, changed, where, words):
    found = refused(room, npz(room, **{"images": PIXELS, "labels": NUMBERS} | changed))
    assert words in found[where]


def test_an_array_that_is_shorter_than_it_says(room):
    members = {}
    for name, array in (("images", PIXELS), ("labels", NUMBERS)):
        file = io.BytesIO()
        np.save(file, array)
        members[f"{name}.npy"] = file.getvalue()
    members["images.npy"] = members["images.npy"][:-100]
    found = refused(room, archive(room.path / "in.npz", members))
    assert "100 bytes are missing" in found["images.npy"]


# --- unlabelled folders, sizes


@pytest.mark.parametrize("prefix", ["", "train/", "set/", "set/train/"])
def test_an_unlabelled_folder_stands_beside_the_others(room, prefix):
    around = "set/" if prefix.startswith("set") else ""
    extra = {f"{around}Unlabelled/deep/{i}.png": png(500 + i) for i in range(7)}
    members = tree(10, prefix=prefix)
    data = taken(room, archive(room.path / "in.zip", members | extra))
    assert data.info.classes == ("ant", "bee")
    assert data.info.splits["unlabelled"].count == 7
    expected = [decode.decode(d, grey=False, size=10, max_pixels=999) for d in extra.values()]
    assert np.array_equal(data.images("unlabelled").numpy(), np.stack(expected))
    assert sum(data.info.splits[split].count for split in store.SPLITS) == 20


def test_unlabelled_images_are_part_of_the_digest_and_of_nothing_else(tmp_path):
    plain = taken(Room(tmp_path / "a"), archive(tmp_path / "a.zip", tree(10)))
    extra = {"unlabelled/1.png": png(7)}
    more = taken(Room(tmp_path / "b"), archive(tmp_path / "b.zip", tree(10) | extra))
    other = taken(
        Room(tmp_path / "c"), archive(tmp_path / "c.zip", tree(10) | {"unlabelled/1.png": png(8)})
    )
    assert len({data.info.digest for data in (plain, more, other)}) == 3
    assert plain.info.normalisation == more.info.normalisation
    assert "unlabelled" not in plain.info.splits
    assert len(plain.images("unlabelled")) == 0


def test_the_asked_size_of_mixed_images(room):
    members = {}
    for number, name in enumerate(tree(6)):
        kind = ("PNG", "JPEG", "WEBP", "BMP")[number % 4]
        size = [(300, 200), (64, 64), (500, 900)][number % 3]
        mode = "L" if number % 5 == 0 else "RGB"
        image = Image.new(mode, size, 90 if mode == "L" else (90, 90, 90))
        members[name.replace(".png", f".{kind.lower()}")] = encoded(image, kind)
    data = taken(room, archive(room.path / "in.zip", members), image_size=96)
    assert data.images("train").shape[1:] == (3, 96, 96)
    assert (data.images("train").int() - 90).abs().max() <= 3


def test_a_large_jpeg_is_decoded_small_and_right():
    chance = np.random.default_rng(1)
    coarse = Image.fromarray(chance.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    large = coarse.resize((1200, 900), Image.Resampling.BICUBIC)
    data = encoded(large, "JPEG", quality=95)
    small = decode.decode(data, grey=False, size=48, max_pixels=2_000_000)
    exact = np.asarray(large.crop((150, 0, 1050, 900)).resize((48, 48), Image.Resampling.BOX))
    assert np.abs(small.transpose(1, 2, 0).astype(int) - exact).mean() < 6


# --- shards


def shard(samples, *, kind=tarfile.USTAR_FORMAT):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
        for name, data in samples.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def samples(start, count, labels=("ant", "bee")):
    found = {}
    for number in range(start, start + count):
        found[f"./s{number:04d}.png"] = png(number)
        found[f"./s{number:04d}.cls"] = labels[number % len(labels)].encode()
    return found


def write(room, data, name="upload"):
    path = room.path / name
    path.write_bytes(data)
    return path


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
    for split in store.SPLITS:
        for image, target in zip(data.images(split), data.targets(split), strict=True):
            assert known.pop(image.numpy().tobytes()) == target
    assert not known


def png_pixels(number):
    return decode.decode(png(number), grey=False, size=10, max_pixels=999).tobytes()


def shards():
    return {
        "train/a-0000.tar": shard(samples(0, 8)),
        "train/a-0001.tar": shard(samples(8, 8)),
        "val-0000.tar": shard(samples(16, 4)),
        "test/x.tar": shard(samples(20, 6)),
        "unlabelled/x.tar": shard({f"{i}.png": png(i) for i in range(26, 31)}),
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
        assert counts == {"train": 16, "val": 4, "test": 6, "unlabelled": 5}
        found = {image.numpy().tobytes() for image in data.images("unlabelled")}
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
        except UserFault:
            continue


# --- memory

_MEASURED = """
import contextlib, resource, sys
from pathlib import Path
from kdcore.data.ingest import ingest
from kdcore.process.events import EventWriter
from kdcore.process.stop import Stop
from kdcore.spec.protocol import IngestRequest
folder, path, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
request = IngestRequest(source="archive", path=path, image_size=size)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with contextlib.closing(EventWriter(folder / "events.jsonl", folder)) as events:
    ingest(request, folder, events, Stop())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("kind", ["shards", "folders", "arrays"])
def test_memory_does_not_grow_with_the_data(tmp_path, kind):
    flat = {number: png_of(number) for number in range(300)}
    if kind == "shards":
        members = {}
        for number, data in flat.items():
            members |= {f"{number}.png": data, f"{number}.cls": str(number % 2).encode()}
        path = tmp_path / "in.tar"
        path.write_bytes(shard(members))
    elif kind == "folders":
        path = archive(tmp_path / "in.zip", {f"{n % 2}/{n}.png": d for n, d in flat.items()})
    else:
        path = tmp_path / "in.npz"
        images = np.zeros((300, 512, 512, 3), np.uint8)
        np.savez(path, images=images, labels=np.arange(300) % 2)
        del images
    run = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(tmp_path), str(path), "512"],
        capture_output=True,
        text=True,
        check=True,
    )
    store_bytes = (tmp_path / "artifacts" / "dataset.safetensors").stat().st_size
    assert store_bytes > 220 << 20
    # Decoded, the images take 225 MiB; no more than a few of them are ever held.
    assert int(run.stdout) < 90 << 10


def png_of(number):
    return encoded(Image.new("RGB", (512, 512), (number % 256, 0, 0)))
