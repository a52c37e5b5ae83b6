"""Images are recognized by their content; bad ones are refused or skipped; 16 bits have a range."""

import numpy as np
import pytest
from PIL import Image

from kdcore.runtime.errors import UserError
from tests.kdcore.data.ingest.helpers import (
    assert_upload_refused,
    encode_shard,
    ingest_upload,
    labeled_samples,
    write_upload,
)
from tests.kdcore.data.ingest.test_split_names import read_summary
from tests.kdcore.uploads import Workdir, encode_image, image_tree, png, write_archive


def ingest_members(workdir, members, **options):
    return ingest_upload(workdir, write_archive(workdir.path / "in.zip", members), **options)


def total(data):
    return sum(part.count for part in data.info.splits.values())


def test_names_do_not_decide_what_an_image_is(workdir):
    formats = {
        "a.jfif": "JPEG",
        "b.jpe": "JPEG",
        "c": "PNG",
        "d.dat": "GIF",
        "e.png": "JPEG",
        "f.tif": "TIFF",
        "g.avif": "AVIF",
        "h.001": "WEBP",
        "i.data": "BMP",
    }
    members = {"notes": b"no image", "ant/list.txt": b"BM and more", "bee/x.json": b"{}"}
    for position, (name, file_format) in enumerate(formats.items()):
        for k, label in enumerate(("ant", "bee")):
            shade = 20 * position + 3 * k
            image = Image.new("RGB", (12, 12), (shade, 255 - shade, 0))
            members[f"{label}/{name}"] = encode_image(image, file_format)
    data = ingest_members(workdir, members)
    assert total(data) == 2 * len(formats)
    assert read_summary(workdir)["ignored"] == [
        {
            "reason": "is not an image",
            "count": 3,
            "examples": ["notes", "ant/list.txt", "bee/x.json"],
        }
    ]


def test_name_of_an_image_is_never_ignored(workdir):
    bad = {"ant/x.jfif": b"text", "bee/y.HEIC": b"\0\0\0\x18ftypheic", "bee/z.svg": b"<svg/>"}
    path = write_archive(workdir.path / "in.zip", image_tree(5) | bad)
    details = assert_upload_refused(workdir, path)
    assert set(details) == set(bad)
    assert details["bee/y.HEIC"].startswith("is a HEIC image; PNG, JPEG")
    assert read_summary(workdir)["splits"]["train"]["count"] == 10
    assert read_summary(workdir)["splits"]["train"]["source"] == "class folders"


@pytest.mark.parametrize("upload_format", ["folders", "shards"])
def test_bad_images_are_skipped_on_request(workdir, upload_format):
    cut = png(5)[:-40]
    if upload_format == "folders":
        bad = {"ant/cut.png": cut, "bee/text.png": b"text"}
        path = write_archive(workdir.path / "in.zip", image_tree(10) | bad)
    else:
        samples = {"s1.png": cut, "s1.cls": b"ant", "s2.png": b"text", "s2.cls": b"bee"}
        bad = {"s1.png", "s2.png"}
        path = write_upload(workdir, encode_shard(labeled_samples(10, 20) | samples))
    assert set(assert_upload_refused(workdir, path)) == set(bad)
    data = ingest_upload(workdir, path, on_bad_image="skip")
    assert total(data) == 20
    (ignored,) = read_summary(workdir)["ignored"]
    assert (ignored["reason"], ignored["count"]) == ("cannot be decoded (on_bad_image: skip)", 2)
    assert {text.partition(":")[0] for text in ignored["examples"]} == set(bad)


def test_skipped_images_leave_the_others_as_they_are(tmp_path):
    plain = ingest_members(Workdir(tmp_path / "a"), image_tree(10))
    skipped = ingest_members(
        Workdir(tmp_path / "b"), image_tree(10) | {"ant/0x.png": b"x"}, on_bad_image="skip"
    )
    assert skipped.info == plain.info


def test_class_of_bad_images_alone_is_named(workdir):
    members = image_tree(10) | {f"cow/{i}.png": png(1)[:-40] for i in range(10)}
    with pytest.raises(UserError) as error:
        ingest_members(workdir, members, on_bad_image="skip")
    assert [item.name for item in error.value.items] == ["cow"]
    assert read_summary(workdir)["ignored"][0]["count"] == 10


@pytest.mark.parametrize("upload_format", ["folders", "shards"])
def test_class_without_any_readable_header_is_named(workdir, upload_format):
    if upload_format == "folders":
        bad = {f"cow/{i}.png": b"text" for i in range(10)}
        path = write_archive(workdir.path / "in.zip", image_tree(10) | bad)
    else:
        bad = {f"c{i}.png": b"text" for i in range(10)} | {f"c{i}.cls": b"cow" for i in range(10)}
        path = write_upload(workdir, encode_shard(labeled_samples(10, 20) | bad))
    details = assert_upload_refused(workdir, path, on_bad_image="skip")
    assert details == {"cow": "has no training images left without bad images"}


def test_bad_images_alone_can_be_skipped(workdir):
    header_only, cut = {"ant/x.png": b"x"}, {"bee/cut.png": png(4)[:-40]}
    for bad in (header_only, cut, header_only | cut):
        with pytest.raises(UserError) as error:
            ingest_members(workdir, image_tree(5) | bad)
        assert error.value.fix_fields == ("on_bad_image",)
        assert "skip" in error.value.hint
    with pytest.raises(UserError) as error:
        ingest_members(workdir, image_tree(5) | cut | {"loose.png": png(9)})
    assert {item.name for item in error.value.items} == {"bee/cut.png", "loose.png"}
    assert error.value.fix_fields == ()


def test_upload_without_images_says_what_it_has(workdir):
    with pytest.raises(UserError) as error:
        ingest_members(workdir, {"data.h5": b"x", "readme.txt": b"hello"})
    assert error.value.message == "the upload has no images, only data.h5, readme.txt"
    with pytest.raises(UserError) as error:
        ingest_members(workdir, image_tree(3, prefix="validation/"))
    assert error.value.message == (
        "the upload has no images in train/; it has images of val from validation/"
    )


def test_a_thousand_bad_images_are_counted(workdir):
    members = image_tree(10) | {f"ant/x{i}.png": b"x" for i in range(1100)}
    ingest_members(workdir, members, on_bad_image="skip")
    (ignored,) = read_summary(workdir)["ignored"]
    assert (ignored["count"], len(ignored["examples"])) == (1100, 1000)
    with pytest.raises(UserError) as error:
        ingest_members(workdir, members)
    assert (error.value.num_items, len(error.value.items)) == (1100, 1000)
    assert len(error.value.message) < 200


def deep_tree(most):
    chance = np.random.default_rng(0)
    members = {}
    for number, name in enumerate(image_tree(6)):
        values = chance.integers(0, most, (10, 10), dtype=np.uint16)
        values[0, 0] = most if number == 0 else 0
        members[name] = encode_image(Image.fromarray(values))
    return members


def test_range_of_sixteen_bits_is_that_of_the_set(workdir):
    data = ingest_members(workdir, deep_tree(4000))
    assert data.info.sixteen_bit_range == 4096
    assert data.images("train").max() > 240
    assert len(np.unique(data.images("train").numpy())) > 200
    (warning,) = read_summary(workdir)["warnings"]
    assert warning.startswith("12 images have 16 bits and no value above 4000, so the range 0 to 4")


def test_hot_pixel_in_a_set_of_twelve_bits_is_a_warning(workdir):
    members = deep_tree(4000)
    values = np.full((10, 10), 4000, np.uint16)
    values[3, 3] = 65_535
    ingest_members(workdir, members | {"ant/hot.png": encode_image(Image.fromarray(values))})
    (warning,) = read_summary(workdir)["warnings"]
    assert warning.startswith("most images with 16 bits have no value above 4000 and become dark")
    assert warning.endswith("0 to 65535: larger values are in: ant/hot.png")


def test_split_of_twelve_bits_beside_sixteen_is_a_warning(workdir):
    members = {f"train/{name}": data for name, data in deep_tree(65_535).items()}
    members |= {f"test/{name}": data for name, data in list(deep_tree(4000).items())[::3]}
    ingest_members(workdir, members)
    (warning,) = read_summary(workdir)["warnings"]
    assert warning.startswith("the test images with 16 bits have no value above 4000 and become")


def test_class_named_like_a_missing_label_is_a_warning(workdir):
    members = image_tree(6) | {f"nan/{number}.png": png(50 + number) for number in range(6)}
    ingest_members(workdir, members)
    (warning,) = read_summary(workdir)["warnings"]
    assert "the name of a missing label" in warning
    assert warning.endswith(": nan")


def test_full_range_of_sixteen_bits_is_no_warning(workdir):
    data = ingest_members(workdir, deep_tree(65_535))
    assert data.info.sixteen_bit_range == 65_536
    assert read_summary(workdir)["warnings"] == []


def test_transparency_and_frames_are_a_warning_once(workdir):
    frames = [Image.new("RGB", (10, 10), (shade, 0, 0)) for shade in (3, 250)]
    members = image_tree(6) | {
        "ant/clear.png": png(50, mode="RGBA"),
        "bee/clear.png": png(51, mode="RGBA"),
        "bee/moving.gif": encode_image(frames[0], "GIF", save_all=True, append_images=frames[1:]),
    }
    ingest_members(workdir, members)
    assert read_summary(workdir)["warnings"] == [
        "2 of 15 images have an alpha channel or a transparent color; transparent parts became "
        "white",
        "1 of 15 images have several frames or pages; only the first was read",
    ]
