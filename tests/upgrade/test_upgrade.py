"""What an earlier version stored is served in the names of this one, and its jobs go on."""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.fernet import Fernet
from psycopg import sql

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
RENAMED_BELOW_DETAILS = {"asked": "misses", "found": "hits", "used": "quantized"}
OLD_VALUES = {
    *("asking_teacher", "recipe_invalid", "user_fault", "overran", "storage_away", "storage_retry"),
    *("labeller", "neighbours"),
}
TABLES_WITH_ETAG = ("jobs", "datasets", "models")
CHECKPOINT_REASON = re.compile(r"checkpoint step-\d+\.pt (cannot be used|is damaged, skipped): ")
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
    """Every key and every one-word string of a JSON value, split at slashes."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from key.split("/")
            yield from words_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from words_of(item)
    elif isinstance(value, str) and " " not in value:
        yield from value.split("/")


def with_new_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {RENAMED_KEYS.get(key, key): with_new_keys(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_new_keys(item) for item in value]
    return {"user_fault": "user_error"}.get(value, value) if isinstance(value, str) else value


def test_every_get_response_has_the_new_names(upgraded_stack: UpgradedStack) -> None:
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
        assert not RENAMED_BELOW_DETAILS.keys() & set(words_of(report["details"])), path
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


def test_repeated_request_gets_its_response_in_the_new_names(upgraded_stack: UpgradedStack) -> None:
    replayed_paths = set()
    for repeat in upgraded_stack.snapshot.expected["replays"]:
        headers = {"Idempotency-Key": repeat["key"]}
        response = upgraded_stack.client.post(repeat["path"], json=repeat["body"], headers=headers)
        if RENAMED_KEYS.keys() & set(words_of(repeat["body"])):
            assert response.status_code == 422, repeat["key"]  # the earlier body is invalid now
            continue
        assert response.status_code == 201, response.text
        assert response.headers["idempotent-replayed"] == "true"
        assert response.json() == with_new_keys(repeat["answer"])
        replayed_paths.add(repeat["path"])
    assert {"/v1/jobs", "/v1/models", "/v1/datasets"} <= replayed_paths


def test_paused_and_queued_jobs_succeed(upgraded_stack: UpgradedStack) -> None:
    rows_before = upgraded_stack.query("SELECT id FROM teacher_caches")
    assert len(rows_before) == len(upgraded_stack.snapshot.rows("teacher_caches"))
    paused = upgraded_stack.job("paused")
    assert paused["state"] == "paused"
    upgraded_stack.client.post(f"{paused['links']['self']}/resume").raise_for_status()
    for name in ("queued", "paused"):
        wait_until(
            lambda name=name: upgraded_stack.job(name)["state"] in ("succeeded", "failed"),
            300,
            f"the {name} job ends",
        )
        job = upgraded_stack.job(name)
        logs = upgraded_stack.client.get(job["links"]["logs"]).text
        assert job["state"] == "succeeded", f"{name}: {job['error']}\n{logs}"
    _assert_resumed(upgraded_stack, paused)


def _assert_resumed(upgraded_stack: UpgradedStack, job: Json) -> None:
    """From the checkpoint, with cached outputs; or else the log says why no checkpoint was used."""
    runs = upgraded_stack.client.get(job["links"]["runs"]).json()["data"]
    (resumed_from,) = [run["resumed_from_step"] for run in runs if run["number"] == len(runs)]
    logs = upgraded_stack.client.get(job["links"]["logs"]).text
    assert (resumed_from or 0) > 0 or CHECKPOINT_REASON.search(logs), logs
    cache = upgraded_stack.client.get(f"{job['links']['self']}/report").json()["details"][
        "teacher_cache"
    ]
    # On another processor the outputs of the teacher are other numbers: they are computed again.
    assert cache["misses"] + cache["hits"] == job["resolved"]["training"]["views"]


def test_downgrade_restores_every_row(database_url: str, snapshot: Snapshot) -> None:
    before = dump_tables(database_url, snapshot)
    migrate(database_url, "0007")
    downgrade(database_url, snapshot)
    assert changed_tables(before, dump_tables(database_url, snapshot)) == set()


def dump_tables(database_url: str, snapshot: Snapshot) -> dict[str, list[Any]]:
    """Every row, but not the stored responses: their encryption has another salt each time."""
    tables = [t for t in snapshot.metadata["tables"] if t["name"] != "idempotency_keys"]
    return dump_rows(database_url, tables)


def changed_tables(before: dict[str, list[Any]], after: dict[str, list[Any]]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def downgrade(database_url: str, snapshot: Snapshot) -> None:
    """Downgrade, and subtract the two new ETags of a row: one by the upgrade, one by this."""
    migrate(database_url, snapshot.metadata["revision"])
    with connect(database_url) as connection:
        for table in TABLES_WITH_ETAG:
            connection.execute(sql.SQL("UPDATE {} SET rev = rev - 2").format(sql.Identifier(table)))


def test_etags_change(database_url: str) -> None:
    query = (
        "SELECT id, rev FROM jobs UNION ALL SELECT id, rev FROM datasets "
        "UNION ALL SELECT id, rev FROM models"
    )
    with connect(database_url) as connection:
        before: dict[str, int] = dict(connection.execute(query).fetchall())
    migrate(database_url, "0007")
    with connect(database_url) as connection:
        after = dict(connection.execute(query).fetchall())
    assert after == {row_id: rev + 1 for row_id, rev in before.items()}


def test_items_of_errors_are_counted(database_url: str) -> None:
    items = [{"name": f"{number}.png", "detail": "is empty"} for number in range(3)]
    migrate(database_url, "0007")
    with connect(database_url) as connection:
        rows = connection.execute("SELECT id FROM datasets ORDER BY id LIMIT 2").fetchall()
        for (row_id,), last in zip(
            rows, ([], [{"name": "…", "detail": "and 7 more"}]), strict=True
        ):
            error = {"code": "dataset_invalid", "message": "bad", "items": items + last}
            query = "UPDATE datasets SET error = %s WHERE id = %s"
            connection.execute(query, (json.dumps(error), row_id))
    migrate(database_url, "0008")
    with connect(database_url) as connection:
        query = "SELECT error FROM datasets ORDER BY id LIMIT 2"
        plain, capped = (row[0] for row in connection.execute(query).fetchall())
    assert (plain["items"], plain["num_items"]) == (items, 3)
    assert (capped["items"], capped["num_items"]) == (items, 10)


def test_json_null_is_no_error(database_url: str) -> None:
    """Earlier versions wrote the JSON value null when a job was retried."""
    migrate(database_url, "0007")
    with connect(database_url) as connection:
        assert connection.execute("UPDATE jobs SET error = 'null'").rowcount > 0
    migrate(database_url, "0008")
    query = "SELECT DISTINCT error::text FROM jobs"
    with connect(database_url) as connection:
        assert connection.execute(query).fetchall() == [("null",)]
    migrate(database_url, "0007")
    with connect(database_url) as connection:
        assert connection.execute(query).fetchall() == [("null",)]


def test_exits_of_runs_and_reasons_of_events(database_url: str) -> None:
    """The new name of one exit is the old name of another."""
    tables = [{"name": "runs"}, {"name": "events"}]
    migrate(database_url, "0008")
    with connect(database_url) as connection:
        for statement in (
            "UPDATE runs SET exit = 'storage_unavailable' WHERE number = 1",
            "UPDATE runs SET exit = 'storage_retry' WHERE number > 1",
            'UPDATE events SET data = data || \'{"reason": "storage_retry"}\' '
            "WHERE type = 'state' AND data ? 'reason'",
        ):
            assert connection.execute(statement).rowcount > 0
    before = dump_rows(database_url, tables)
    migrate(database_url, "0009")
    with connect(database_url) as connection:
        exits = connection.execute("SELECT DISTINCT number = 1, exit FROM runs").fetchall()
        reasons = connection.execute(
            "SELECT DISTINCT data->>'reason' FROM events WHERE type = 'state' AND data ? 'reason'"
        ).fetchall()
    assert set(exits) == {(True, "inputs_unreadable"), (False, "storage_unavailable")}
    assert reasons == [("storage_unavailable",)]
    migrate(database_url, "0008")
    assert changed_tables(before, dump_rows(database_url, tables)) == set()


def test_neighbors_of_fsp(database_url: str, snapshot: Snapshot) -> None:
    old = {"type": "fsp", "between": "neighbours"}
    query = "UPDATE jobs SET spec = spec || %s, resolved = resolved || %s WHERE id = %s"
    job_id = snapshot.metadata["jobs"]["several"]
    with connect(database_url) as connection:
        values = (json.dumps({"method": old}), json.dumps({"method": ["kd", old]}), job_id)
        connection.execute(query, values)
    before = dump_tables(database_url, snapshot)
    migrate(database_url, "0007")
    with connect(database_url) as connection:
        query = "SELECT spec->'method', resolved->'method' FROM jobs WHERE id = %s"
        row = connection.execute(query, (job_id,)).fetchone()
    new = {"type": "fsp", "between": "neighbors"}
    assert row == (new, ["kd", new])
    downgrade(database_url, snapshot)
    assert changed_tables(before, dump_tables(database_url, snapshot)) == set()


LABELER_QUERY = """
    SELECT key FROM metrics WHERE job_id = %(job)s
    UNION SELECT jsonb_object_keys(metrics) FROM checkpoints WHERE job_id = %(job)s
    UNION SELECT jsonb_object_keys(data->'values') FROM events
    WHERE job_id = %(job)s AND type = 'metrics'
"""


def test_metrics_of_a_labeler(database_url: str, snapshot: Snapshot) -> None:
    job = {"job": snapshot.metadata["jobs"]["refinery"]}
    with connect(database_url) as connection:
        for statement in (
            "UPDATE metrics SET key = 'seed1/labeller/' || key WHERE job_id = %(job)s",
            "UPDATE checkpoints SET metrics = '{\"labeller/val/top1\": 2.5}' "
            "WHERE job_id = %(job)s",
            "UPDATE events SET data = jsonb_set(data, '{values}', '{\"labeller/val/top1\": 2.5}') "
            "WHERE job_id = %(job)s AND type = 'metrics'",
        ):
            assert connection.execute(statement, job).rowcount > 0
        keys_before = {key for (key,) in connection.execute(LABELER_QUERY, job)}
    before = dump_tables(database_url, snapshot)
    migrate(database_url, "0007")
    with connect(database_url) as connection:
        keys = {key for (key,) in connection.execute(LABELER_QUERY, job)}
    assert keys == {key.replace("labeller/", "labeler/") for key in keys_before}
    downgrade(database_url, snapshot)
    assert changed_tables(before, dump_tables(database_url, snapshot)) == set()


@pytest.mark.parametrize(
    ("detail", "name"),
    [
        ("has another number of channels", "normalization"),
        ("is missing; expected 3", "normalisation"),
    ],
)
def test_only_the_item_of_the_worker_is_renamed(
    database_url: str, snapshot: Snapshot, detail: str, name: str
) -> None:
    """The other items of a checkpoint's error are names of parameters in the user's file."""
    items = [{"name": "normalisation", "detail": detail}]
    error = json.dumps({"code": "checkpoint_invalid", "items": items})
    with connect(database_url) as connection:
        for statement in (
            "UPDATE jobs SET error = error || %s WHERE state = 'failed'",
            "UPDATE models SET error = error || %s WHERE error IS NOT NULL",
            "UPDATE events SET data = data || %s WHERE type = 'error'",
        ):
            assert connection.execute(statement, (error,)).rowcount > 0
    before = dump_tables(database_url, snapshot)
    migrate(database_url, "0007")
    with connect(database_url) as connection:
        rows = connection.execute(
            "SELECT error->'items' FROM jobs WHERE state = 'failed' "
            "UNION SELECT error->'items' FROM models WHERE error IS NOT NULL "
            "UNION SELECT data->'items' FROM events WHERE type = 'error'"
        ).fetchall()
    assert rows == [([{"name": name, "detail": detail}],)]
    downgrade(database_url, snapshot)
    assert changed_tables(before, dump_tables(database_url, snapshot)) == set()


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


def test_responses_under_another_secret_are_deleted(database_url: str) -> None:
    with connect(database_url) as connection:
        sealed = Fernet(Fernet.generate_key()).encrypt(b"{}").decode()
        connection.execute("UPDATE idempotency_keys SET body = %s", (sealed,))
    migrate(database_url, "0007")
    with connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM idempotency_keys").fetchone() == (0,)
