"""Columns, tables and stored documents get the field's names.

Jobs, events, runs and models are rewritten in batches; the bytes of artifacts, checkpoints and data
sets never change. Stored responses of idempotent requests are encrypted with the secret key: they are
decrypted and rewritten, and those under another key, which are unreadable, are deleted. The runtime
(device, precision, versions) moves from ``jobs.resolved`` to the run that it describes. Stop the
workers before, because an engine that runs still writes the earlier names.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic import op
from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy.dialects.postgresql import JSONB

from store.settings import settings

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BATCH_SIZE = 1000
_COLUMNS = (
    ("jobs", "lane", "queue"),
    ("jobs", "losses", "lost_runs"),
    ("outbox", "lane", "queue"),
    ("turns", "lane", "queue"),
    ("turns", "taken_at", "last_claimed_at"),
    ("workers", "lane", "queue"),
    ("models", "normalisation", "normalization"),
    ("models", "licence", "license"),
    ("teacher_caches", "seconds", "fill_s"),
)
_CONSTRAINTS = (
    ("jobs", "ck_jobs_lane", "ck_jobs_queue"),
    ("project_turns", "pk_turns", "pk_project_turns"),
    ("project_turns", "fk_turns_project_id", "fk_project_turns_project_id"),
)
_EXITS = (
    ("storage_away", "storage_retry"),
    ("overran", "timed_out"),
    ("user_fault", "user_error"),
)
_PHASES = (("asking_teacher", "caching_teacher"),)
_ERROR_CODES = (("recipe_invalid", "job_invalid"),)
_CHANNELS_DETAIL = "has another number of channels"
"""Of the only error item that the worker itself names; other names are of the user's file."""


PathStep = str | tuple[str, str]


class Rename(NamedTuple):
    """Another name for a key, or another value of a key, in the objects at a path.

    A path is a tuple of keys; ``*`` stands for each item of a list or each value of an object, and
    a pair ``(key, value)`` limits the path to objects in which the key has that value.
    Keys outside the path may be the user's (labels, names of classes) and stay.
    """

    path: tuple[PathStep, ...]
    old: str
    new: str
    value_of: str | None = None
    """The key whose value changes from ``old`` to ``new``; None renames the key ``old``."""

    def reverse(self) -> "Rename":
        return self._replace(old=self.new, new=self.old)

    def apply(self, document: Any) -> None:
        """Change the document in place."""
        for target in _objects_at(document, self.path):
            if self.value_of is not None:
                if target.get(self.value_of) == self.old:
                    target[self.value_of] = self.new
            elif self.old in target:
                target[self.new] = target.pop(self.old)


def _objects_at(document: Any, path: Sequence[PathStep]) -> Iterator[dict[str, Any]]:
    if not path:
        if isinstance(document, dict):
            yield document
        return
    if isinstance(path[0], tuple):
        key, value = path[0]
        if isinstance(document, dict) and document.get(key) == value:
            yield from _objects_at(document, path[1:])
    elif path[0] == "*":
        items = document.values() if isinstance(document, dict) else document
        for item in items if isinstance(document, dict | list) else ():
            yield from _objects_at(item, path[1:])
    elif isinstance(document, dict) and path[0] in document:
        yield from _objects_at(document[path[0]], path[1:])


_NORMALIZATION = Rename((), "normalisation", "normalization")
_LICENSE = Rename((), "licence", "license")
_DATASET_INFO = (_NORMALIZATION, Rename(("splits",), "unlabelled", "unlabeled"))
_SPEC = (
    Rename(("training",), "kept_logits", "teacher_cache_logits"),
    Rename(("method",), "neighbours", "neighbors", "between"),
    Rename(("method", "*"), "neighbours", "neighbors", "between"),
)
_REPORT = (
    Rename(("details",), "kept_answers", "teacher_cache"),
    Rename(("details", "teacher_cache"), "asked", "misses"),
    Rename(("details", "teacher_cache"), "found", "hits"),
    Rename(("details", "teacher_cache"), "asked_s", "fill_s"),
    Rename(("details",), "eight_bit_teachers", "quantized_teachers"),
    Rename(("details", "quantized_teachers", "*"), "teacher", "teacher_index"),
    Rename(("details", "quantized_teachers", "*"), "used", "quantized"),
    Rename(("details", "networks", "*"), "labeller", "labeler", "name"),
    Rename(("seeds",), "helped_by", "top1_gain"),
)
_ERROR = (
    *(Rename((), old, new, "code") for old, new in _ERROR_CODES),
    *(Rename((), old, new, "phase") for old, new in _PHASES),
    Rename(
        (("code", "checkpoint_invalid"), "items", "*", ("detail", _CHANNELS_DETAIL)),
        *("normalisation", "normalization", "name"),
    ),
)


def _under(name: str, renames: Sequence[Rename]) -> tuple[Rename, ...]:
    return tuple(rename._replace(path=(name, *rename.path)) for rename in renames)


_DOCUMENTS: dict[str, dict[str, tuple[Rename, ...]]] = {
    "jobs": {
        "spec": _SPEC,
        "resolved": _SPEC,
        "result": (
            *(_NORMALIZATION, _LICENSE),
            *_under("info", _DATASET_INFO),
            *_REPORT,
        ),
        "error": _ERROR,
    },
    "datasets": {"info": _DATASET_INFO},
    "models": {"error": _ERROR, "onnx_error": _ERROR},
}
"""Columns of the tables whose bodies have an ETag."""
_RESPONSE = (
    *(_NORMALIZATION, _LICENSE, Rename((), "chosen", "runtime")),
    *_SPEC,
    *_under("resolved", _SPEC),
)
"""In the stored response of a POST: a job, a model or a data set."""


def upgrade() -> None:
    for table, old, new in _COLUMNS:
        op.alter_column(table, old, new_column_name=new)
    op.rename_table("turns", "project_turns")
    for table, old, new in _CONSTRAINTS:
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {old} TO {new}")
    _move_runtime_to_runs()
    for table, documents in _DOCUMENTS.items():
        _rewrite_documents(table, documents)
    _rewrite_codes(forward=True)
    _rewrite_events(forward=True)
    _rewrite_metric_keys(forward=True)
    _rewrite_responses(_RESPONSE)


def downgrade() -> None:
    _rewrite_responses(_reverse_all(_RESPONSE))
    _rewrite_metric_keys(forward=False)
    _rewrite_events(forward=False)
    _rewrite_codes(forward=False)
    for table, documents in _DOCUMENTS.items():
        reverse = {column: _reverse_all(renames) for column, renames in documents.items()}
        _rewrite_documents(table, reverse)
    _move_runtime_to_jobs()
    for table, old, new in _CONSTRAINTS:
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {new} TO {old}")
    op.rename_table("project_turns", "turns")
    for table, old, new in _COLUMNS:
        op.alter_column(table, new, new_column_name=old)


def _reverse_all(renames: Sequence[Rename]) -> tuple[Rename, ...]:
    """Inner names first: their paths are spelled in the new names."""
    return tuple(rename.reverse() for rename in reversed(renames))


def _move_runtime_to_runs() -> None:
    """Take each run's runtime from its events, or the job's for its last run.

    :func:`_rewrite_documents` removes it from the jobs.
    """
    op.add_column("runs", sa.Column("runtime", JSONB()))
    op.execute(
        "UPDATE runs SET runtime = events.data->'chosen' FROM events "
        "WHERE events.job_id = runs.job_id AND events.run = runs.number "
        "AND events.type = 'phase' AND events.data ? 'chosen'"
    )
    op.execute(
        "UPDATE runs SET runtime = jobs.resolved->'chosen' FROM jobs "
        "WHERE jobs.id = runs.job_id AND jobs.num_runs = runs.number "
        "AND jobs.resolved ? 'chosen' AND NOT EXISTS "
        "(SELECT FROM runs AS other WHERE other.job_id = jobs.id AND other.runtime IS NOT NULL)"
    )


def _move_runtime_to_jobs() -> None:
    op.execute(
        "UPDATE jobs SET resolved = resolved || jsonb_build_object('chosen', latest.runtime) "
        "FROM (SELECT DISTINCT ON (job_id) job_id, runtime FROM runs WHERE runtime IS NOT NULL "
        "ORDER BY job_id, number DESC) AS latest WHERE latest.job_id = jobs.id"
    )
    op.drop_column("runs", "runtime")


def _rewrite_documents(table: str, documents: dict[str, tuple[Rename, ...]]) -> None:
    """Rewrite all documents of a table in one pass, a batch of rows at a time by primary key.

    A document is read only if an old word occurs in it. ``rev`` rises, because every body has other
    names now: a client's stored ETag must not match it.
    """
    connection = op.get_bind()
    read = sa.text(
        f"SELECT id, {', '.join(map(_matching_document, documents))} FROM {table} "  # noqa: S608 - our own names
        f"WHERE id > :last_id ORDER BY id LIMIT {BATCH_SIZE}"
    )
    changes = ", ".join(f"{column} = {_new_document(column)}" for column in documents)
    write = sa.text(f"UPDATE {table} SET rev = rev + 1, {changes} WHERE id = :id")  # noqa: S608 - our own names
    patterns = {f"{column}_words": _old_words(renames) for column, renames in documents.items()}
    last_id = ""
    while batch := connection.execute(read, patterns | {"last_id": last_id}).mappings().all():
        last_id = batch[-1]["id"]
        connection.execute(
            write,
            [
                {"id": row["id"]}
                | {
                    name: _rewrite_document(row[name], renames)
                    for name, renames in documents.items()
                }
                for row in batch
            ],
        )


def _old_words(renames: Sequence[Rename]) -> str:
    return "|".join(f'"{word}"' for word in sorted({rename.old for rename in renames}))


def _matching_document(column: str) -> str:
    """SQL: the text of a document in which an old word occurs, else null."""
    text = f"CAST({column} AS text)"
    return f"CASE WHEN {text} ~ :{column}_words THEN {text} END AS {column}"


def _new_document(column: str) -> str:
    """SQL: the rewritten document, or the stored one; without the runtime, which runs have."""
    document = f"COALESCE(CAST(:{column} AS jsonb), {column})"
    if column != "resolved":
        return document
    return f"CASE WHEN jsonb_exists({document}, 'chosen') THEN {document} - 'chosen' ELSE {document} END"


def _rewrite_document(document: str | None, renames: Sequence[Rename]) -> str | None:
    if document is None:
        return None
    renamed = json.loads(document)
    for rename in renames:
        rename.apply(renamed)
    return json.dumps(renamed)


def _rewrite_codes(*, forward: bool) -> None:
    """Words that are values of columns."""
    for statement, pairs in (
        ("UPDATE runs SET exit = :new WHERE exit = :old", _EXITS),
        ("UPDATE jobs SET phase = :new WHERE phase = :old", _PHASES),
        (
            "UPDATE models SET warnings = replace(warnings::text, :old, :new)::jsonb "
            "WHERE warnings::text LIKE '%' || :old || '%'",
            (("normalisation", "normalization"),),
        ),
    ):
        for old, new in _in_direction(pairs, forward=forward):
            op.get_bind().execute(sa.text(statement), {"old": old, "new": new})


def _in_direction(pairs: Sequence[tuple[str, str]], *, forward: bool) -> list[tuple[str, str]]:
    return [pair if forward else (pair[1], pair[0]) for pair in pairs]


def _rewrite_events(*, forward: bool) -> None:
    """Words of states, phases and errors, in one pass over the table."""
    ((old_key, new_key),) = _in_direction([("chosen", "runtime")], forward=forward)
    ((old_name, new_name),) = _in_direction([("normalisation", "normalization")], forward=forward)
    renamed = f"""CASE type
        WHEN 'state' THEN data || {_replaced_value("reason", "exits")}
        WHEN 'phase' THEN data - CAST(:old_key AS text) || {_replaced_value("phase", "phases")} ||
            CASE WHEN jsonb_exists(data, :old_key) THEN
                jsonb_build_object(CAST(:new_key AS text), data->CAST(:old_key AS text))
            ELSE '{{}}' END
        ELSE data || {_replaced_value("phase", "phases")} || {_replaced_value("code", "codes")} ||
            CASE WHEN data->>'code' = 'checkpoint_invalid'
                AND data->'items' = CAST(:old_items AS jsonb)
            THEN jsonb_build_object('items', CAST(:new_items AS jsonb)) ELSE '{{}}' END
        END"""
    op.get_bind().execute(
        sa.text(
            f"UPDATE events SET data = {renamed} "  # noqa: S608 - our own expressions
            f"WHERE type IN ('state', 'phase', 'error') AND data <> {renamed}"
        ),
        {
            "exits": json.dumps(dict(_in_direction(_EXITS, forward=forward))),
            "phases": json.dumps(dict(_in_direction(_PHASES, forward=forward))),
            "codes": json.dumps(dict(_in_direction(_ERROR_CODES, forward=forward))),
            "old_items": json.dumps([{"name": old_name, "detail": _CHANNELS_DETAIL}]),
            "new_items": json.dumps([{"name": new_name, "detail": _CHANNELS_DETAIL}]),
            "old_key": old_key,
            "new_key": new_key,
        },
    )


def _replaced_value(key: str, words: str) -> str:
    """SQL: an object with the key's new value, or an empty one where the value does not change.

    ``words`` names the parameter that maps old values to new ones.
    """
    mapping = f"CAST(:{words} AS jsonb)"
    return (
        f"CASE WHEN jsonb_exists({mapping}, data->>'{key}') "
        f"THEN jsonb_build_object('{key}', {mapping}->(data->>'{key}')) ELSE '{{}}' END"
    )


def _rewrite_metric_keys(*, forward: bool) -> None:
    """Keys of metrics contain no names of users; only a label refinery has a labeler."""
    ((old, new),) = _in_direction([("labeller", "labeler")], forward=forward)
    refineries = (
        "SELECT id FROM jobs WHERE 'label_refinery' IN "
        "(resolved->>'scheme', resolved->'scheme'->>'type')"
    )
    for table, column, kind, only in (
        ("metrics", "key", "text", "true"),
        ("events", "data", "jsonb", "type = 'metrics'"),
        ("checkpoints", "metrics", "jsonb", "true"),
    ):
        op.get_bind().execute(
            sa.text(
                f"UPDATE {table} SET {column} = "  # noqa: S608 - our own names
                f"CAST(regexp_replace(CAST({column} AS text), :old, :new, 'g') AS {kind}) "
                f"WHERE job_id IN ({refineries}) AND {only} AND CAST({column} AS text) ~ :old"
            ),
            {"old": rf'(^|/|"){old}/', "new": rf"\1{new}/"},
        )


def _rewrite_responses(renames: Sequence[Rename]) -> None:
    """Rewrite the body of each stored response; delete rows that the secret key does not decrypt."""
    connection = op.get_bind()
    secret = settings().secret_key.get_secret_value().encode()
    fernet = Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"idempotency" + secret).digest()))
    keys = sa.table(
        "idempotency_keys",
        *(sa.column(name, sa.Text) for name in ("project_id", "key", "body")),
    )
    primary_key = sa.tuple_(keys.c.project_id, keys.c.key)
    query = sa.select(keys).order_by(keys.c.project_id, keys.c.key).limit(BATCH_SIZE)
    last = ("", "")
    while batch := connection.execute(query.where(primary_key > sa.tuple_(*last))).all():
        last = (batch[-1].project_id, batch[-1].key)
        for row in batch:
            same = (keys.c.project_id == row.project_id, keys.c.key == row.key)
            try:
                response = json.loads(fernet.decrypt(row.body))
            except (InvalidToken, ValueError):
                connection.execute(sa.delete(keys).where(*same))
                continue
            for rename in renames:
                rename.apply(response)
            text = json.dumps(response, ensure_ascii=False, separators=(",", ":"))
            body = fernet.encrypt(text.encode()).decode()
            connection.execute(sa.update(keys).where(*same).values(body=body))
