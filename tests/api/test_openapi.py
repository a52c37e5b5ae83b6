"""The OpenAPI document is complete, so that generated clients are typed."""

from typing import Any

import httpx
import pytest

from kdcore.schema.methods import METHODS
from kdcore.schema.schemes import SCHEMES

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document(api_url: str) -> Json:
    document: Json = httpx.get(f"{api_url}/openapi.json", timeout=60).raise_for_status().json()
    return document


def _operations(document: Json) -> list[tuple[str, Json]]:
    return [
        (f"{method} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def _resolve(document: Json, reference: str) -> Json:
    node: Any = document
    for step in reference.removeprefix("#/").split("/"):
        node = node[step.replace("~1", "/").replace("~0", "~")]
    component: Json = node
    return component


def _references(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_references, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    references = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
    return references.union(*map(_references, value.values()))


def _reachable(document: Json, start: Any) -> set[str]:
    """Names of all components that a part of the document refers to, directly or indirectly."""
    seen: set[str] = set()
    waiting = _references(start)
    while waiting:
        reference = waiting.pop()
        if reference not in seen:
            seen.add(reference)
            waiting |= _references(_resolve(document, reference))
    return {reference.rpartition("/")[2] for reference in seen}


def test_every_reference_resolves(document: Json) -> None:
    assert document["openapi"].startswith("3.1")
    for reference in _references(document):
        assert _resolve(document, reference)


def test_operation_ids_are_unique(document: Json) -> None:
    names = [operation["operationId"] for _, operation in _operations(document)]
    assert len(names) == len(set(names)) > 35
    assert {"list_jobs", "get_job_report", "create_api_key", "get_readiness"} <= set(names)


def test_every_operation_documents_its_errors(document: Json) -> None:
    for name, operation in _operations(document):
        assert operation.get("summary"), name
        assert operation.get("description"), name
        if "/v1/" in name:
            assert {"401", "404", "422", "default"} <= set(operation["responses"]), name
            for status in ("401", "422", "default"):
                content = operation["responses"][status]["content"]
                assert "ProblemDocument" in _reachable(document, content), (name, status)
            assert operation["security"], name


def test_every_variant_of_a_job_body_is_typed(document: Json) -> None:
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]
    reachable = _reachable(document, body)
    variants = [
        *METHODS.values(),
        *SCHEMES.values(),
    ]
    expected = {variant.__name__ for variant in variants}
    expected |= {"SGD", "AdamW", "ConstantSchedule", "StepSchedule", "CosineSchedule"}
    expected |= {"NoAugmentation", "CropFlip"}
    assert expected <= reachable
    for name in expected:
        component = document["components"]["schemas"][name]
        assert component["description"], name
        assert "type" in component["properties"], name
        assert component["properties"]["type"]["const"], name
        assert component["additionalProperties"] is False


def test_unions_are_discriminated_by_type(document: Json) -> None:
    training = document["components"]["schemas"]["TrainingConfig"]["properties"]
    for field in ("optimizer", "schedule"):
        assert training[field]["discriminator"]["propertyName"] == "type"
    assert "discriminator" in str(training["augmentation"])
    assert "discriminator" in str(
        document["components"]["schemas"]["JobSpec"]["properties"]["method"]
    )


def test_events_are_a_page_or_a_stream(document: Json) -> None:
    content = document["paths"]["/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
    assert {"application/json", "text/event-stream"} <= set(content)
    assert "EventPage" in _reachable(document, content)


def test_downloads_are_documented_as_bytes(document: Json) -> None:
    for path in (
        "/v1/artifacts/{artifact_id}/content",
        "/v1/jobs/{job_id}/student",
        "/v1/models/{model_id}/weights",
    ):
        responses = document["paths"][path]["get"]["responses"]
        assert "application/octet-stream" in responses["200"]["content"], path
        assert {"206", "304", "416"} <= set(responses), path


def test_public_paths_need_no_key(api_url: str) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/"):
        assert httpx.get(f"{api_url}{path}").status_code == 200, path


def test_responses_match_their_schema(document: Json, trained_job: Any) -> None:
    schemas = document["components"]["schemas"]
    for path, name in (
        (f"/v1/jobs/{trained_job.job['id']}", "JobOut"),
        (f"/v1/datasets/{trained_job.dataset['id']}", "DatasetOut"),
        (f"/v1/artifacts/{trained_job.artifact['id']}", "ArtifactOut"),
        (f"/v1/jobs/{trained_job.job['id']}/report", "ReportOut"),
        ("/v1/methods/kd", "MethodOut"),
        ("/v1/schemes/offline", "SchemeOut"),
        ("/v1/architectures/cifar/resnet8", "ArchitectureOut"),
    ):
        response = trained_job.client.get(path).raise_for_status().json()
        assert set(response) == set(schemas[name]["properties"]), path


def test_creating_operations_take_a_key_and_actions_document_409(document: Json) -> None:
    creating = [entry for name, entry in _operations(document) if "201" in entry["responses"]]
    assert len(creating) == 7
    for operation in creating:
        names = [entry["name"] for entry in operation.get("parameters", [])]
        assert "Idempotency-Key" in names, operation["operationId"]
    for action in ("cancel", "pause", "resume", "retry"):
        responses = document["paths"][f"/v1/jobs/{{job_id}}/{action}"]["post"]["responses"]
        assert "409" in responses, action
