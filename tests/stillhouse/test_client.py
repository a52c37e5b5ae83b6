"""The client: its errors, its retries, its downloads."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from api.jobs.schemas import ArtifactOut
from stillhouse.client import (
    ApiError,
    ArtifactInfo,
    ChecksumError,
    Client,
    ResourceFailedError,
    ServiceUnreachableError,
    StillhouseError,
)
from stillhouse.commands.demo import DemoError
from stillhouse.local.errors import LocalStackError, PortTakenError
from tests.conftest import TrainedJob


class _UnavailableOnce(BaseHTTPRequestHandler):
    """Responds with 503 to the first request, then with the idempotency keys of all requests."""

    keys: list[str | None]

    def do_POST(self) -> None:
        self.keys.append(self.headers["Idempotency-Key"])
        body = b'{"keys": %d}' % len(set(self.keys))
        self.send_response(503 if len(self.keys) == 1 else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Write nothing to standard error."""


@pytest.fixture
def unavailable_once_url() -> Iterator[str]:
    handler = type("Handler", (_UnavailableOnce,), {"keys": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_artifact_has_the_fields_of_the_api() -> None:
    """The client imports no server, so that it writes the fields down again."""
    assert ArtifactInfo.__annotations__.keys() | {"object"} == ArtifactOut.model_fields.keys()


def test_every_error_has_one_root() -> None:
    errors = (ApiError, ServiceUnreachableError, ResourceFailedError, ChecksumError, DemoError)
    for error in (*errors, LocalStackError, PortTakenError):
        assert issubclass(error, StillhouseError)


def test_failed_resource_lists_twenty_items_and_a_count() -> None:
    items = [{"name": f"{number}.png", "detail": "is empty"} for number in range(1000)]
    error = {"message": "1005 parts cannot be used", "hint": None, "items": items}
    resource = {"object": "dataset", "id": "ds_1", "state": "failed", "error": error}
    lines = str(ResourceFailedError(resource | {"error": error | {"num_items": 1005}})).splitlines()
    assert lines[0] == "dataset ds_1 is failed: 1005 parts cannot be used"
    assert lines[-2:] == ["  19.png: is empty", "  and 985 more"]
    assert len(lines) == 22


def test_failed_job_has_its_fix_in_the_message() -> None:
    fix = [{"op": "add", "path": "/teachers/0/class_map", "value": [1, 0]}]
    error = {"message": "m", "hint": "set the class_map of fix", "items": [], "fix": fix}
    resource = {"object": "job", "id": "job_1", "state": "failed"}
    failure = ResourceFailedError(resource | {"error": error | {"likely_class_order": [1, 0]}})
    assert str(failure).splitlines() == [
        "job job_1 is failed: m",
        "  hint: set the class_map of fix",
        '  fix: [{"op": "add", "path": "/teachers/0/class_map", "value": [1, 0]}]',
        "  likely_class_order: [1, 0]",
    ]


def test_connection_failure_is_a_stillhouse_error(tmp_path: Path) -> None:
    links = {"content": "/v1/artifacts/art_x/content"}
    artifact = ArtifactInfo(
        id="art_x",
        job="job_x",
        name="student.safetensors",
        format="safetensors",
        media_type="application/octet-stream",
        size_bytes=1,
        sha256="0",
        created_at="2026-01-01T00:00:00Z",
        links=links,
    )
    with Client("http://127.0.0.1:9", "key") as client:
        with pytest.raises(ServiceUnreachableError, match="cannot be reached"):
            client.get("/v1/jobs")
        with pytest.raises(ServiceUnreachableError):
            client.download(artifact, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_refused_request_lists_every_issue(trained_job: TrainedJob, api_url: str) -> None:
    key = trained_job.client.headers["authorization"].removeprefix("Bearer ")
    with Client(api_url, key) as client, pytest.raises(ApiError) as caught:
        client.post("/v1/jobs", {"student": {"architecture": "nothing"}})
    assert caught.value.status == 422
    assert "/student/architecture: " in str(caught.value)
    assert "/dataset: " in str(caught.value)


def test_post_is_retried_with_one_idempotency_key(unavailable_once_url: str) -> None:
    with Client(unavailable_once_url, "key") as client:
        assert client.post("/v1/jobs", {}) == {"keys": 1}


def test_report_and_download_of_a_finished_job(
    trained_job: TrainedJob, api_url: str, tmp_path: Path
) -> None:
    key = trained_job.client.headers["authorization"].removeprefix("Bearer ")
    with Client(api_url, key) as client:
        report = client.report(trained_job.job)
        path = client.fetch(trained_job.job, "student.safetensors", tmp_path)
        artifacts = {artifact["name"]: artifact for artifact in client.artifacts(trained_job.job)}
        damaged = artifacts["student.safetensors"]
        damaged["sha256"] = "0" * 64
        with pytest.raises(ChecksumError, match=r"student\.safetensors was damaged"):
            client.download(damaged, tmp_path / "..")
    assert report.student.top1 == trained_job.job["result"]["student_top1"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == trained_job.artifact["sha256"]
    assert not list(tmp_path.glob("**/.*.part"))
