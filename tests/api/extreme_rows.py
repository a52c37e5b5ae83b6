"""Rows with extreme values in every column, for the tests of reads."""

import json
from typing import Any

from psycopg import sql
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from store import tables
from store.database import transaction
from store.ids import new_id

Json = dict[str, Any]
NUM_VARIANTS = 15
JSON_LEAVES = [
    *("34000000000000000000", "-1" + 30 * "0", "1e400", "-1e400", "1e16", "80.0", "1e-400"),
    *('"\\u202e \\ud83d\\ude00 <b>"', '""', "null", "true", "[]", "{}"),
    *(depth * '{"a":[' + "1" + depth * "]}" for depth in (150, 1000)),
]
"""JSON that replaces each leaf of a document. The last two are deeper than orjson accepts."""
EXTREMES = {
    "JSONB": JSON_LEAVES,
    "DOUBLE PRECISION": ["NaN", "Infinity", "-Infinity", "1.7976931348623157e308", "5e-324", "0"],
    "BIGINT": [str(2**63 - 1), str(-(2**63)), "0"],
    "INTEGER": [str(2**31 - 1), str(-(2**31)), "0"],
    "TEXT": [
        "",
        50_000 * "x",
        "\u202e\u2028\u00e9\U0001f600\x01<script>",
        "?#/%00",
        "line\r\nfeed",
    ],
    "TEXT[]": ["{}", '{"","\u2028"}'],
    "TIMESTAMP WITH TIME ZONE": ["infinity", "-infinity", "294276-12-31", "4713-01-01 BC"],
}
"""Values of each type of column, in the text that Postgres reads."""
UNIQUE: Json = {"key": ("digest", str.encode), "tch": ("key", str)}
"""Columns without two equal values in a project, by the prefix of the table's ids."""
USUAL: Json = {"TEXT": "x", "INTEGER": 1, "BIGINT": 1, "DOUBLE PRECISION": 1.0, "JSONB": {}}
UNCHANGED = {
    *("id", "project_id", "job_id", "dataset_id", "model_id", "upload_id", "key"),
    *("state", "desired_state", "queue"),
    # No response has these: workers choose the addresses of objects.
    *("object_key", "onnx_object_key"),
    # Their quotient is the number of parts that a response lists.
    *("uploads.size_bytes", "uploads.part_bytes"),
    # A worker's claim, a lease or an eviction of another test would read these.
    *("lease_owner", "lease_expires_at", "not_before", "seen_at"),
}
EVALUATION = {
    "top1": 90.0,
    "agreement": 95.0,
    "per_class_top1": {"a": 1.0},
    "num_params": 1000,
    "macs": 2000,
    "size_bytes": 4000,
    "latency_ms": {"p50": 1.0, "p95": 2.0},
}
DOCUMENTS: Json = {
    "result": {
        **dict.fromkeys(("student", "teacher", "baseline"), EVALUATION),
        "verdict": {"accepted": True, "checks": [{"name": "min_top1", "limit": 1, "value": 2}]},
        "device": "cpu",
    },
    "info": {
        "classes": ["a", "b"],
        "splits": {name: {"count": 10, "per_class": {"a": 5}} for name in ("train", "val", "test")},
        "in_channels": 1,
        "image_size": 8,
        "normalization": {"mean": [0.5], "std": [0.5]},
        "digest": "0" * 64,
    },
    "ingest_summary": {
        "splits": {"train": {"count": 10, "source": "train/"}},
        "ignored": [{"reason": "x", "count": 1, "examples": ["a"]}],
        "warnings": ["x"],
    },
    "summary": {"train/loss": 1.0, "train/images_per_s": 100.0, "curve": [1.0, 2.0]},
    "progress": {"epoch": 1, "epochs": 2, "step": 1, "steps": 2, "fraction": 0.5},
    "error": {"code": "internal", "message": "x", "items": [{"name": "a", "detail": "b"}]},
    "data": {"level": "info", "message": "x", "values": {"train/loss": 1.0}},
}
"""A document of the usual form for columns that no request fills."""
ROWS: dict[str, tuple[str, Json]] = {
    "Dataset": ("ds", {"name": "d", "source": "x", "split_seed": 0, "state": "ready"}),
    "Model": (
        "mdl",
        {"name": "m", "source": "x", "architecture": "cifar/resnet8", "num_classes": 2}
        | {"input_size": 8, "labels": {}, "warnings": [], "state": "ready"},
    ),
    "TeacherCache": (
        "tch",
        {"model_id": "m", "dataset_id": "d", "teacher_sha256": "0", "dataset_sha256": "0"}
        | {"seed": 0, "augmentation": {}, "view": 1, "num_samples": 1, "object_key": "x"}
        | {"sha256": "0", "size_bytes": 1, "fill_s": 1.0, "job_id": "j"},
    ),
    "Upload": (
        "upl",
        {"filename": "f", "size_bytes": 10, "part_bytes": 10, "sha256": "0", "state": "open"}
        | {"expires_at": "2030-01-01T00:00:00Z"},
    ),
    "ApiKey": ("key", {"name": "k", "scopes": ["jobs:read"]}),
}
JOB_ROWS: dict[str, tuple[str, Json]] = {
    "Run": ("run", {"number": 1, "fence": 1, "worker": "w"}),
    "JobEvent": ("", {"seq": 1, "type": "log", "data": {}}),
    "Metric": ("", {"key": "val/top1", "step": 1, "epoch": 1.0, "wall_s": 1.0, "value": 1.0}),
    "Checkpoint": (
        "ckp",
        {"object_key": "x", "sha256": "0", "size_bytes": 1, "fence": 1, "name": "c", "step": 1}
        | {"epoch": 1.0, "metrics": {}},
    ),
    "Artifact": (
        "art",
        {"object_key": "x", "sha256": "0", "size_bytes": 1, "fence": 1, "name": "a"}
        | {"format": "safetensors", "media_type": "x/y"},
    ),
}


def replace_leaves(value: Any, leaf: str) -> str:
    """The JSON text of a document with the text ``leaf`` instead of every leaf."""
    if isinstance(value, dict) and value:
        entries = (f"{json.dumps(k)}:{replace_leaves(v, leaf)}" for k, v in value.items())
        return "{" + ",".join(entries) + "}"
    if isinstance(value, list) and value:
        return "[" + ",".join(replace_leaves(item, leaf) for item in value) + "]"
    return leaf


def type_name(column: Any) -> str:
    """The type of a column in Postgres."""
    return str(column.type.compile(dialect=postgresql.dialect()))


def extremes(table: Table, number: int, documents: Json) -> dict[str, str]:
    """The n-th extreme value of every column that no other row refers to, as text."""
    values = {}
    for column in table.c:
        kind = type_name(column)
        names = {column.name, f"{table.name}.{column.name}"}
        if column.primary_key or names & UNCHANGED or kind not in EXTREMES:
            continue
        value = EXTREMES[kind][number % len(EXTREMES[kind])]
        is_dict = kind == "JSONB" and column.name not in ("warnings", "class_names", "augmentation")
        document = documents.get(column.name, {"a": 1.0} if is_dict else [1.0])
        values[column.name] = replace_leaves(document, value) if kind == "JSONB" else value
    return values


def _required_values(table: Table) -> Json:
    """A usual value of each column that needs one."""
    return {
        column.name: USUAL[type_name(column)]
        for column in table.c
        if not (column.nullable or column.default or column.server_default)
        and type_name(column) in USUAL
    }


def add_row(session: Session, table: str, prefix: str, project_id: str, values: Json) -> Any:
    """Add a row; one with a ``prefix`` has an id."""
    ids: Json = {"id": new_id(prefix)} if prefix else {}
    if prefix in UNIQUE:
        column, convert = UNIQUE[prefix]
        ids[column] = convert(ids["id"])
    kind = getattr(tables, table)
    row = kind(**_required_values(kind.__table__) | {"project_id": project_id} | values | ids)
    session.add(row)
    session.flush()
    return row


def distort(session: Session, row: Any, number: int, documents: Json) -> str:
    """Write the n-th extreme value into every column of a stored row; return the row's id."""
    table = row.__table__
    values = extremes(table, number, documents)
    assignments = sql.SQL(", ").join(
        sql.SQL("{} = %s::{}").format(sql.Identifier(name), sql.SQL(type_name(table.c[name])))
        for name in values
    )
    keys = {column.name: getattr(row, column.name) for column in table.primary_key}
    where = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(key)) for key in keys)
    query = sql.SQL("UPDATE {} SET {} WHERE {}").format(
        sql.Identifier(table.name), assignments, where
    )
    parameters = (*values.values(), *keys.values())
    session.connection().exec_driver_sql(query.as_string(), parameters)
    return str(getattr(row, "id", ""))


def add_ready_dataset(project_id: str) -> str:
    """Store a data set of usual values; return its id."""
    values = ROWS["Dataset"][1] | {"info": DOCUMENTS["info"]}
    with transaction() as session:
        return str(add_row(session, "Dataset", "ds", project_id, values).id)


def finish_job(job_id: str) -> Json:
    """Let a job have succeeded with a usual report; return the columns of its row."""
    with transaction() as session:
        job = session.get_one(tables.Job, job_id)
        job.state, job.result = "succeeded", DOCUMENTS["result"]
        return {column.name: getattr(job, column.name) for column in tables.Job.__table__.c}


def add_variants(job_columns: Json) -> list[dict[str, str]]:
    """Add rows with extreme values to every table, beside a job with usual ones.

    Each entry of the result has one row of each table: ids by the names of path parameters.
    """
    documents = DOCUMENTS | {name: job_columns[name] for name in ("spec", "resolved")}
    with transaction() as session:
        return [
            _add_variant(session, number, job_columns, documents) for number in range(NUM_VARIANTS)
        ]


def _add_variant(
    session: Session, number: int, job_columns: Json, documents: Json
) -> dict[str, str]:
    project_id = job_columns["project_id"]
    job = add_row(session, "Job", "job", project_id, job_columns | {"event_seq": 1})
    entry = {"job_id": str(job.id)}
    for table, (prefix, values) in JOB_ROWS.items():
        row = add_row(session, table, prefix, project_id, values | {"job_id": job.id})
        entry[f"{table.lower()}_id"] = distort(session, row, number, documents)
    distort(session, job, number, documents)
    for table, (prefix, values) in ROWS.items():
        row = add_row(session, table, prefix, project_id, values)
        entry[f"{table.lower()}_id"] = distort(session, row, number, documents)
    return entry | {"key_id": entry["apikey_id"], "cache_id": entry["teachercache_id"]}
