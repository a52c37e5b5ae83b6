"""What an earlier version stored is served in the names of this one, and its jobs go on."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.fernet import Fernet

from store.ids import new_id
from tests.helpers import wait_until
from tests.upgrade.conftest import (
    Json,
    Snapshot,
    UpgradedStack,
    connect,
    dump_rows,
    load_rows,
    migrate,
)

RENAMED_KEYS = {
    "normalisation": "normalization",
    "licence": "license",
    "kept_logits": "teacher_cache_logits",
    "unlabelled": "unlabeled",
    "chosen": "runtime",
    "kept_answers": "teacher_cache",
    "eight_bit_teachers": "quantized_teachers",
    "helped_by": "top1_gain",
    "asked_s": "fill_s",
    "lane": "queue",
}
OLD_VALUES = {"asking_teacher", "recipe_invalid", "user_fault", "overran", "storage_away"}
SAME_PATHS = ("/metrics", "/checkpoints", "/artifacts", "/runs")
"""Lists whose rows do not depend on the time or on workers."""


@pytest.fixture
def database_url(services: Any, environment: Json, snapshot: Snapshot) -> str:
    """A new database at the snapshot's revision, with the snapshot's rows."""
    url = str(services.create_database(new_id("upl")))
    migrate(url, snapshot.metadata["revision"])
    load_rows(snapshot, url)
    return url


def words_of(value: Any) -> Iterator[str]:
    """Every key and every one-word string of a JSON value."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from words_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from words_of(item)
    elif isinstance(value, str) and " " not in value:
        yield value


def with_new_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {RENAMED_KEYS.get(key, key): with_new_keys(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_new_keys(item) for item in value]
    return {"user_fault": "user_error"}.get(value, value) if isinstance(value, str) else value


def test_every_get_answers_in_the_new_names(upgraded_stack: UpgradedStack) -> None:
    old_words = RENAMED_KEYS.keys() | OLD_VALUES
    differing = []
    for path, before in upgraded_stack.snapshot.expected["get"].items():
        response = upgraded_stack.client.get(path)
        assert response.status_code == before["status"], f"{path}: {response.text[:500]}"
        media_type = response.headers.get("content-type", "").partition(";")[0]
        if "body" not in before or media_type != "application/json":
            continue
        body = response.json()
        assert not old_words & set(words_of(body)), path
        if path.endswith(SAME_PATHS) and body["data"] != with_new_keys(before["body"])["data"]:
            differing.append(path)
    queued = upgraded_stack.snapshot.metadata["jobs"]["queued"]
    assert [path for path in differing if queued not in path] == []


def test_bytes_of_students_are_unchanged(upgraded_stack: UpgradedStack) -> None:
    students = upgraded_stack.snapshot.expected["students"]
    assert len(students) >= 10
    for name, sha256 in students.items():
        student = upgraded_stack.client.get(f"{upgraded_stack.job(name)['links']['self']}/student")
        assert hashlib.sha256(student.content).hexdigest() == sha256, name


def test_reports_keep_every_number(upgraded_stack: UpgradedStack) -> None:
    reports = {
        path: before["body"]
        for path, before in upgraded_stack.snapshot.expected["get"].items()
        if path.endswith("/report") and before["status"] == 200
    }
    assert reports
    for path, before in reports.items():
        report = upgraded_stack.client.get(path).json()
        assert numbers_in(report) == numbers_in(before), path
        cache = report["details"].get("teacher_cache")
        if cache:
            assert {"misses", "hits", "fill_s"} <= cache.keys()


def numbers_in(value: Any) -> list[float]:
    if isinstance(value, dict):
        return sorted(number for item in value.values() for number in numbers_in(item))
    if isinstance(value, list):
        return sorted(number for item in value for number in numbers_in(item))
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_runtime_belongs_to_the_run(upgraded_stack: UpgradedStack) -> None:
    job = upgraded_stack.job("resumed")
    assert "runtime" not in job["resolved"]
    assert job["runtime"]["resumed_from_step"] > 0
    query = "SELECT number, runtime->>'resumed_from_step' FROM runs WHERE job_id = '{}' ORDER BY 1"
    (first, second) = upgraded_stack.query(query.format(job["id"]))
    assert first == (1, None)
    assert second == (2, str(job["runtime"]["resumed_from_step"]))


def test_repeated_request_gets_its_answer_in_the_new_names(upgraded_stack: UpgradedStack) -> None:
    for repeat in upgraded_stack.snapshot.expected["replays"]:
        headers = {"Idempotency-Key": repeat["key"]}
        response = upgraded_stack.client.post(repeat["path"], json=repeat["body"], headers=headers)
        if RENAMED_KEYS.keys() & set(words_of(repeat["body"])):
            assert response.status_code == 422, repeat["key"]  # the earlier body is invalid now
            continue
        assert response.status_code == 201, response.text
        assert response.headers["idempotent-replayed"] == "true"
        assert response.json() == with_new_keys(repeat["answer"])


def test_paused_and_queued_jobs_succeed(upgraded_stack: UpgradedStack) -> None:
    rows_before = upgraded_stack.query("SELECT id FROM teacher_caches")
    assert len(rows_before) == len(upgraded_stack.snapshot.rows("teacher_caches"))
    paused = upgraded_stack.job("paused")
    assert paused["state"] == "paused"
    upgraded_stack.client.post(f"{paused['links']['self']}/resume").raise_for_status()
    for name in ("queued", "paused"):
        wait_until(
            lambda name=name: upgraded_stack.job(name)["state"] in ("succeeded", "failed"),  # type: ignore[misc]
            300,
            f"the {name} job ends",
        )
        job = upgraded_stack.job(name)
        logs = upgraded_stack.client.get(job["links"]["logs"]).text
        assert job["state"] == "succeeded", f"{name}: {job['error']}\n{logs}"
    _assert_resumed(upgraded_stack, paused)


def _assert_resumed(upgraded_stack: UpgradedStack, job: Json) -> None:
    """From the checkpoint, with cached outputs; or from the start, with the reason in the log."""
    runs = upgraded_stack.client.get(job["links"]["runs"]).json()["data"]
    (resumed_from,) = [run["resumed_from_step"] for run in runs if run["number"] == len(runs)]
    logs = upgraded_stack.client.get(job["links"]["logs"]).text
    assert (resumed_from or 0) > 0 or "checkpoint" in logs
    cache = upgraded_stack.client.get(f"{job['links']['self']}/report").json()["details"][
        "teacher_cache"
    ]
    # On another processor the outputs of the teacher are other numbers: they are computed again.
    assert cache["misses"] + cache["hits"] == job["resolved"]["training"]["views"]


def test_downgrade_brings_back_every_row(database_url: str, snapshot: Snapshot) -> None:
    tables = [t for t in snapshot.metadata["tables"] if t["name"] != "idempotency_keys"]
    before = dump_rows(database_url, tables)
    migrate(database_url, "0007")
    migrate(database_url, snapshot.metadata["revision"])
    after = dump_rows(database_url, tables)
    assert {name for name in before if before[name] != after[name]} == set()


def test_names_of_users_are_not_renamed(database_url: str) -> None:
    """A class or a label may have a name that was a field's."""
    with connect(database_url) as connection:
        connection.execute(
            'UPDATE jobs SET labels = \'{"licence": "x"}\', result = jsonb_set('
            "result, '{student,per_class_top1}', '{\"helped_by\": 1.0, \"unlabelled\": 2.0}') "
            "WHERE result ? 'student'"
        )
    migrate(database_url, "0007")
    with connect(database_url) as connection:
        (labels, classes), *_ = connection.execute(
            "SELECT labels, result->'student'->'per_class_top1' FROM jobs WHERE result ? 'student'"
        ).fetchall()
    assert labels == {"licence": "x"}
    assert classes == {"helped_by": 1.0, "unlabelled": 2.0}


def test_answers_under_another_secret_are_deleted(database_url: str) -> None:
    with connect(database_url) as connection:
        sealed = Fernet(Fernet.generate_key()).encrypt(b"{}").decode()
        connection.execute("UPDATE idempotency_keys SET body = %s", (sealed,))
    migrate(database_url, "0007")
    with connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM idempotency_keys").fetchone() == (0,)
