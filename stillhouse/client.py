"""A client of the REST API: post a job, wait for it, take the student home."""

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx

Json = dict[str, Any]
POLL_S = 0.5
UNAVAILABLE_STATUSES = (502, 503, 504)
UNAVAILABLE_TIMEOUT_S = 300.0


class ApiError(Exception):
    """The service refused: its problem document's code, detail and faults."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        try:
            self.problem: Json = response.json()
        except ValueError:
            self.problem = {"detail": response.text[:500]}
        self.code = self.problem.get("code", "")
        issues = [
            f"\n  {issue['pointer'] or 'the body'}: {issue['detail']}"
            for issue in self.problem.get("errors") or []
        ]
        super().__init__(f"{self.status} {self.problem.get('detail', '')}{''.join(issues)}")


class ResourceFailedError(Exception):
    """A job, data set or model did not come out: what the service says of it."""

    def __init__(self, resource: Json) -> None:
        self.resource = resource
        error = resource.get("error") or {}
        items = [f"\n  {item['name']}: {item['detail']}" for item in error.get("items") or []]
        text = error.get("message", "")
        hint = f"\n  hint: {error['hint']}" if error.get("hint") else ""
        super().__init__(
            f"{resource['object']} {resource['id']} is {resource['state']}: {text}"
            f"{hint}{''.join(items)}"
        )


class ChecksumError(Exception):
    """A download's SHA-256 is not the one that the service gave."""


class ArtifactNotFoundError(Exception):
    """A job has no file of that name."""


def _is_transient(error: Exception) -> bool:
    """Whether the service, or the way to it, is away: later it may answer."""
    return not isinstance(error, ApiError) or error.status in UNAVAILABLE_STATUSES


class Client:
    """Speaks to one Stillhouse with one API key.

    Args:
        url: the service's address, for instance ``http://127.0.0.1:8000``.
        api_key: a key; the embedded stack keeps its first one in ``DATA_DIR/api-key``.
    """

    def __init__(self, url: str, api_key: str) -> None:
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {api_key.strip()}"}, timeout=60
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Json:
        """GET a resource; raises ApiError."""
        return self._json(self._http.get(path, params=params))

    def post(self, path: str, body: Json | None = None, **params: Any) -> Json:
        """POST. Repeated while no answer comes, with one idempotency key: it is done once."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        for pause_s in (0.5, 2.0, 8.0, None):
            try:
                return self._json(self._http.post(path, json=body, params=params, headers=headers))
            except (httpx.TransportError, ApiError) as error:
                if not _is_transient(error) or pause_s is None:
                    raise
                time.sleep(pause_s)
        raise AssertionError("the last try answers or raises")

    def cancel(self, job: Json | str) -> Json:
        """End a job; its worker may take some seconds to let go of it."""
        return self._post_action(job, "cancel")

    def pause(self, job: Json | str) -> Json:
        """Let a job rest: its worker writes a checkpoint and is free for others."""
        return self._post_action(job, "pause")

    def resume(self, job: Json | str) -> Json:
        """Let a paused job go on where it was."""
        return self._post_action(job, "resume")

    def retry(self, job: Json | str) -> Json:
        """Give a failed job another run, from its last checkpoint on."""
        return self._post_action(job, "retry")

    def _post_action(self, job: Json | str, action: str) -> Json:
        job_id = job if isinstance(job, str) else job["id"]
        return self.post(f"/v1/jobs/{job_id}/{action}")

    def upload(self, path: Path | str) -> str:
        """Send a file in parts and have it verified; the id of the complete upload."""
        path = Path(path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.seek(0, 2)
            body = {"filename": path.name, "size_bytes": size, "sha256": sha256}
            upload = self.post("/v1/uploads", body)
            file.seek(0)
            for part in upload["parts"]:
                content = file.read(part["size_bytes"])
                self._json(self._http.put(part["url"], content=content))
        self.post(f"/v1/uploads/{upload['id']}/complete")
        return str(upload["id"])

    def wait(self, resource: Json, on_update: Callable[[Json], None] | None = None) -> Json:
        """Poll a data set, model or job until it has ended well; raises Failed if it has not.

        A service that is away for less than five minutes is waited for.
        """
        answered_at = time.monotonic()
        while True:
            try:
                resource = self.get(resource["links"]["self"])
            except (httpx.TransportError, ApiError) as error:
                if (
                    not _is_transient(error)
                    or time.monotonic() - answered_at > UNAVAILABLE_TIMEOUT_S
                ):
                    raise
                time.sleep(POLL_S)
                continue
            answered_at = time.monotonic()
            if on_update is not None:
                on_update(resource)
            if resource["state"] in ("ready", "succeeded"):
                return resource
            if resource["state"] in ("failed", "cancelled"):
                raise ResourceFailedError(resource)
            time.sleep(POLL_S)

    def predict(self, model: Json | str, paths: Iterable[Path | str], k: int = 5) -> list[Json]:
        """Ask a model about image files, 16 at most: for each ``{"top": [...]}`` or ``{"error"}``.

        The first time, the model is made ready, which is waited for.
        """
        path = f"/v1/models/{model if isinstance(model, str) else model['id']}/predict"
        files = [
            ("images", (Path(image_path).name, Path(image_path).read_bytes()))
            for image_path in paths
        ]
        while True:
            response = self._http.post(path, files=files, data={"k": str(k)})
            try:
                data: list[Json] = self._json(response)["data"]
            except ApiError as error:
                if error.code != "preparing":
                    raise
                time.sleep(float(response.headers["retry-after"]))
            else:
                return data

    def artifacts(self, job: Json) -> list[Json]:
        """The files that a job has published."""
        return list(self._pages(f"/v1/jobs/{job['id']}/artifacts"))

    def download(self, artifact: Json, folder: Path | str) -> Path:
        """Fetch a file and check its SHA-256; it appears whole and right, or not at all."""
        target = Path(folder) / str(artifact["name"])
        temporary = target.with_name(f".{target.name}.part")
        digest = hashlib.sha256()
        with self._http.stream("GET", artifact["links"]["content"]) as response:
            if response.is_error:
                response.read()
                raise ApiError(response)
            with temporary.open("wb") as file:
                for chunk in response.iter_bytes():
                    digest.update(chunk)
                    file.write(chunk)
        if digest.hexdigest() != artifact["sha256"]:
            temporary.unlink()
            raise ChecksumError(f"{artifact['name']} arrived damaged; download it again")
        temporary.replace(target)
        return target

    def fetch(self, job: Json, name: str, folder: Path | str) -> Path:
        """Download one of a job's files by its name, for instance ``student.onnx``.

        Raises Missing, which names the files that there are, and what :meth:`download` raises.
        """
        files = {str(artifact["name"]): artifact for artifact in self.artifacts(job)}
        if name not in files:
            known = ", ".join(sorted(files)) or "none yet"
            raise ArtifactNotFoundError(f"{job['id']} has no file {name!r}; it has: {known}")
        return self.download(files[name], folder)

    def _pages(self, path: str) -> Iterator[Json]:
        cursor = None
        while True:
            page = self.get(path, **({"cursor": cursor} if cursor else {}))
            yield from page["data"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    @staticmethod
    def _json(response: httpx.Response) -> Json:
        if response.is_error:
            raise ApiError(response)
        answer: Json = response.json()
        return answer
