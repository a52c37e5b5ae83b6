"""Images per second and memory of ingestion: a zip, a folder of the server, and an S3 prefix.

    python -m bench.ingest [--images 20000] [--from zip folder s3]

The images are JPEG files of 160 by 120 pixels in ten class folders: gradients with noise, each with
pixels of its own. The zip lies on the worker's disk already, as after an upload; the S3 server is
SeaweedFS on this machine. Each ingestion runs in a worker process of its own, which starts the
engine as workers do. Memory is the peak of the resident set of each of the two processes.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import obstore
from obstore.store import S3Store
from PIL import Image

from kdcore.protocol.requests import IngestRequest
from kdcore.schema.dataset_sources import parse_file_source
from stillhouse.local.supervise.process_spec import ProcessSpec
from store.settings import settings
from tests.chaos.weed import BUCKET, Weed
from tests.helpers import wait_until
from worker.engine.engine_process import EngineProcess, base_environment, run_environment
from worker.sources.file_readers import FileReader, FolderReader
from worker.sources.s3_reader import S3Reader
from worker.sources.source_server import SourceServer

WIDTH, HEIGHT, QUALITY, CLASSES = 160, 120, 90, 10
ORIGINS = ("zip", "folder", "s3")
PREFIX = "images"


def main() -> None:
    """Prepare the images, and print the speed and the memory from each origin."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--from", dest="origins", nargs="+", choices=ORIGINS, default=ORIGINS)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        run_worker(*options.worker, options.images)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / PREFIX, options.images)
        print(f"load {os.getloadavg()[0]:.1f}, {options.images} images")
        print("| from | images/s | s | engine, MiB | worker, MiB |\n|---|---|---|---|---|")
        for origin in options.origins:
            print_row(origin, folder, options.images)
        print(f"load {os.getloadavg()[0]:.1f}")


def write_images(folder: Path, count: int) -> None:
    """Write JPEG files into class folders."""
    generator = np.random.default_rng(0)
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH, 0:1][:2]
    for index in range(count):
        slopes = generator.uniform(-1, 1, (2, 3))
        noise = generator.normal(0, 12, (HEIGHT, WIDTH, 3))
        values = 128 + slopes[0] * (down - HEIGHT / 2) + slopes[1] * (across - WIDTH / 2) + noise
        path = folder / f"class {index % CLASSES}" / f"{index:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
        image.save(path, quality=QUALITY)


def print_row(origin: str, folder: Path, count: int) -> None:
    """Ingest from one origin in a worker process, and print what it measured."""
    variables: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        if origin == "zip":
            write_zip(folder)
        elif origin == "s3":
            variables = stack.enter_context(s3_server(folder))
        command = (sys.executable, "-m", "bench.ingest", "--images", str(count), "--worker")
        result = subprocess.run(
            (*command, origin, str(folder)),
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            check=True,
        )
    measured = json.loads(result.stdout)
    seconds, engine, worker = measured["s"], measured["engine"], measured["worker"]
    print(f"| {origin} | {count / seconds:.0f} | {seconds:.1f} | {engine:.0f} | {worker:.0f} |")


def write_zip(folder: Path) -> None:
    """Pack the images without compression, as most tools do with JPEG files."""
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for path in sorted((folder / PREFIX).rglob("*.jpg")):
            archive.write(path, path.relative_to(folder / PREFIX))


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """Run an S3 server that has the images; yield the settings of a worker that reads it."""
    weed = Weed(folder / "weed")
    spec: ProcessSpec = weed.part({"PATH": os.defpath})
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            spec.argv, env=dict(spec.env), cwd=spec.cwd, stdout=log, stderr=log
        )
    try:
        assert spec.is_ready is not None
        wait_until(spec.is_ready, 120, "the S3 server responds")
        endpoint = f"http://127.0.0.1:{weed.port}"
        config: Any = {
            "endpoint": endpoint,
            "access_key_id": weed.key,
            "secret_access_key": weed.secret,
        }
        store = S3Store(
            BUCKET,
            config=config,
            client_options={"allow_http": True, "timeout": timedelta(seconds=60)},
        )
        for path in sorted((folder / PREFIX).rglob("*.jpg")):
            obstore.put(store, f"{PREFIX}/{path.relative_to(folder / PREFIX)}", path)
        yield {
            "STILLHOUSE_SOURCES_S3_ENDPOINT": endpoint,
            "STILLHOUSE_SOURCES_S3_ACCESS_KEY_ID": weed.key,
            "STILLHOUSE_SOURCES_S3_SECRET_ACCESS_KEY": weed.secret,
        }
    finally:
        process.kill()
        process.wait()


def run_worker(origin: str, folder_name: str, count: int) -> None:
    """Ingest as a worker does, and print seconds and memory as JSON."""
    folder = Path(folder_name)
    work = folder / f"work-{origin}"
    work.mkdir()
    os.environ |= {
        "STILLHOUSE_DATABASE_URL": "postgresql+psycopg://none@127.0.0.1/none",
        "STILLHOUSE_BROKER_URL": "redis://127.0.0.1:9/0",
        "STILLHOUSE_SECRET_KEY": "-" * 32,
        "STILLHOUSE_WORK_DIR": str(work),
    }
    started = time.monotonic()
    server = open_server(origin, folder)
    request = IngestRequest(
        source="archive",
        path=None if server else str(folder / "images.zip"),
        channel=server.engine_fd if server else None,
        resume_dir=str(work / "resume") if server else None,
    )
    engine = EngineProcess("ingest", request, work)
    environment = base_environment() | run_environment(work, request)
    engine.start(environment, (server.engine_fd,) if server else ())
    with server or contextlib.nullcontext():
        if server:
            server.start()
        engine_mib = 0.0
        while (code := engine.process.poll()) is None:
            engine_mib = max(engine_mib, peak_mib(engine.process.pid))
            time.sleep(0.05)
    seconds = time.monotonic() - started
    assert code == 0, engine.stderr_tail() + (work / "events.jsonl").read_text()[-2000:]
    print(json.dumps({"s": seconds, "engine": engine_mib, "worker": peak_mib(os.getpid())}))


def peak_mib(pid: int) -> float:
    """The peak of a process's resident set; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def open_server(origin: str, folder: Path) -> SourceServer | None:
    """The server of a source; None for the zip."""
    if origin == "zip":
        return None
    reader: FileReader
    if origin == "s3":
        reader = S3Reader(parse_file_source(f"s3://{BUCKET}/{PREFIX}"))
    else:
        source = parse_file_source(f"folder:{folder / PREFIX}")
        reader = FolderReader(source, source)
    return SourceServer(reader, settings().source_buffer_bytes)


if __name__ == "__main__":
    main()
