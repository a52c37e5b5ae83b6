"""Uploads arrive in parts and are verified as one file."""

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


def create_upload(client: httpx.Client, data: bytes, **changes: Any) -> Json:
    digest = hashlib.sha256(data).hexdigest()
    body = {"filename": "x", "size_bytes": len(data), "sha256": digest} | changes
    new_upload: Json = client.post("/v1/uploads", json=body).raise_for_status().json()
    return new_upload


def test_new_upload_has_an_address(client: httpx.Client) -> None:
    body = {"filename": "x", "size_bytes": 1, "sha256": "0" * 64}
    response = client.post("/v1/uploads", json=body)
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/uploads/{response.json()['id']}"


def test_digest_in_capitals_is_a_digest(client: httpx.Client) -> None:
    new_upload = create_upload(client, b"x", sha256=hashlib.sha256(b"x").hexdigest().upper())
    assert new_upload["sha256"] == hashlib.sha256(b"x").hexdigest()
    url = f"/v1/uploads/{new_upload['id']}"
    client.put(new_upload["parts"][0]["url"], content=b"x").raise_for_status()
    assert client.post(f"{url}/complete").json()["state"] == "complete"
    body = {"filename": "x", "size_bytes": 1, "sha256": "0" * 63}
    response = client.post("/v1/uploads", json=body)
    assert issue_codes(response) == {"/sha256": "invalid_sha256"}
    assert response.json()["errors"][0]["detail"] == "must be a SHA-256: 64 hexadecimal digits"


def test_upload_is_complete_with_all_parts(client: httpx.Client) -> None:
    data = b"".join(bytes([number % 256]) * 1000 for number in range(150))
    new_upload = create_upload(client, data)
    upload_url = f"/v1/uploads/{new_upload['id']}"
    assert [part["size_bytes"] for part in new_upload["parts"]] == [
        PART,
        PART,
        len(data) - 2 * PART,
    ]
    for part in reversed(new_upload["parts"]):  # in any order, and repeatedly
        start = (part["number"] - 1) * PART
        for piece in (bytes(part["size_bytes"]), data[start : start + PART]):
            client.put(part["url"], content=piece).raise_for_status()
    assert all(part["received"] for part in client.get(upload_url).json()["parts"])
    for _ in range(2):
        response = client.post(f"{upload_url}/complete")
        assert (response.status_code, response.json()["state"]) == (200, "complete")
    assert_problem(client.put(new_upload["parts"][0]["url"], content=data[:PART]), 409)
    client.post(
        "/v1/datasets", json={"name": "x", "upload_id": new_upload["id"]}
    ).raise_for_status()
    assert_problem(client.delete(upload_url), 409)


def test_unused_complete_upload_can_be_deleted(client: httpx.Client) -> None:
    new_upload = create_upload(client, b"sent by mistake")
    client.put(new_upload["parts"][0]["url"], content=b"sent by mistake").raise_for_status()
    client.post(f"/v1/uploads/{new_upload['id']}/complete").raise_for_status()
    assert client.delete(f"/v1/uploads/{new_upload['id']}").status_code == 204
    assert_problem(client.get(f"/v1/uploads/{new_upload['id']}"), 404)


def test_upload_stays_open_after_a_wrong_digest(client: httpx.Client) -> None:
    new_upload = create_upload(client, b"right")
    upload_url = f"/v1/uploads/{new_upload['id']}"
    client.put(new_upload["parts"][0]["url"], content=b"wrong").raise_for_status()
    assert issue_codes(client.post(f"{upload_url}/complete")) == {"/sha256": "sha256_mismatch"}
    assert client.get(upload_url).json()["state"] == "open"
    body = {"name": "x", "upload_id": new_upload["id"]}
    assert issue_codes(client.post("/v1/datasets", json=body)) == {"/upload_id": "not_complete"}
    client.put(new_upload["parts"][0]["url"], content=b"right").raise_for_status()
    assert client.post(f"{upload_url}/complete").json()["state"] == "complete"


def test_missing_parts_are_listed(client: httpx.Client) -> None:
    new_upload = create_upload(client, bytes(3 * PART))
    client.put(new_upload["parts"][1]["url"], content=bytes(PART)).raise_for_status()
    response = client.post(f"/v1/uploads/{new_upload['id']}/complete")
    assert assert_problem(response, 422)["errors"][0]["detail"].endswith(": 1, 3")


@pytest.mark.parametrize("size", [0, 9, 11, 3 * 2**20])
def test_part_of_wrong_size_is_rejected_and_not_stored(client: httpx.Client, size: int) -> None:
    before = {entry.key for entry in object_store.list_objects()}
    new_upload = create_upload(client, bytes(10))
    part = new_upload["parts"][0]["url"]
    assert_problem(client.put(part, content=bytes(size)), 422, "wrong_part_size")
    assert_problem(client.put(part, content=iter([bytes(size)])), 422, "wrong_part_size")
    assert not client.get(f"/v1/uploads/{new_upload['id']}").json()["parts"][0]["received"]
    assert {entry.key for entry in object_store.list_objects()} == before
    assert client.put(part, content=bytes(10)).status_code == 200


@pytest.mark.parametrize("number", ["0", "2", "-1", "99999999999999999999"])
def test_part_beyond_the_last_is_not_found(client: httpx.Client, number: str) -> None:
    new_upload = create_upload(client, b"x")
    response = client.put(f"/v1/uploads/{new_upload['id']}/parts/{number}", content=b"x")
    assert_problem(response, 404)


def test_deleted_upload_leaves_no_bytes(client: httpx.Client) -> None:
    new_upload = create_upload(client, b"x")
    client.put(new_upload["parts"][0]["url"], content=b"x").raise_for_status()
    with transaction() as session:
        (key,) = [part.object_key for part in session.get_one(Upload, new_upload["id"]).parts]
    assert object_store.exists(key)
    upload_url = f"/v1/uploads/{new_upload['id']}"
    assert client.delete(upload_url).status_code == 204
    assert_problem(client.get(upload_url), 404)
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
def test_invalid_upload_is_rejected(client: httpx.Client, changes: Json, status: int) -> None:
    body = {"filename": "x", "size_bytes": 1, "sha256": "0" * 64} | changes
    assert_problem(client.post("/v1/uploads", json=body), status)


def test_file_name_is_never_a_path(client: httpx.Client) -> None:
    before = {entry.key for entry in object_store.list_objects()}
    new_upload = create_upload(client, b"x", filename="../../../etc/passwd")
    client.put(new_upload["parts"][0]["url"], content=b"x").raise_for_status()
    (new,) = {entry.key for entry in object_store.list_objects()} - before
    assert "passwd" not in new
    assert upload(client, b"y")
