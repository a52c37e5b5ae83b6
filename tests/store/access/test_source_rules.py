"""Which project may read which source."""

import json

import pytest

from store.access.source_rules import matching_rule, parse_rules

ONE, TWO = "prj_" + 26 * "1", "prj_" + 26 * "2"
RULES = parse_rules(
    json.dumps(
        [
            {"source": "s3://bucket/data/", "projects": [ONE]},
            {"source": "folder:/srv/sets", "projects": ["*"]},
            {"source": "folder:/srv/sets/one", "projects": [TWO]},
            {"source": "s3://all", "projects": [TWO]},
        ]
    )
)


@pytest.mark.parametrize(
    ("source", "project", "rule"),
    [
        ("s3://bucket/data", ONE, "s3://bucket/data"),
        ("s3://bucket/data/a/b", ONE, "s3://bucket/data"),
        ("s3://bucket/data", TWO, None),
        ("s3://bucket/data2", ONE, None),
        ("s3://bucket/dat", ONE, None),
        ("s3://bucket", ONE, None),
        ("s3://bucket2/data", ONE, None),
        ("s3://all", TWO, "s3://all"),
        ("s3://all/below", TWO, "s3://all"),
        ("folder:/srv/sets/one/x", TWO, "folder:/srv/sets"),
        ("folder:/srv/sets2", ONE, None),
        ("folder:/srv", ONE, None),
    ],
)
def test_rule_allows_what_is_below_it(source: str, project: str, rule: str | None) -> None:
    matching = matching_rule(RULES, source, project)
    assert (matching and matching.source) == rule


def test_no_rules_by_default() -> None:
    assert parse_rules("") == ()
