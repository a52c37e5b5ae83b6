"""Run a prediction in a subprocess with limits.

The subprocess decodes images of strangers. It therefore gets no secrets and has limits of memory,
CPU time and wall time. ONNX files lie in a disk cache, OnnxCache.
"""

import asyncio
import contextlib
import errno
import functools
import json
import os
import shutil
import signal
import site
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import structlog

from api.http.problems import ProblemError
from api.models.onnx_export import ServableModel
from kdcore.protocol.requests import ExitCode, PredictRequest, ResourceLimits
from store import object_store
from store.settings import settings

_STALE_S = 3600
"""Age of leftovers of a killed process: no prediction takes a minute."""
_MAX_ATTEMPTS = 3


class OnnxCache:
    """ONNX files in ``work_dir/onnx``; several processes may share the folder.

    The folders of running predictions lie beside it, because hard links need the same disk.
    """

    def __init__(self, work_dir: Path, max_bytes: int) -> None:
        self._folder = work_dir / "onnx"
        self._predictions = work_dir / "predictions"
        self._max_bytes = max_bytes

    def predictions_dir(self) -> Path:
        """The parent of the folders of running predictions."""
        self._predictions.mkdir(parents=True, exist_ok=True)
        return self._predictions

    def link(self, key: str, sha256: str, size: int, target: Path) -> None:
        """Link the object ``key`` to ``target``, which survives a deletion from the cache.

        Raises:
            ObjectStoreUnavailableError: the object store does not respond, or its object is missing
                or damaged.
        """
        path = self._folder / sha256
        for _ in range(_MAX_ATTEMPTS):
            if _try_link(path, target):
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(size)
            try:
                object_store.fetch([key], path, sha256)
            except object_store.CorruptBlobError as error:
                raise object_store.ObjectStoreUnavailableError(str(error)) from error
        raise object_store.ObjectStoreUnavailableError(
            f"other predictions deleted {path} from the cache {_MAX_ATTEMPTS} times"
        )

    def _make_room(self, size: int) -> None:
        """Delete leftovers, and the least recently used files until ``size`` bytes fit."""
        old = time.time() - _STALE_S
        files = []
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process deletes files, too
                stat = path.stat()
                if path.suffix != ".part":
                    files.append((stat.st_mtime, stat.st_size, path))
                elif stat.st_mtime < old:
                    path.unlink()
        free_bytes = self._max_bytes - size - sum(file_size for _, file_size, _ in files)
        for _, file_size, path in sorted(files):
            if free_bytes >= 0:
                break
            path.unlink(missing_ok=True)
            free_bytes += file_size
        for leftover in self.predictions_dir().iterdir():
            with contextlib.suppress(FileNotFoundError):
                if leftover.stat().st_mtime < old:
                    shutil.rmtree(leftover, ignore_errors=True)


def _try_link(path: Path, target: Path) -> bool:
    try:
        os.utime(path)
        target.hardlink_to(path)
    except FileNotFoundError:
        return False
    return True


log = structlog.get_logger()
_ENV_PASSED = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_MAX_OUTPUT_BYTES = 4 * 2**20
"""Many times the output for the largest request."""
_REPO_ROOT = Path(__file__).parents[2]


class Prediction(NamedTuple):
    """One entry for each image, and the run time of the subprocess."""

    data: list[dict[str, Any]]
    duration_ms: float


class PredictionLimiter:
    """Limits the predictions of this API process: pending ones in all, and running ones."""

    def __init__(self, max_pending: int, max_running: int, queue_timeout_s: float) -> None:
        self._available = max_pending
        self._max_per_project = max(1, max_pending // 2)
        self._pending: Counter[str] = Counter()
        self._slots = asyncio.Semaphore(max_running)
        self._queue_timeout_s = queue_timeout_s

    @contextlib.asynccontextmanager
    async def reserve(self, project_id: str) -> AsyncIterator[None]:
        """Count a request as pending. A project may have at most half of all pending requests.

        Raises:
            ProblemError: 429 if too many requests are pending.
        """
        if self._available == 0 or self._pending[project_id] >= self._max_per_project:
            raise _busy()
        self._available -= 1
        self._pending[project_id] += 1
        try:
            yield
        finally:
            self._available += 1
            self._pending[project_id] -= 1
            self._pending += Counter()  # removes projects with a count of 0

    @contextlib.asynccontextmanager
    async def acquire_slot(self) -> AsyncIterator[None]:
        """Wait until another prediction may run.

        Raises:
            ProblemError: 429 after ``queue_timeout_s``.
        """
        try:
            async with asyncio.timeout(self._queue_timeout_s):
                await self._slots.acquire()
        except TimeoutError:
            raise _busy() from None
        try:
            yield
        finally:
            self._slots.release()


@functools.cache
def prediction_limiter() -> PredictionLimiter:
    """The limiter of this process."""
    config = settings()
    return PredictionLimiter(
        config.predict_max_pending, config.predict_slots, config.predict_queue_timeout_s
    )


def _busy() -> ProblemError:
    detail = "too many predictions are running; retry after Retry-After"
    return ProblemError(429, "busy", detail, headers={"Retry-After": "1"})


async def predict(model: ServableModel, images: Sequence[bytes], k: int) -> Prediction:
    """Run the model's ONNX file on ``images`` and return the ``k`` most likely classes of each.

    Raises:
        ObjectStoreUnavailableError: the ONNX file is unavailable.
        OSError: the disk is full.
        ProblemError: 422 if the images need too much memory or time, 429 or 503 under load.
    """
    async with prediction_limiter().acquire_slot():
        folder = Path(tempfile.mkdtemp(dir=_onnx_cache().predictions_dir()))
        try:
            await anyio.to_thread.run_sync(_write_inputs, folder, model, images, k)
            started = time.perf_counter()
            code = await run_subprocess(folder, settings().predict_wall_s)
            duration_ms = (time.perf_counter() - started) * 1000
            return Prediction(read_predictions(folder, code), round(duration_ms, 1))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _onnx_cache() -> OnnxCache:
    return OnnxCache(settings().work_dir, settings().onnx_cache_bytes)


def _write_inputs(folder: Path, model: ServableModel, images: Sequence[bytes], k: int) -> None:
    """Write the files that the subprocess reads into ``folder``."""
    _onnx_cache().link(model.object_key, model.sha256, model.size_bytes, folder / "model.onnx")
    for index, image in enumerate(images):
        (folder / f"{index}.image").write_bytes(image)
    request = PredictRequest(
        path=str(folder / "model.onnx"),
        images=tuple(str(folder / f"{index}.image") for index in range(len(images))),
        input_size=model.input_size,
        normalization=model.normalization,
        sixteen_bit_range=model.sixteen_bit_range,
        classes=tuple(model.class_names) if model.class_names else None,
        k=k,
        threads=1,
        limits=ResourceLimits(
            memory_bytes=settings().predict_memory_bytes,
            cpu_s=settings().predict_cpu_s,
            file_bytes=_MAX_OUTPUT_BYTES,
        ),
    )
    (folder / "request.json").write_text(request.model_dump_json(), encoding="utf-8")


async def run_subprocess(folder: Path, wall_s: float) -> int:
    """Run ``kdcore predict`` on ``request.json`` in ``folder``; return its exit code.

    Raises:
        ProblemError: 503 after ``wall_s`` seconds; the subprocess and its children are killed.
    """
    with (folder / "predictions.json").open("wb") as out, (folder / "stderr.log").open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kdcore", "predict", "request.json", "--supervised"),
            # The subprocess exits when its standard input closes, also if this process is killed.
            stdin=asyncio.subprocess.PIPE,
            stdout=out,
            stderr=err,
            cwd=folder,
            env=subprocess_env(folder),
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(wall_s):
            return await process.wait()
    except TimeoutError:
        detail = f"the prediction took more than {wall_s:g} s: send fewer images, or retry"
        raise ProblemError(503, "timed_out", detail, headers={"Retry-After": "1"}) from None
    finally:
        await _kill(process)


async def _kill(process: Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if process.stdin is not None:
            process.stdin.close()


def subprocess_env(folder: Path) -> dict[str, str]:
    """Environment of the subprocess: no address, no password."""
    return {name: os.environ[name] for name in _ENV_PASSED if name in os.environ} | {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(_REPO_ROOT),
        "PYTHONSAFEPATH": "1",
        "PYTHONUTF8": "1",
        "PYTHONUSERBASE": site.getuserbase(),
    }


def read_predictions(folder: Path, code: int) -> list[dict[str, Any]]:
    """The output of a subprocess that ended with ``code``, one entry for each image.

    Raises:
        OSError: the disk is full.
        ProblemError: 422 if the images need too much memory or time.
    """
    if code == ExitCode.DONE:
        output = json.loads((folder / "predictions.json").read_bytes())
        predictions: list[dict[str, Any]] = output["predictions"]
        return predictions
    if code == ExitCode.USER_ERROR:
        detail = json.loads((folder / "predictions.json").read_bytes())["error"]
        raise _too_expensive(f"{detail}: send fewer or smaller images")
    if code == ExitCode.NO_SPACE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    stderr = (folder / "stderr.log").read_bytes()[-4000:].decode("utf-8", "replace")
    log.error("prediction_crashed", exit=code, stderr=stderr)
    if code < 0:
        # A library ran out of memory, or a hostile image crashed it.
        raise _too_expensive("the images crashed the prediction: send fewer or smaller images")
    raise RuntimeError(f"the prediction ended with exit code {code}")


def _too_expensive(detail: str) -> ProblemError:
    return ProblemError(422, "too_much_work", detail)
