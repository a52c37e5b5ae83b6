"""The description is whole: a client generated from it is typed."""

from typing import Any

import httpx
import pytest

from kdcore.schema.methods import METHODS
from kdcore.schema.schemes import SCHEMES

Json = dict[str, Any]


@pytest.fixture(scope="module")
def described(api_url: str) -> Json:
    document: Json = httpx.get(f"{api_url}/openapi.json", timeout=60).raise_for_status().json()
    return document


def _operations(described: Json) -> list[tuple[str, Json]]:
    return [
        (f"{method} {path}", operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]


def _resolved(described: Json, reference: str) -> Json:
    here: Any = described
    for step in reference.removeprefix("#/").split("/"):
        here = here[step.replace("~1", "/").replace("~0", "~")]
    found: Json = here
    return found


def _references(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_references, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
    return own.union(*map(_references, value.values()))


def _reachable(described: Json, start: Any) -> set[str]:
    """Names of all components that a part of the description refers to, however far away."""
    seen: set[str] = set()
    waiting = _references(start)
    while waiting:
        reference = waiting.pop()
        if reference not in seen:
            seen.add(reference)
            waiting |= _references(_resolved(described, reference))
    return {reference.rpartition("/")[2] for reference in seen}


def test_every_reference_leads_somewhere(described: Json) -> None:
    assert described["openapi"].startswith("3.1")
    for reference in _references(described):
        assert _resolved(described, reference)


def test_operations_have_names_of_their_own(described: Json) -> None:
    names = [operation["operationId"] for _, operation in _operations(described)]
    assert len(names) == len(set(names)) > 35


def test_every_operation_is_described_with_its_errors(described: Json) -> None:
    for name, operation in _operations(described):
        assert operation.get("summary"), name
        assert operation.get("description"), name
        if "/v1/" in name:
            assert {"401", "404", "422", "default"} <= set(operation["responses"]), name
            for status in ("401", "422", "default"):
                content = operation["responses"][status]["content"]
                assert "ProblemDocument" in _reachable(described, content), (name, status)
            assert operation["security"], name


def test_the_body_of_a_job_is_typed_to_the_last_variant(described: Json) -> None:
    body = described["paths"]["/v1/jobs"]["post"]["requestBody"]
    named = _reachable(described, body)
    variants = [
        *(entry.params for entry in METHODS.values()),
        *(entry.params for entry in SCHEMES.values()),
    ]
    wanted = {each.__name__ for each in variants}
    wanted |= {"SGD", "AdamW", "Constant", "Step", "Cosine", "NoAugmentation", "CropFlip"}
    assert wanted <= named
    for name in wanted:
        component = described["components"]["schemas"][name]
        assert component["description"], name
        assert "type" in component["properties"], name
        assert component["properties"]["type"]["const"], name
        assert component["additionalProperties"] is False


def test_unions_of_variants_are_told_apart_by_type(described: Json) -> None:
    training = described["components"]["schemas"]["Training"]["properties"]
    for field in ("optimizer", "schedule"):
        assert training[field]["discriminator"]["propertyName"] == "type"
    assert "discriminator" in str(training["augmentation"])
    assert "discriminator" in str(
        described["components"]["schemas"]["JobSpec"]["properties"]["method"]
    )


def test_events_are_offered_as_a_page_and_as_a_stream(described: Json) -> None:
    content = described["paths"]["/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
    assert {"application/json", "text/event-stream"} <= set(content)
    assert "EventPage" in _reachable(described, content)


def test_bytes_are_described_as_bytes(described: Json) -> None:
    for path in (
        "/v1/artifacts/{artifact_id}/content",
        "/v1/jobs/{job_id}/student",
        "/v1/models/{model_id}/weights",
    ):
        responses = described["paths"][path]["get"]["responses"]
        assert "application/octet-stream" in responses["200"]["content"], path
        assert {"206", "304", "416"} <= set(responses), path


def test_what_needs_no_key_is_reached_without_one(api_url: str) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/"):
        assert httpx.get(f"{api_url}{path}").status_code == 200, path


def test_answers_match_their_description(described: Json, trained_job: Any) -> None:
    schemas = described["components"]["schemas"]
    for path, name in (
        (f"/v1/jobs/{trained_job.job['id']}", "JobOut"),
        (f"/v1/datasets/{trained_job.dataset['id']}", "DatasetOut"),
        (f"/v1/artifacts/{trained_job.artifact['id']}", "ArtifactOut"),
        (f"/v1/jobs/{trained_job.job['id']}/report", "ReportOut"),
        ("/v1/methods/kd", "MethodOut"),
        ("/v1/schemes/offline", "SchemeOut"),
        ("/v1/architectures/cifar/resnet8", "ArchitectureOut"),
    ):
        answer = trained_job.client.get(path).raise_for_status().json()
        assert set(answer) == set(schemas[name]["properties"]), path


def test_what_creates_takes_a_key_and_what_may_be_forbidden_says_so(described: Json) -> None:
    creating = [each for name, each in _operations(described) if "201" in each["responses"]]
    assert len(creating) == 7
    for operation in creating:
        names = [each["name"] for each in operation.get("parameters", [])]
        assert "Idempotency-Key" in names, operation["operationId"]
    for wish in ("cancel", "pause", "resume", "retry"):
        responses = described["paths"][f"/v1/jobs/{{job_id}}/{wish}"]["post"]["responses"]
        assert "409" in responses, wish
