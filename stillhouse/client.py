"""`Client`: a client of the REST API, to submit jobs, wait for them and download students."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self, TypedDict

import httpx

from kdcore.schema.report import Report
from stillhouse.connection import UNAVAILABLE_STATUSES, ApiConnection
from stillhouse.errors import (
    ApiError,
    ArtifactNotFoundError,
    ChecksumError,
    ConnectionSettingsError,
    ResourceFailedError,
    ServiceUnreachableError,
    StillhouseError,
    UnexpectedResponseError,
)

__all__ = [
    "ApiError",
    "ArtifactInfo",
    "ArtifactNotFoundError",
    "ChecksumError",
    "Client",
    "ConnectionSettingsError",
    "ResourceFailedError",
    "ServiceUnreachableError",
    "StillhouseError",
    "UnexpectedResponseError",
]

Json = dict[str, Any]
POLL_S = 0.5
UNAVAILABLE_TIMEOUT_S = 300.0


class ArtifactInfo(TypedDict):
    """A file that a job has published. ``size_bytes`` is in bytes, ``sha256`` in hex."""

    id: str
    job: str
    name: str
    format: str
    media_type: str
    size_bytes: int
    sha256: str
    created_at: str
    links: dict[str, str]


class Client:
    """A client of one Stillhouse with one API key. Every error is a `StillhouseError`.

    Args:
        url: the address of the API, for instance ``http://127.0.0.1:8000``.
        api_key: an API key; the local stack writes its first key to ``DATA_DIR/api-key``.

    Raises ConnectionSettingsError if one of them cannot be used.
    """

    def __init__(self, url: str, api_key: str) -> None:
        self._connection = ApiConnection(url)
        self._http = self._connection.open(api_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Json:
        """GET a resource.

        Raises:
            ApiError: the API refused the request.
            ServiceUnreachableError: no response came.
        """
        return self._json(self._request("GET", path, params=params))

    def post(self, path: str, body: Json | None = None, **params: Any) -> Json:
        """POST a body. Retries until a response comes, four times at most.

        All tries have the same idempotency key, so the API carries the request out once.
        """
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        for pause_s in (0.5, 2.0, 8.0, None):
            try:
                response = self._request("POST", path, json=body, params=params, headers=headers)
                return self._json(response)
            except StillhouseError as error:
                if not _is_transient(error) or pause_s is None:
                    raise
                time.sleep(pause_s)
        raise AssertionError("unreachable: the last try returns or raises")

    def cancel(self, job: Json | str) -> Json:
        """Cancel a job. A running job is `cancelling` until its worker has stopped it."""
        return self._post_action(job, "cancel")

    def pause(self, job: Json | str) -> Json:
        """Pause a job: its worker writes a checkpoint and takes another job."""
        return self._post_action(job, "pause")

    def resume(self, job: Json | str) -> Json:
        """Resume a paused job from its checkpoint."""
        return self._post_action(job, "resume")

    def retry(self, job: Json | str) -> Json:
        """Run a failed job again, from its last checkpoint."""
        return self._post_action(job, "retry")

    def _post_action(self, job: Json | str, action: str) -> Json:
        job_id = job if isinstance(job, str) else job["id"]
        return self.post(f"/v1/jobs/{job_id}/{action}")

    def upload(self, path: Path | str) -> str:
        """Upload a file in parts and return the id of the complete, verified upload."""
        path = Path(path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.seek(0, 2)
            body = {"filename": path.name, "size_bytes": size, "sha256": sha256}
            upload = self.post("/v1/uploads", body)
            file.seek(0)
            for part in upload["parts"]:
                content = file.read(part["size_bytes"])
                self._json(self._request("PUT", part["url"], content=content))
        self.post(f"/v1/uploads/{upload['id']}/complete")
        return str(upload["id"])

    def wait(self, resource: Json, on_update: Callable[[Json], None] | None = None) -> Json:
        """Poll a data set, model or job until it is ready or has succeeded, and return it.

        Waits up to five minutes while the service is unavailable.

        Args:
            resource: the JSON of the resource; only its ``links`` are read.
            on_update: called with every response.

        Raises:
            ResourceFailedError: the resource failed or was cancelled.
        """
        last_response_at = time.monotonic()
        while True:
            try:
                resource = self.get(resource["links"]["self"])
            except StillhouseError as error:
                unavailable_s = time.monotonic() - last_response_at
                if not _is_transient(error) or unavailable_s > UNAVAILABLE_TIMEOUT_S:
                    raise
                time.sleep(POLL_S)
                continue
            last_response_at = time.monotonic()
            if on_update is not None:
                on_update(resource)
            if resource["state"] in ("ready", "succeeded"):
                return resource
            if resource["state"] in ("failed", "cancelled"):
                raise ResourceFailedError(resource)
            time.sleep(POLL_S)

    def predict(self, model: Json | str, paths: Iterable[Path | str], k: int = 5) -> list[Json]:
        """Classify up to 16 image files with a model of the service.

        The first prediction waits until a worker has converted the model to ONNX.

        Returns:
            One entry per image: ``{"top": [...]}`` with `k` classes, or ``{"error": ...}``.
        """
        path = f"/v1/models/{model if isinstance(model, str) else model['id']}/predict"
        files = [
            ("images", (Path(image_path).name, Path(image_path).read_bytes()))
            for image_path in paths
        ]
        while True:
            response = self._request("POST", path, files=files, data={"k": str(k)})
            try:
                data: list[Json] = self._json(response)["data"]
            except ApiError as error:
                if error.code != "preparing":
                    raise
                time.sleep(float(response.headers["retry-after"]))
            else:
                return data

    def report(self, job: Json) -> Report:
        """Return the report of a job that has succeeded: accuracies, sizes, latencies, verdict."""
        return Report.model_validate(self.get(job["links"]["report"]), extra="ignore")

    def artifacts(self, job: Json) -> list[ArtifactInfo]:
        """Return the files that a job has published."""
        return list(self._rows(f"/v1/jobs/{job['id']}/artifacts"))

    def download(self, artifact: ArtifactInfo, folder: Path | str) -> Path:
        """Download a file into a folder and return its path.

        The file appears under its name only after its SHA-256 was checked.

        Raises:
            ChecksumError: the bytes differ from the published file.
        """
        target = Path(folder) / artifact["name"]
        temporary = target.with_name(f".{target.name}.part")
        if self._download(artifact["links"]["content"], temporary) != artifact["sha256"]:
            temporary.unlink()
            raise ChecksumError(f"{artifact['name']} was damaged in transit; download it again")
        temporary.replace(target)
        return target

    def fetch(self, job: Json, name: str, folder: Path | str) -> Path:
        """Download the file of a job that has this name, for instance ``student.onnx``.

        Raises:
            ArtifactNotFoundError: the job has no such file; the message lists its files.
            ChecksumError: the bytes differ from the published file.
        """
        files = {artifact["name"]: artifact for artifact in self.artifacts(job)}
        if name not in files:
            names = ", ".join(sorted(files)) or "none yet"
            raise ArtifactNotFoundError(f"{job['id']} has no file {name!r}; it has: {names}")
        return self.download(files[name], folder)

    def _rows(self, path: str) -> Iterator[Any]:
        cursor = None
        while True:
            page = self.get(path, **({"cursor": cursor} if cursor else {}))
            yield from page["data"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._connection.unreachable(error) from error

    def _download(self, path: str, target: Path) -> str:
        """Stream a response into a file and return the SHA-256 of its bytes."""
        digest = hashlib.sha256()
        try:
            with self._http.stream("GET", path) as response:
                if response.is_error:
                    response.read()
                    raise self._connection.refusal(response)
                with target.open("wb") as file:
                    for chunk in response.iter_bytes():
                        digest.update(chunk)
                        file.write(chunk)
        except httpx.TransportError as error:
            raise self._connection.unreachable(error) from error
        return digest.hexdigest()

    def _json(self, response: httpx.Response) -> Json:
        try:
            body = None if response.is_error else response.json()
        except ValueError:  # a page of a proxy or of another program
            body = None
        if not isinstance(body, dict):
            raise self._connection.refusal(response)
        return body


def _is_transient(error: StillhouseError) -> bool:
    """Whether the same request may succeed later, because the service is unavailable."""
    if isinstance(error, ApiError):
        return error.status in UNAVAILABLE_STATUSES
    return isinstance(error, ServiceUnreachableError)
