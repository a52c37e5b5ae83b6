"""Bytes come in parts and are verified as a whole before anything is made of them."""

import hashlib
from typing import Any

import httpx
import pytest

from store import object_store
from store.database import transaction
from store.tables import Upload
from tests.helpers import assert_problem, issue_codes, upload

Json = dict[str, Any]
PART = 65536


def begin(client: httpx.Client, data: bytes, **changes: Any) -> Json:
    digest = hashlib.sha256(data).hexdigest()
    body = {"filename": "x", "size_bytes": len(data), "sha256": digest} | changes
    answer = client.post("/v1/uploads", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/uploads/{answer.json()['id']}"
    begun: Json = answer.json()
    return begun


def test_an_upload_in_parts_is_complete_when_all_is_there(client: httpx.Client) -> None:
    data = b"".join(bytes([number % 256]) * 1000 for number in range(150))
    begun = begin(client, data)
    own = f"/v1/uploads/{begun['id']}"
    assert [part["size_bytes"] for part in begun["parts"]] == [PART, PART, len(data) - 2 * PART]
    for part in reversed(begun["parts"]):  # in any order, and again
        start = (part["number"] - 1) * PART
        for piece in (bytes(part["size_bytes"]), data[start : start + PART]):
            client.put(part["url"], content=piece).raise_for_status()
    assert all(part["received"] for part in client.get(own).json()["parts"])
    for _ in range(2):
        answer = client.post(f"{own}/complete")
        assert (answer.status_code, answer.json()["state"]) == (200, "complete")
    assert_problem(client.put(begun["parts"][0]["url"], content=data[:PART]), 409)
    client.post("/v1/datasets", json={"name": "x", "upload_id": begun["id"]}).raise_for_status()
    assert_problem(client.delete(own), 409)


def test_a_complete_upload_that_nobody_uses_can_be_deleted(client: httpx.Client) -> None:
    begun = begin(client, b"sent by mistake")
    client.put(begun["parts"][0]["url"], content=b"sent by mistake").raise_for_status()
    client.post(f"/v1/uploads/{begun['id']}/complete").raise_for_status()
    assert client.delete(f"/v1/uploads/{begun['id']}").status_code == 204
    assert_problem(client.get(f"/v1/uploads/{begun['id']}"), 404)


def test_a_wrong_digest_is_told_and_the_upload_stays_open(client: httpx.Client) -> None:
    begun = begin(client, b"right")
    own = f"/v1/uploads/{begun['id']}"
    client.put(begun["parts"][0]["url"], content=b"wrong").raise_for_status()
    assert issue_codes(client.post(f"{own}/complete")) == {"/sha256": "sha256_mismatch"}
    assert client.get(own).json()["state"] == "open"
    body = {"name": "x", "upload_id": begun["id"]}
    assert issue_codes(client.post("/v1/datasets", json=body)) == {"/upload_id": "not_complete"}
    client.put(begun["parts"][0]["url"], content=b"right").raise_for_status()
    assert client.post(f"{own}/complete").json()["state"] == "complete"


def test_missing_parts_are_named(client: httpx.Client) -> None:
    begun = begin(client, bytes(3 * PART))
    client.put(begun["parts"][1]["url"], content=bytes(PART)).raise_for_status()
    answer = client.post(f"/v1/uploads/{begun['id']}/complete")
    assert assert_problem(answer, 422)["errors"][0]["detail"].endswith(": 1, 3")


@pytest.mark.parametrize("size", [0, 9, 11, 3 * 2**20])
def test_a_part_of_the_wrong_size_is_refused_and_not_kept(client: httpx.Client, size: int) -> None:
    before = {entry.key for entry in object_store.list_objects()}
    begun = begin(client, bytes(10))
    part = begun["parts"][0]["url"]
    assert_problem(client.put(part, content=bytes(size)), 422, "wrong_part_size")
    assert_problem(client.put(part, content=iter([bytes(size)])), 422, "wrong_part_size")
    assert not client.get(f"/v1/uploads/{begun['id']}").json()["parts"][0]["received"]
    assert {entry.key for entry in object_store.list_objects()} == before
    assert client.put(part, content=bytes(10)).status_code == 200


@pytest.mark.parametrize("number", ["0", "2", "-1", "99999999999999999999"])
def test_there_is_no_part_beyond_the_last(client: httpx.Client, number: str) -> None:
    begun = begin(client, b"x")
    answer = client.put(f"/v1/uploads/{begun['id']}/parts/{number}", content=b"x")
    assert_problem(answer, 404)


def test_an_upload_that_is_given_up_leaves_nothing(client: httpx.Client) -> None:
    begun = begin(client, b"x")
    client.put(begun["parts"][0]["url"], content=b"x").raise_for_status()
    with transaction() as session:
        (key,) = [part.object_key for part in session.get_one(Upload, begun["id"]).parts]
    assert object_store.exists(key)
    own = f"/v1/uploads/{begun['id']}"
    assert client.delete(own).status_code == 204
    assert_problem(client.get(own), 404)
    assert not object_store.exists(key)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"size_bytes": 0}, 422),
        ({"size_bytes": -1}, 422),
        ({"size_bytes": 2**70}, 422),
        ({"size_bytes": 2**40}, 413),
        ({"sha256": "0" * 63}, 422),
        ({"sha256": "g" * 64}, 422),
        ({"filename": ""}, 422),
    ],
    ids=str,
)
def test_an_impossible_upload_is_refused(client: httpx.Client, changes: Json, status: int) -> None:
    body = {"filename": "x", "size_bytes": 1, "sha256": "0" * 64} | changes
    assert_problem(client.post("/v1/uploads", json=body), status)


def test_a_name_is_never_a_path(client: httpx.Client) -> None:
    before = {entry.key for entry in object_store.list_objects()}
    begun = begin(client, b"x", filename="../../../etc/passwd")
    client.put(begun["parts"][0]["url"], content=b"x").raise_for_status()
    (new,) = {entry.key for entry in object_store.list_objects()} - before
    assert "passwd" not in new
    assert upload(client, b"y")
