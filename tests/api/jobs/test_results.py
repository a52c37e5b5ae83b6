"""Results of a finished job: report, curves, events, files and their bytes."""

import hashlib
import json
from typing import Any

import httpx
import pytest

from tests.helpers import assert_problem, list_pages

Json = dict[str, Any]


def test_succeeded_job_has_a_result(trained_job: Any) -> None:
    job = trained_job.job
    assert (job["state"], job["error"], job["run"]) == ("succeeded", None, 1)
    assert job["progress"]["fraction"] == 1
    assert job["result"]["student_top1"] is not None
    assert job["usage"]["device_s"] > 0
    assert (job["queue_position"], job["waiting_reason"]) == (None, None)


def test_report_has_all_parts(trained_job: Any) -> None:
    report = trained_job.client.get(f"/v1/jobs/{trained_job.job['id']}/report").json()
    assert {"student", "teacher", "baseline", "verdict", "seeds"} <= set(report)
    assert (report["teacher"], report["baseline"]) == (None, None)
    fields = {"top1", "top5", "agreement", "kl_to_teacher", "ece", "num_params", "macs"}
    assert fields | {"size_bytes", "latency_ms", "images_per_s"} <= set(report["student"])
    assert {"p50", "p95"} <= set(report["student"]["latency_ms"])
    assert report["student"]["size_bytes"] == trained_job.artifact["size_bytes"]


def test_run_is_listed(trained_job: Any) -> None:
    (run,) = trained_job.client.get(f"/v1/jobs/{trained_job.job['id']}/runs").json()["data"]
    assert (run["number"], run["exit"], run["resumed_from_step"]) == (1, "done", None)
    assert run["device"]
    assert run["started_at"] < run["ended_at"]


@pytest.mark.parametrize("axis", ["step", "epoch", "wall_s"])
def test_curves_are_columns_along_the_requested_axis(trained_job: Any, axis: str) -> None:
    address = f"/v1/jobs/{trained_job.job['id']}/metrics"
    data = trained_job.client.get(address, params={"x": axis}).json()["data"]
    assert {"train/loss", "val/top1"} <= set(data)
    for column in data.values():
        assert set(column) == {axis, "value"}
        assert len(column[axis]) == len(column["value"]) > 0
        assert column[axis] == sorted(column[axis])
    query = {"x": axis, "keys": "val/top1,no/such"}
    curves = trained_job.client.get(address, params=query).json()
    assert set(curves["data"]) == set(curves["num_points"]) == {"val/top1"}
    thin = trained_job.client.get(
        address, params=query | {"keys": "train/loss", "max_points": 2}
    ).json()
    assert len(thin["data"]["train/loss"]["value"]) == 2 < thin["num_points"]["train/loss"]


def test_logs_are_text(trained_job: Any) -> None:
    response = trained_job.client.get(f"/v1/jobs/{trained_job.job['id']}/logs")
    assert response.headers["content-type"].startswith("text/plain")


def test_job_has_one_safetensors_artifact(trained_job: Any) -> None:
    artifacts = trained_job.client.get(f"/v1/jobs/{trained_job.job['id']}/artifacts").json()["data"]
    students = [artifact for artifact in artifacts if artifact["format"] == "safetensors"]
    assert [artifact["name"] for artifact in students] == ["student.safetensors"]
    fields = {"id", "name", "format", "media_type", "size_bytes", "sha256", "created_at"}
    for artifact in artifacts:
        assert fields <= set(artifact)
        assert trained_job.client.get(f"/v1/artifacts/{artifact['id']}").json() == artifact
        content = trained_job.client.get(artifact["links"]["content"]).content
        assert len(content) == artifact["size_bytes"]
        assert hashlib.sha256(content).hexdigest() == artifact["sha256"]


def test_student_is_the_artifact(trained_job: Any) -> None:
    artifact = trained_job.artifact
    assert hashlib.sha256(trained_job.student).hexdigest() == artifact["sha256"]
    assert trained_job.client.get(artifact["links"]["content"]).content == trained_job.student


@pytest.fixture
def download(trained_job: Any) -> Any:
    def get(**headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response: httpx.Response = trained_job.client.get(
            trained_job.artifact["links"]["content"], headers=named
        )
        return response

    return get


def test_ranges_are_parts_of_the_file(trained_job: Any, download: Any) -> None:
    student, size = trained_job.student, len(trained_job.student)
    for sent, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=5-99", 5, 100),
        ("bytes=100-", 100, size),
        ("bytes=-7", size - 7, size),
        (f"bytes=-{10 * size}", 0, size),
        (f"bytes={size - 1}-{10**18}", size - 1, size),
    ):
        part = download(Range=sent)
        assert part.status_code == 206, sent
        assert part.content == student[start:end]
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert part.headers["content-length"] == str(end - start)
    for sent in (f"bytes={size}-", f"bytes={size}-{size + 5}", "bytes=-0"):
        beyond = download(Range=sent)
        assert_problem(beyond, 416)
        assert beyond.headers["content-range"] == f"bytes */{size}"
    for sent in ("bytes=9-5", "bytes=0-1,3-4", "lines=0-1", "bytes=", "bytes=-", "bytes=a-b"):
        response = download(Range=sent)
        assert (response.status_code, response.content == student) == (200, True), sent


def test_if_range_requires_the_current_tag(trained_job: Any, download: Any) -> None:
    tag = download().headers["etag"]
    assert tag == f'"{trained_job.artifact["sha256"]}"'
    assert download(Range="bytes=0-9", If_Range=tag).status_code == 206
    assert download(Range="bytes=0-9", If_Range='"other"').status_code == 200
    assert download(Range="bytes=0-9", If_Range=f"W/{tag}").status_code == 200


def test_if_none_match_skips_known_bytes(trained_job: Any, download: Any) -> None:
    tag = download().headers["etag"]
    for sent in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        response = download(If_None_Match=sent)
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == tag
    assert download(If_None_Match='"x"').status_code == 200


def test_head_of_a_file_has_its_headers_without_its_bytes(
    trained_job: Any, trained_model: Json
) -> None:
    client, size = trained_job.client, trained_job.artifact["size_bytes"]
    for path in (
        trained_job.artifact["links"]["content"],
        f"/v1/jobs/{trained_job.job['id']}/student",
        trained_model["links"]["weights"],
    ):
        response = client.head(path)
        assert (response.status_code, response.content) == (200, b""), path
        assert response.headers["content-length"] == str(size)
        assert response.headers["etag"] == f'"{trained_job.artifact["sha256"]}"'
        assert response.headers["accept-ranges"] == "bytes"
        part = client.head(path, headers={"Range": "bytes=0-9"})
        assert (part.status_code, part.headers["content-range"]) == (206, f"bytes 0-9/{size}")
        assert client.get(path).content == trained_job.student


def test_model_of_a_job_has_the_same_bytes(trained_job: Any, trained_model: Json) -> None:
    assert trained_model["state"] == "ready"
    assert trained_model["sha256"] == trained_job.artifact["sha256"]
    assert trained_model["architecture"] == "cifar/resnet8"
    assert trained_model["num_classes"] == 10
    weights = trained_job.client.get(trained_model["links"]["weights"])
    assert weights.content == trained_job.student


def test_model_of_a_job_takes_no_other_field(trained_job: Any) -> None:
    body = {"name": "x", "source": f"job:{trained_job.job['id']}", "num_classes": 3}
    issues = assert_problem(trained_job.client.post("/v1/models", json=body), 422)["errors"]
    assert "num_classes" in issues[0]["detail"]


def test_labels_and_license_of_a_model_can_change(trained_job: Any, trained_model: Json) -> None:
    model_url = trained_model["links"]["self"]
    tag = trained_job.client.get(model_url).headers["etag"]
    change = {"labels": {"a": "b"}, "license": "CC0-1.0"}
    response = trained_job.client.patch(model_url, json=change, headers={"If-Match": tag})
    assert change.items() <= response.json().items()
    assert_problem(trained_job.client.patch(model_url, json=change, headers={"If-Match": tag}), 412)


class EventStream:
    """The frames of an event stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.media_type = response.headers["content-type"].partition(";")[0]
        self.frames = [
            dict(line.split(": ", 1) for line in frame.splitlines() if not line.startswith(":"))
            for frame in response.text.split("\n\n")
            if frame and not frame.startswith(":")
        ]

    @property
    def names(self) -> list[str]:
        return [frame["event"] for frame in self.frames if "event" in frame]

    @property
    def ids(self) -> list[int]:
        return [int(frame["id"]) for frame in self.frames if "id" in frame]


def read_stream(client: httpx.Client, address: str, **headers: str) -> EventStream:
    sent = {"Accept": "text/event-stream"} | headers
    return EventStream(client.get(address, headers=sent).raise_for_status())


@pytest.fixture
def all_events(trained_job: Any) -> list[Json]:
    address = f"/v1/jobs/{trained_job.job['id']}/events"
    return [event for page in list_pages(trained_job.client, address, limit=20) for event in page]


def test_checkpoint_can_be_downloaded(trained_job: Any) -> None:
    assert trained_job.checkpoints
    for checkpoint in trained_job.checkpoints:
        response = trained_job.client.get(checkpoint["links"]["content"]).raise_for_status()
        assert hashlib.sha256(response.content).hexdigest() == checkpoint["sha256"]
        assert len(response.content) == checkpoint["size_bytes"]
        assert checkpoint["name"] in response.headers["content-disposition"]


def test_events_are_listed_in_order_after_an_id(trained_job: Any, all_events: list[Json]) -> None:
    assert [event["id"] for event in all_events] == list(range(1, len(all_events) + 1))
    kinds = {event["type"] for event in all_events}
    assert {"state", "phase", "metrics", "artifact", "report"} <= kinds
    address = f"/v1/jobs/{trained_job.job['id']}/events"
    for after in (0, 3, len(all_events)):
        page = trained_job.client.get(address, params={"after": after, "limit": 200}).json()
        assert page["data"] == [event for event in all_events if event["id"] > after][:200]
    events = [
        event
        for page in list_pages(trained_job.client, address, after=2, limit=7)
        for event in page
    ]
    assert events == all_events[2:]
    assert trained_job.client.get(trained_job.job["links"]["self"]).json()["last_event"] == len(
        all_events
    )


def test_events_are_filtered_by_type(trained_job: Any, all_events: list[Json]) -> None:
    address = f"/v1/jobs/{trained_job.job['id']}/events"
    query = {"type": ["state", "phase"], "after": 1, "limit": 200}
    expected = [event for event in all_events[1:] if event["type"] in query["type"]]
    assert trained_job.client.get(address, params=query).json()["data"] == expected != []


def test_stream_of_a_finished_job_replays_and_ends(
    trained_job: Any, all_events: list[Json]
) -> None:
    stream = read_stream(trained_job.client, f"/v1/jobs/{trained_job.job['id']}/events")
    assert stream.media_type == "text/event-stream"
    assert stream.names[0] == "snapshot"
    assert stream.names[-1] == "stream.end"
    assert stream.ids == [event["id"] for event in all_events]
    data = [json.loads(frame["data"]) for frame in stream.frames if "id" in frame]
    assert data == all_events
    snapshot = next(frame for frame in stream.frames if frame.get("event") == "snapshot")
    assert json.loads(snapshot["data"])["id"] == trained_job.job["id"]
    assert "id" not in snapshot
    assert json.loads(stream.frames[-1]["data"])["state"] == "succeeded"


def test_stream_resumes_after_the_last_event(trained_job: Any, all_events: list[Json]) -> None:
    address = f"/v1/jobs/{trained_job.job['id']}/events"
    for last in (1, 5, len(all_events)):
        stream = read_stream(trained_job.client, address, **{"Last-Event-ID": str(last)})
        assert stream.ids == list(range(last + 1, len(all_events) + 1))
        assert (stream.names[0], stream.names[-1]) == ("snapshot", "stream.end")
    stream = read_stream(trained_job.client, f"{address}?after=4")
    assert stream.ids[0] == 5
    for odd in ("x", "-1", "1.5", "9" * 30):
        sent = {"Accept": "text/event-stream", "Last-Event-ID": odd}
        assert_problem(trained_job.client.get(address, headers=sent), 400)
