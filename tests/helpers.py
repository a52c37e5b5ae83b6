"""Request bodies, uploads, waits and assertions on responses, for the tests of several rooms."""

import hashlib
import io
import time
import zipfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import numpy as np
from PIL import Image

Json = dict[str, Any]


def run_in_thread(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Run asynchronous code in a new thread: with a browser fixture the main thread has a loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(anyio.run, function, *args).result()


def wait_until(condition: Callable[[], bool], seconds: float, description: str) -> None:
    """Poll until the condition holds.

    Raises:
        TimeoutError: the condition did not hold within ``seconds``; ``description`` says which.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"not within {seconds} s: {description}")
        time.sleep(0.05)


def upload(client: httpx.Client, data: bytes, filename: str = "upload.bin") -> str:
    """Upload bytes in parts and return the upload's id."""
    digest = hashlib.sha256(data).hexdigest()
    body = {"filename": filename, "size_bytes": len(data), "sha256": digest}
    created = client.post("/v1/uploads", json=body).raise_for_status().json()
    position = 0
    for part in created["parts"]:
        content = data[position : position + part["size_bytes"]]
        client.put(part["url"], content=content).raise_for_status()
        position += part["size_bytes"]
    client.post(f"/v1/uploads/{created['id']}/complete").raise_for_status()
    return str(created["id"])


def assert_problem(response: httpx.Response, status: int, code: str | None = None) -> Json:
    """Assert that a response is a complete problem document, and return the document."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:2000]}"
    assert response.headers["content-type"] == "application/problem+json"
    document: Json = response.json()
    fields = {"type", "title", "status", "detail", "instance", "code", "request_id"}
    assert fields <= set(document), document
    assert document["status"] == status
    assert document["request_id"] == response.headers["x-request-id"]
    assert code in (None, document["code"]), document
    if status == 422:
        assert document["errors"], "a 422 lists its validation issues"
        assert all({"pointer", "code", "detail"} <= set(issue) for issue in document["errors"])
    return document


def issue_codes(response: httpx.Response) -> dict[str, str]:
    """Codes of the validation issues of a 422 response, by JSON pointer."""
    return {issue["pointer"]: issue["code"] for issue in assert_problem(response, 422)["errors"]}


def job_body(dataset: Json, /, **changes: Any) -> Json:
    """The body of a job that trains for seconds, with changes."""
    return {
        "student": {"architecture": "cifar/resnet8"},
        "dataset": dataset["id"],
        "training": {"epochs": 1, "batch_size": 256},
    } | changes


def submit_job(client: httpx.Client, dataset: Json, /, **changes: Any) -> Json:
    """Submit the job of ``job_body`` and return it."""
    submitted: Json = (
        client.post("/v1/jobs", json=job_body(dataset, **changes)).raise_for_status().json()
    )
    return submitted


def list_pages(client: httpx.Client, path: str, **query: Any) -> Iterator[list[Json]]:
    """Yield the rows of each page of a list."""
    cursor: Json = {}
    while True:
        page = client.get(path, params=query | cursor).raise_for_status().json()
        if set(page) != {"data", "next_cursor"}:
            raise ValueError(f"{path}: a page has data and next_cursor alone, not {sorted(page)}")
        yield page["data"]
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


def png_bytes(seed: int, size: int = 10) -> bytes:
    """A square PNG of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def zip_bytes(members: Mapping[str, bytes]) -> bytes:
    """A zip archive of the members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def image_tree(classes: tuple[str, ...] = ("ant", "bee"), prefix: str = "", count: int = 6) -> Json:
    """Files of a valid image folder: a folder for each class, ``count`` images in each."""
    return {
        f"{prefix}{name}/{number}.png": png_bytes(hash((name, prefix, number)) % 2**32)
        for name in classes
        for number in range(count)
    }
