"""A data set's images are those that are taught."""

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.helpers import assert_problem, issue_codes

Json = dict[str, Any]


def pixels(entry: Json) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(entry["png"]))))


def images(client: httpx.Client, dataset: Json, **params: Any) -> list[Json]:
    answer = client.get(f"/v1/datasets/{dataset['id']}/images", params=params)
    data: list[Json] = answer.raise_for_status().json()["data"]
    return data


def test_the_rows_are_those_of_the_stored_file(
    client: httpx.Client, digits: Json, digits_row: Json, tmp_path: Any
) -> None:
    from safetensors.numpy import load

    from store import object_store

    stored = load(b"".join(object_store.read(digits_row["object_key"])))
    found = images(client, digits, split="test", rows="7,0,3")
    assert [each["row"] for each in found] == [7, 0, 3]
    for each in found:
        assert np.array_equal(pixels(each), stored["test/images"][each["row"], 0])
        assert each["target"] == stored["test/targets"][each["row"]]
        assert each["class"] == digits["classes"][each["target"]]


def test_two_of_each_class_unless_told_otherwise(client: httpx.Client, digits: Json) -> None:
    found = images(client, digits, split="train")
    assert [each["target"] for each in found] == [index // 2 for index in range(20)]


def test_they_can_be_had_smaller_but_never_larger(client: httpx.Client, digits: Json) -> None:
    side = digits["image_size"]
    (same,) = images(client, digits, rows="0", size=512)
    assert pixels(same).shape == (side, side)


@pytest.mark.parametrize(
    ("params", "fault"),
    [
        ({"rows": "0,x"}, ("?rows", "bad_rows")),
        ({"rows": "-1"}, ("?rows", "bad_rows")),
        ({"rows": "99999"}, ("?rows", "bad_rows")),
        ({"rows": ""}, ("?rows", "bad_rows")),
        ({"rows": ",".join(["0"] * 101)}, ("?rows", "too_many")),
        ({"split": "unlabeled"}, ("?split", "not_found")),
    ],
)
def test_rows_that_are_not_there(
    client: httpx.Client, digits: Json, params: Json, fault: tuple[str, str]
) -> None:
    answer = client.get(f"/v1/datasets/{digits['id']}/images", params=params)
    assert issue_codes(answer) == dict([fault])


def test_a_stranger_sees_none(other_client: httpx.Client, digits: Json) -> None:
    assert_problem(other_client.get(f"/v1/datasets/{digits['id']}/images"), 404, "not_found")
