"""SourceRule: which projects may read which folders of the server and which S3 prefixes."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from kdcore.schema.dataset_sources import parse_file_source
from store.ids import is_id

EVERY_PROJECT = "*"
RULES_FORM = (
    'should be a JSON list such as [{"source": "s3://bucket/prefix", "projects": ["prj_…"]}]'
)


def _check_source(text: str) -> str:
    source = parse_file_source(text)
    if source.bucket is None and not source.parts:
        raise ValueError("must not be the root of the file system")
    return source._replace(is_prefix=False).address


def _check_project(text: str) -> str:
    if text != EVERY_PROJECT and not is_id(text, "prj"):
        raise ValueError("must be the id of a project, or * for every project")
    return text


class SourceRule(BaseModel):
    """A folder or prefix, and the projects that may read what is below it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    source: Annotated[str, AfterValidator(_check_source)]
    """``folder:/path`` or ``s3://bucket/prefix``."""
    projects: Annotated[
        tuple[Annotated[str, AfterValidator(_check_project)], ...], Field(min_length=1)
    ]
    """Ids of projects; ``*`` stands for every project."""


_RULES: TypeAdapter[tuple[SourceRule, ...]] = TypeAdapter(tuple[SourceRule, ...])


def parse_rules(text: str) -> tuple[SourceRule, ...]:
    """Parse a JSON list of rules; an empty text has none.

    Raises ``ValueError``, which says for each invalid rule what is wrong, and shows no value.
    """
    if not text.strip():
        return ()
    try:
        return _RULES.validate_json(text)
    except ValidationError as error:
        issues = error.errors(include_url=False, include_input=False, include_context=False)
        texts = [
            f"{'.'.join(map(str, issue['loc']))}: {issue['msg'].removeprefix('Value error, ')}"
            if issue["loc"]
            else issue["msg"]
            for issue in issues
        ]
    raise ValueError(f"{RULES_FORM}; {', '.join(texts)}")


def matching_rule(rules: Sequence[SourceRule], source: str, project_id: str) -> SourceRule | None:
    """Return the rule that lets the project read a source, the widest first; None without one."""
    requested = parse_file_source(source)
    for rule in sorted(rules, key=lambda rule: len(rule.source)):
        allows_project = EVERY_PROJECT in rule.projects or project_id in rule.projects
        if allows_project and parse_file_source(rule.source).contains(requested):
            return rule
    return None
