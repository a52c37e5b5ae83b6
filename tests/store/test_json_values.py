"""Values keep their types on the way through Postgres, and none of them breaks a read."""

import json
import math
from typing import Any

import orjson
import pytest
from sqlalchemy import select, text

from store.database import transaction
from store.json_values import MAX_DEPTH, TOO_DEEP, decode_json, encode_json, encode_jsonb
from store.tables import Job


def nest(depth: int) -> Any:
    document: Any = 1
    for _ in range(depth):
        document = {"a": document}
    return document


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (80.0, 80.0),
        (1e16, 1e16),
        (3.4e38, 3.4e38),
        (1.7976931348623157e308, 1.7976931348623157e308),
        (5e-324, 5e-324),
        (2**63 - 1, 2**63 - 1),
        (2**64, 1.8446744073709552e19),
        (-(10**30), -1e30),
        (10**400, None),
        (math.nan, None),
        (-math.inf, None),
        ("a\0b \\u0000 \\\0", "a\ufffdb \\u0000 \\\ufffd"),
        ("\ud800 1e+20 \"1e+20", "\ufffd 1e+20 \"1e+20"),
        ({"\ud800": 1, 3: 1e20}, {"\ufffd": 1, "3": 1e20}),
    ],
)  # fmt: skip
def test_value_keeps_its_type_in_postgres(new_job: Any, value: Any, stored: Any) -> None:
    job_id = new_job()
    with transaction() as session:
        session.get_one(Job, job_id).summary = {"value": value}
    with transaction() as session:
        result = session.get_one(Job, job_id).summary["value"]
    assert result == stored
    assert type(result) is type(stored)
    orjson.loads(encode_json(result))


@pytest.mark.parametrize("raw", ["1e400", "-1e400", "34000000000000000000", "1" + 9000 * "0"])
def test_number_beyond_a_double_is_readable(new_job: Any, raw: str) -> None:
    job_id = new_job()
    with transaction() as session:
        update = text("UPDATE jobs SET summary = CAST(:value AS jsonb) WHERE id = :id")
        session.execute(update, {"value": f'{{"value": {raw}}}', "id": job_id})
        summary = session.scalars(select(Job.summary).where(Job.id == job_id)).one()
    number = json.loads(encode_json(summary))["value"]
    assert number == (float(raw) if math.isfinite(float(raw)) else None)


@pytest.mark.parametrize("depth", [MAX_DEPTH, 300, 1023, 1100, 5000])
def test_deep_document_is_cut(depth: int) -> None:
    raw = b'{"a":' * depth + b"1" + b"}" * depth
    document = json.loads(encode_json({"top": decode_json(raw), "next": "to it"}))
    assert document["next"] == "to it"
    node, levels = document["top"], 0
    while isinstance(node, dict):
        node, levels = node["a"], levels + 1
    assert (node, levels >= 100) == (1 if depth == MAX_DEPTH else TOO_DEEP, True)


def test_brackets_in_strings_are_no_levels() -> None:
    document = {"a": ['[[[{"\\', {"b]": "}}"}], "big": 1}
    raw = json.dumps(document).replace('"big": 1', '"big": 1e999')
    assert decode_json(raw) == document | {"big": math.inf}


def test_usual_values_are_written_as_by_orjson() -> None:
    document = {"a": [1, 2.5, None, True, "é"], "b": nest(20)}
    assert encode_json(document) == encode_jsonb(document) == orjson.dumps(document)


def test_value_without_a_json_form_is_a_bug() -> None:
    with pytest.raises(TypeError):
        encode_json({"a": object()})


def test_none_is_null(new_job: Any) -> None:
    job_id = new_job()
    for value in ({"code": "x"}, None):
        with transaction() as session:
            session.get_one(Job, job_id).error = value
    with transaction() as session:
        query = select(Job.id).where(Job.id == job_id, Job.error.is_(None), Job.result.is_(None))
        assert session.scalars(query).all() == [job_id]
