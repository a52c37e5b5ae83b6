"""Malformed bodies and queries are rejected and never cause a 500."""

import json
import random
import socket
import string
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.operations import fill_path, operations
from tests.helpers import assert_problem, issue_codes, job_body, submit_job

Json = dict[str, Any]
JSON = {"Content-Type": "application/json"}

UNREADABLE = {
    "nan": b'{"seed": NaN}',
    "infinity": b'{"seed": -Infinity}',
    "too_large_a_number": b'{"label_weight": 1e999}',
    "surrogate": b'{"name": "\\ud800"}',
    "surrogate_name": b'{"\\udc00": 1}',
    "deep_lists": b"[" * 20_000 + b"]" * 20_000,
    "deep_objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "deep_inside": b'{"labels": ' + b'{"a":' * 20_000 + b"1" + b"}" * 20_001,
    "rubbish": b"\x00\xff\xfe rubbish",
    "half": b'{"name": "x"',
    "two": b"{} {}",
    "bytes": b'{"name": "\xff\xfe"}',
    "line_feed": b'{"name": "a\nb"}',
    "long_number": b'{"seed": ' + b"9" * 5000 + b"}",
    "only_a_byte_order_mark": b"\xef\xbb\xbf",
    "two_byte_order_marks": b"\xef\xbb\xbf\xef\xbb\xbf{}",
    "empty": b"",
    "blank": b"  \n",
    "null": b"null",
    "utf16": '{"name": "x"}'.encode("utf-16"),
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_unreadable_body_is_rejected(client: httpx.Client, body: bytes) -> None:
    for path in ("jobs", "datasets", "models", "uploads", "projects"):
        response = client.post(f"/v1/{path}", content=body, headers=JSON)
        assert assert_problem(response, response.status_code)["status"] in (400, 422), response.text


def test_byte_order_mark_is_skipped(client: httpx.Client) -> None:
    """PowerShell and some editors write one."""
    body = b'\xef\xbb\xbf{"filename": "a", "size_bytes": 1, "sha256": "' + b"0" * 64 + b'"}'
    assert client.post("/v1/uploads", content=body, headers=JSON).status_code == 201


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf16_is_named(client: httpx.Client, encoding: str) -> None:
    body = ("" if encoding == "utf-16" else "\ufeff") + '{"name": "x"}'
    response = client.post("/v1/jobs", content=body.encode(encoding), headers=JSON)
    document = assert_problem(response, 400, "malformed_json")
    assert "UTF-16: send UTF-8" in document["detail"]


def test_malformed_json_is_located(client: httpx.Client) -> None:
    response = client.post("/v1/jobs", content=b'{"seed": NaN}', headers=JSON)
    assert "(character 9)" in assert_problem(response, 400, "malformed_json")["detail"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "x", None])
def test_other_media_type_is_rejected(client: httpx.Client, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    response = client.post("/v1/jobs", content=b'{"name": "x"}', headers=headers)
    assert_problem(response, 415)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.x+json"])
def test_json_media_types_are_accepted(client: httpx.Client, kind: str) -> None:
    codes = issue_codes(client.post("/v1/jobs", content=b"{}", headers={"Content-Type": kind}))
    assert set(codes) == {"/student", "/dataset"}


def test_body_of_100_mb_is_rejected_in_little_memory(
    client: httpx.Client, api_process: Any
) -> None:
    before = _peak_memory(api_process.pid)
    head, size = b'{"name": "', 100 * 2**20

    def body() -> Any:
        yield head
        for _ in range(size // 2**16):
            yield b"x" * 2**16
        yield b'"}'

    for content in (body(), head + b"x" * size + b'"}'):
        assert_problem(
            client.post("/v1/jobs", content=content, headers=JSON), 413, "body_too_large"
        )
    assert _peak_memory(api_process.pid) - before < 64 * 2**20
    assert client.get("/v1/jobs").status_code == 200


def _peak_memory(pid: int) -> int:
    """Peak resident memory of the process in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024


def test_wrong_content_length_causes_no_server_error(api_url: str, tenant: Any) -> None:
    host, port = api_url.removeprefix("http://").split(":")
    for length in (b"-1", b"99999999999999999999", b"x"):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(
                b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Authorization: Bearer " + tenant.key.encode() + b"\r\n"
                b"Content-Length: " + length + b"\r\n\r\n{}"
            )
            connection.shutdown(socket.SHUT_WR)
            assert b" 500 " not in connection.recv(4096)
    assert httpx.get(f"{api_url}/healthz").status_code == 200


NUL_QUERIES = [
    "q",
    "method",
    "architecture",
    "dataset",
    "label",
    "cursor",
    "state",
    "created_after",
]


@pytest.mark.parametrize("name", NUL_QUERIES)
@pytest.mark.parametrize("value", ["%00", "a:%00", "%ff", "%ED%A0%80", "a:%F0", "1" * 30])
def test_odd_query_causes_no_server_error(client: httpx.Client, name: str, value: str) -> None:
    response = client.get(f"/v1/jobs?{name}={value}")
    assert response.status_code in (200, 422), response.text


def test_odd_metric_keys_cause_no_server_error(client: httpx.Client, digits: Json) -> None:
    metrics_url = submit_job(client, digits)["links"]["metrics"]
    for keys in ("%00", "train/loss,%00", "%ff", ",,,"):
        response = client.get(f"{metrics_url}?keys={keys}")
        assert response.status_code in (200, 422), response.text


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "2026-01-01", "1e400"]
)
def test_odd_times_cause_no_server_error(client: httpx.Client, moment: str) -> None:
    response = client.get(f"/v1/jobs?created_after={moment}")
    assert response.status_code in (200, 422), response.text


def test_random_bodies_cause_no_server_error(client: httpx.Client, digits: Json) -> None:
    """A small fuzz with a fixed seed: mutations of valid bodies."""
    chance = random.Random(20261123)
    routes = [(method, path) for method, path in operations() if method in ("POST", "PATCH")]
    assert len(routes) >= 9
    ids = {"job_id": submit_job(client, digits)["id"], "dataset_id": digits["id"]}
    for _ in range(40):
        for method, path in routes:
            address = path
            for name, value in ids.items():
                address = address.replace(f"{{{name}}}", value)
            body = _mutate(chance, VALID.get(path, {}) | {"dataset": digits["id"]})
            response = client.request(method, fill_path(address), json=body)
            assert response.status_code < 500, (method, path, json.dumps(body), response.text)
            if response.status_code >= 400:
                assert_problem(response, response.status_code)


VALID: dict[str, Json] = {
    "/v1/jobs": job_body(
        {"id": "x"},
        method=[{"type": "kd", "temperature": 2}],
        teachers=[{"model": "mdl_x", "weight": 1}],
        labels={"a": "b"},
        accept={"max_size_bytes": 1},
        limits={"wall_s": 1},
        evaluation={"seeds": 2},
        name="x",
    ),
    "/v1/uploads": {"filename": "x", "size_bytes": 10, "sha256": "0" * 64},
    "/v1/datasets": {"name": "x", "upload_id": "upl_x", "split_seed": 1},
    "/v1/models": {
        "name": "x",
        "architecture": "cifar/resnet8",
        "num_classes": 10,
        "upload_id": "upl_x",
        "normalization": {"mean": [0.5] * 3, "std": [0.5] * 3},
        "class_names": ["a"] * 10,
        "input_size": 8,
    },
    "/v1/projects": {"name": "x"},
    "/v1/jobs/{job_id}": {"name": "x", "labels": {"a": "b"}, "priority": 1},
    "/v1/models/{model_id}": {"name": "x", "license": "x"},
}


def _mutate(chance: random.Random, value: Any) -> Any:
    if chance.random() < 0.12:
        return _odd_value(chance)
    if isinstance(value, dict):
        changed = {name: _mutate(chance, item) for name, item in value.items()}
        if chance.random() < 0.15:
            changed[_random_text(chance)] = _odd_value(chance)
        return {name: item for name, item in changed.items() if chance.random() > 0.05}
    if isinstance(value, list):
        return [_mutate(chance, item) for item in value] * chance.choice([1, 1, 1, 0, 3])
    return value


def _odd_value(chance: random.Random) -> Any:
    return chance.choice(
        [
            *(None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63), 1e308, -0.0),
            *(5e-324, 10**25, "", " ", "\0", "é\u2028", "\U0001f600" * 300, "a" * 20_000, [], {}),
            *([[]], [None], {"type": "kd"}, {"type": None}, {"type": []}, ["kd"], "kd", "random"),
            *([{"type": "sgd"}], {"": ""}, {"\0": 1}, {"a": {"b": {}}}, "job_" + "0" * 26),
            _random_text(chance),
        ]
    )


def _random_text(chance: random.Random) -> str:
    alphabet = string.printable + "\0\x7f\u200b\ufeffß漢"
    return "".join(chance.choice(alphabet) for _ in range(chance.randrange(12)))


def test_unknown_path_and_method_are_problems(client: httpx.Client) -> None:
    assert_problem(client.get("/v1/nothing"), 404)
    assert_problem(client.get("/nothing"), 404)
    assert_problem(client.put("/v1/jobs"), 405)
    assert_problem(client.get("/static/nothing.js"), 404)
    assert_problem(client.get("/static/../pyproject.toml"), 404)
    assert_problem(client.get("/static/%2e%2e/pyproject.toml"), 404)


def test_valid_request_id_is_adopted(client: httpx.Client) -> None:
    response = client.get("/v1/nothing", headers={"X-Request-Id": "mine-1"})
    assert assert_problem(response, 404)["request_id"] == "mine-1"
    response = client.get("/v1/nothing", headers={"X-Request-Id": "bad id\t<"})
    assert assert_problem(response, 404)["request_id"].startswith("req_")
