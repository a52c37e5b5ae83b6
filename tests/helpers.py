"""What tests send to the API, and what they ask of its answers."""

import hashlib
import io
import zipfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import numpy as np
from PIL import Image

Json = dict[str, Any]


def in_a_thread(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Run asynchronous code; a browser of the same session has a loop in the main thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(anyio.run, function, *args).result()


def upload(client: httpx.Client, data: bytes, filename: str = "upload.bin") -> str:
    """Send bytes in parts and complete them; the upload's id."""
    digest = hashlib.sha256(data).hexdigest()
    body = {"filename": filename, "size_bytes": len(data), "sha256": digest}
    begun = client.post("/v1/uploads", json=body).raise_for_status().json()
    position = 0
    for part in begun["parts"]:
        piece = data[position : position + part["size_bytes"]]
        client.put(part["url"], content=piece).raise_for_status()
        position += part["size_bytes"]
    client.post(f"/v1/uploads/{begun['id']}/complete").raise_for_status()
    return str(begun["id"])


def problem(answer: httpx.Response, status: int, code: str | None = None) -> Json:
    """The problem document of an answer, which must be whole."""
    assert answer.status_code == status, f"{answer.status_code}: {answer.text[:2000]}"
    assert answer.headers["content-type"] == "application/problem+json"
    document: Json = answer.json()
    wanted = {"type", "title", "status", "detail", "instance", "code", "request_id"}
    assert wanted <= set(document), document
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    assert code in (None, document["code"]), document
    if status == 422:
        assert document["errors"], "a 422 names each fault"
        assert all({"pointer", "code", "detail"} <= set(fault) for fault in document["errors"])
    return document


def faults(answer: httpx.Response) -> dict[str, str]:
    """Pointer and code of each fault of a 422."""
    return {fault["pointer"]: fault["code"] for fault in problem(answer, 422)["errors"]}


def job(dataset: Json, /, **changes: Any) -> Json:
    """A job that takes seconds."""
    return {
        "student": {"architecture": "cifar/resnet8"},
        "dataset": dataset["id"],
        "training": {"epochs": 1, "batch_size": 256},
    } | changes


def posted(client: httpx.Client, dataset: Json, /, **changes: Any) -> Json:
    answer: Json = client.post("/v1/jobs", json=job(dataset, **changes)).raise_for_status().json()
    return answer


def pages(client: httpx.Client, path: str, **query: Any) -> Iterator[list[Json]]:
    """Every page of a list."""
    cursor: Json = {}
    while True:
        page = client.get(path, params=query | cursor).raise_for_status().json()
        assert set(page) == {"data", "next_cursor"}
        yield page["data"]
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


def png(seed: int, size: int = 10) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def zipped(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def tree(classes: tuple[str, ...] = ("ant", "bee"), prefix: str = "", count: int = 6) -> Json:
    """Members of a good archive."""
    return {
        f"{prefix}{name}/{number}.png": png(hash((name, prefix, number)) % 2**32)
        for name in classes
        for number in range(count)
    }
