"""What a finished job leaves behind: report, curves, events, files and their bytes."""

import hashlib
import json
from typing import Any

import httpx
import pytest

from tests.helpers import assert_problem, list_pages

Json = dict[str, Any]


def test_the_job_ends_with_a_result(trained_job: Any) -> None:
    job = trained_job.job
    assert (job["state"], job["error"], job["run"]) == ("succeeded", None, 1)
    assert job["progress"]["fraction"] == 1
    assert job["result"]["student_top1"] is not None
    assert job["usage"]["device_s"] > 0
    assert (job["queue_position"], job["waiting_reason"]) == (None, None)


def test_the_report_has_its_parts(trained_job: Any) -> None:
    report = trained_job.client.get(f"/v1/jobs/{trained_job.job['id']}/report").json()
    assert {"student", "teacher", "baseline", "verdict", "seeds"} <= set(report)
    assert (report["teacher"], report["baseline"]) == (None, None)
    wanted = {"top1", "top5", "agreement", "kl_to_teacher", "ece", "num_params", "macs"}
    assert wanted | {"size_bytes", "latency_ms", "images_per_s"} <= set(report["student"])
    assert {"p50", "p95"} <= set(report["student"]["latency_ms"])
    assert report["student"]["size_bytes"] == trained_job.artifact["size_bytes"]


def test_the_run_is_told(trained_job: Any) -> None:
    (run,) = trained_job.client.get(f"/v1/jobs/{trained_job.job['id']}/runs").json()["data"]
    assert (run["number"], run["exit"], run["resumed_from_step"]) == (1, "done", None)
    assert run["device"]
    assert run["started_at"] < run["ended_at"]


@pytest.mark.parametrize("axis", ["step", "epoch", "wall_s"])
def test_curves_are_columns_over_the_axis_asked_for(trained_job: Any, axis: str) -> None:
    address = f"/v1/jobs/{trained_job.job['id']}/metrics"
    data = trained_job.client.get(address, params={"x": axis}).json()["data"]
    assert {"train/loss", "val/top1"} <= set(data)
    for column in data.values():
        assert set(column) == {axis, "value"}
        assert len(column[axis]) == len(column["value"]) > 0
        assert column[axis] == sorted(column[axis])
    query = {"x": axis, "keys": "val/top1,no/such"}
    found = trained_job.client.get(address, params=query).json()
    assert set(found["data"]) == set(found["num_points"]) == {"val/top1"}
    thin = trained_job.client.get(
        address, params=query | {"keys": "train/loss", "max_points": 2}
    ).json()
    assert len(thin["data"]["train/loss"]["value"]) == 2 < thin["num_points"]["train/loss"]


def test_the_logs_are_text(trained_job: Any) -> None:
    answer = trained_job.client.get(f"/v1/jobs/{trained_job.job['id']}/logs")
    assert answer.headers["content-type"].startswith("text/plain")


def test_there_is_one_safetensors_artifact(trained_job: Any) -> None:
    listed = trained_job.client.get(f"/v1/jobs/{trained_job.job['id']}/artifacts").json()["data"]
    students = [each for each in listed if each["format"] == "safetensors"]
    assert [each["name"] for each in students] == ["student.safetensors"]
    wanted = {"id", "name", "format", "media_type", "size_bytes", "sha256", "created_at"}
    for each in listed:
        assert wanted <= set(each)
        assert trained_job.client.get(f"/v1/artifacts/{each['id']}").json() == each
        content = trained_job.client.get(each["links"]["content"]).content
        assert len(content) == each["size_bytes"]
        assert hashlib.sha256(content).hexdigest() == each["sha256"]


def test_the_student_is_the_artifact(trained_job: Any) -> None:
    artifact = trained_job.artifact
    assert hashlib.sha256(trained_job.student).hexdigest() == artifact["sha256"]
    assert trained_job.client.get(artifact["links"]["content"]).content == trained_job.student


@pytest.fixture
def fetch(trained_job: Any) -> Any:
    def get(**headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer: httpx.Response = trained_job.client.get(
            trained_job.artifact["links"]["content"], headers=named
        )
        return answer

    return get


def test_ranges_are_parts_of_the_whole(trained_job: Any, fetch: Any) -> None:
    whole, size = trained_job.student, len(trained_job.student)
    for sent, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=5-99", 5, 100),
        ("bytes=100-", 100, size),
        ("bytes=-7", size - 7, size),
        (f"bytes=-{10 * size}", 0, size),
        (f"bytes={size - 1}-{10**18}", size - 1, size),
    ):
        part = fetch(Range=sent)
        assert part.status_code == 206, sent
        assert part.content == whole[start:end]
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert part.headers["content-length"] == str(end - start)
    for sent in (f"bytes={size}-", f"bytes={size}-{size + 5}", "bytes=-0"):
        beyond = fetch(Range=sent)
        assert_problem(beyond, 416)
        assert beyond.headers["content-range"] == f"bytes */{size}"
    for sent in ("bytes=9-5", "bytes=0-1,3-4", "lines=0-1", "bytes=", "bytes=-", "bytes=a-b"):
        answer = fetch(Range=sent)
        assert (answer.status_code, answer.content == whole) == (200, True), sent


def test_a_part_is_sent_only_of_the_bytes_that_the_client_knows(
    trained_job: Any, fetch: Any
) -> None:
    tag = fetch().headers["etag"]
    assert tag == f'"{trained_job.artifact["sha256"]}"'
    assert fetch(Range="bytes=0-9", If_Range=tag).status_code == 206
    assert fetch(Range="bytes=0-9", If_Range='"other"').status_code == 200
    assert fetch(Range="bytes=0-9", If_Range=f"W/{tag}").status_code == 200


def test_bytes_that_the_client_has_are_not_sent_again(trained_job: Any, fetch: Any) -> None:
    tag = fetch().headers["etag"]
    for sent in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = fetch(If_None_Match=sent)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
    assert fetch(If_None_Match='"x"').status_code == 200


def test_a_head_is_no_error_of_ours(trained_job: Any) -> None:
    for path in ("content", "self"):
        assert trained_job.client.head(trained_job.artifact["links"][path]).status_code in (
            200,
            405,
        )


def test_the_model_of_the_job_has_the_same_bytes(trained_job: Any, trained_model: Json) -> None:
    assert trained_model["state"] == "ready"
    assert trained_model["sha256"] == trained_job.artifact["sha256"]
    assert trained_model["architecture"] == "cifar/resnet8"
    assert trained_model["num_classes"] == 10
    weights = trained_job.client.get(trained_model["links"]["weights"])
    assert weights.content == trained_job.student


def test_all_else_is_taken_from_the_job(trained_job: Any) -> None:
    body = {"name": "x", "source": f"job:{trained_job.job['id']}", "num_classes": 3}
    found = assert_problem(trained_job.client.post("/v1/models", json=body), 422)["errors"]
    assert "num_classes" in found[0]["detail"]


def test_a_models_name_and_labels_can_be_changed(trained_job: Any, trained_model: Json) -> None:
    own = trained_model["links"]["self"]
    tag = trained_job.client.get(own).headers["etag"]
    change = {"labels": {"a": "b"}, "license": "CC0-1.0"}
    answer = trained_job.client.patch(own, json=change, headers={"If-Match": tag})
    assert change.items() <= answer.json().items()
    assert_problem(trained_job.client.patch(own, json=change, headers={"If-Match": tag}), 412)


class Stream:
    """Frames of an event stream."""

    def __init__(self, text: str) -> None:
        self.frames = [
            dict(line.split(": ", 1) for line in frame.splitlines() if not line.startswith(":"))
            for frame in text.split("\n\n")
            if frame and not frame.startswith(":")
        ]

    @property
    def names(self) -> list[str]:
        return [frame["event"] for frame in self.frames if "event" in frame]

    @property
    def ids(self) -> list[int]:
        return [int(frame["id"]) for frame in self.frames if "id" in frame]


def stream(client: httpx.Client, address: str, **headers: str) -> Stream:
    sent = {"Accept": "text/event-stream"} | headers
    answer = client.get(address, headers=sent).raise_for_status()
    assert answer.headers["content-type"].startswith("text/event-stream")
    return Stream(answer.text)


@pytest.fixture
def listed(trained_job: Any) -> list[Json]:
    address = f"/v1/jobs/{trained_job.job['id']}/events"
    return [event for page in list_pages(trained_job.client, address, limit=20) for event in page]


def test_a_checkpoint_can_be_taken_home(trained_job: Any) -> None:
    assert trained_job.checkpoints
    for checkpoint in trained_job.checkpoints:
        answer = trained_job.client.get(checkpoint["links"]["content"]).raise_for_status()
        assert hashlib.sha256(answer.content).hexdigest() == checkpoint["sha256"]
        assert len(answer.content) == checkpoint["size_bytes"]
        assert checkpoint["name"] in answer.headers["content-disposition"]


def test_events_are_listed_in_order_and_after_one(trained_job: Any, listed: list[Json]) -> None:
    assert [event["id"] for event in listed] == list(range(1, len(listed) + 1))
    kinds = {event["type"] for event in listed}
    assert {"state", "phase", "metrics", "artifact", "report"} <= kinds
    address = f"/v1/jobs/{trained_job.job['id']}/events"
    for after in (0, 3, len(listed)):
        page = trained_job.client.get(address, params={"after": after, "limit": 200}).json()
        assert page["data"] == [event for event in listed if event["id"] > after][:200]
    found = [
        each for page in list_pages(trained_job.client, address, after=2, limit=7) for each in page
    ]
    assert found == listed[2:]
    assert trained_job.client.get(trained_job.job["links"]["self"]).json()["last_event"] == len(
        listed
    )


def test_events_can_be_had_of_some_types_alone(trained_job: Any, listed: list[Json]) -> None:
    address = f"/v1/jobs/{trained_job.job['id']}/events"
    query = {"type": ["state", "phase"], "after": 1, "limit": 200}
    wanted = [each for each in listed[1:] if each["type"] in query["type"]]  # type: ignore[operator]
    assert trained_job.client.get(address, params=query).json()["data"] == wanted != []


def test_the_stream_of_a_finished_job_replays_and_ends(
    trained_job: Any, listed: list[Json]
) -> None:
    told = stream(trained_job.client, f"/v1/jobs/{trained_job.job['id']}/events")
    assert told.names[0] == "snapshot"
    assert told.names[-1] == "stream.end"
    assert told.ids == [event["id"] for event in listed]
    data = [json.loads(frame["data"]) for frame in told.frames if "id" in frame]
    assert data == listed
    snapshot = next(frame for frame in told.frames if frame.get("event") == "snapshot")
    assert json.loads(snapshot["data"])["id"] == trained_job.job["id"]
    assert "id" not in snapshot
    assert json.loads(told.frames[-1]["data"])["state"] == "succeeded"


def test_a_stream_goes_on_where_it_was_left(trained_job: Any, listed: list[Json]) -> None:
    address = f"/v1/jobs/{trained_job.job['id']}/events"
    for last in (1, 5, len(listed)):
        told = stream(trained_job.client, address, **{"Last-Event-ID": str(last)})
        assert told.ids == list(range(last + 1, len(listed) + 1))
        assert (told.names[0], told.names[-1]) == ("snapshot", "stream.end")
    told = stream(trained_job.client, f"{address}?after=4")
    assert told.ids[0] == 5
    for odd in ("x", "-1", "1.5", "9" * 30):
        sent = {"Accept": "text/event-stream", "Last-Event-ID": odd}
        assert_problem(trained_job.client.get(address, headers=sent), 400)
