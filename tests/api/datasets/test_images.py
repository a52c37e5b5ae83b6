"""The images of a data set are those of a training."""

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.helpers import assert_problem, issue_codes

Json = dict[str, Any]


def decode_pixels(entry: Json) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(entry["png"]))))


def get_images(client: httpx.Client, dataset: Json, **params: Any) -> list[Json]:
    response = client.get(f"/v1/datasets/{dataset['id']}/images", params=params)
    data: list[Json] = response.raise_for_status().json()["data"]
    return data


def test_rows_equal_the_stored_file(
    client: httpx.Client, digits: Json, digits_row: Json, tmp_path: Any
) -> None:
    from safetensors.numpy import load

    from store import object_store

    stored = load(b"".join(object_store.read(digits_row["object_key"])))
    images = get_images(client, digits, split="test", rows="7,0,3")
    assert [image["row"] for image in images] == [7, 0, 3]
    for image in images:
        assert np.array_equal(decode_pixels(image), stored["test/images"][image["row"], 0])
        assert image["target"] == stored["test/targets"][image["row"]]
        assert image["class"] == digits["classes"][image["target"]]


def test_default_is_two_images_per_class(client: httpx.Client, digits: Json) -> None:
    images = get_images(client, digits, split="train")
    assert [image["target"] for image in images] == [index // 2 for index in range(20)]


def test_images_are_never_enlarged(client: httpx.Client, digits: Json) -> None:
    side = digits["image_size"]
    (same,) = get_images(client, digits, rows="0", size=512)
    assert decode_pixels(same).shape == (side, side)


@pytest.mark.parametrize(
    ("params", "issue"),
    [
        ({"rows": "0,x"}, ("?rows", "bad_rows")),
        ({"rows": "-1"}, ("?rows", "bad_rows")),
        ({"rows": "99999"}, ("?rows", "bad_rows")),
        ({"rows": ""}, ("?rows", "bad_rows")),
        ({"rows": ",".join(["0"] * 101)}, ("?rows", "too_many")),
        ({"split": "unlabeled"}, ("?split", "not_found")),
    ],
)
def test_invalid_rows_are_rejected(
    client: httpx.Client, digits: Json, params: Json, issue: tuple[str, str]
) -> None:
    response = client.get(f"/v1/datasets/{digits['id']}/images", params=params)
    assert issue_codes(response) == dict([issue])


def test_images_of_a_foreign_data_set_are_not_found(
    other_client: httpx.Client, digits: Json
) -> None:
    assert_problem(other_client.get(f"/v1/datasets/{digits['id']}/images"), 404, "not_found")
