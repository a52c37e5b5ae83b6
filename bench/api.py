"""Start time and memory of the API process, and how many jobs per second it returns.

One uvicorn worker with the embedded Postgres. The client shares the cores of the machine.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from stillhouse.local import Stack

SECONDS = 8.0
CONNECTIONS = (1, 8, 32)


async def response_times(url: httpx.URL, path: str, key: str, connections: int) -> list[float]:
    """Return sorted seconds of each response; every connection sends its next request at once."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer {key}\r\n\r\n"
    ).encode()
    end = time.perf_counter() + SECONDS
    times_s: list[float] = []

    async def send_requests() -> None:
        reader, writer = await asyncio.open_connection(url.host, url.port)
        while (start := time.perf_counter()) < end:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            times_s.append(time.perf_counter() - start)
        writer.close()

    await asyncio.gather(*(send_requests() for _ in range(connections)))
    return sorted(times_s)


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return int(fields["VmRSS"].split()[0]) / 1024


def start_s(environment: dict[str, str]) -> float:
    """Return the seconds from starting an API process to its first response."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "api", "--port", "18999"], env=environment)
    try:
        while True:
            try:
                if httpx.get("http://127.0.0.1:18999/readyz").status_code == 200:
                    return time.perf_counter() - start
            except httpx.TransportError:
                time.sleep(0.02)
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "data") as stack:
        starts = sorted(start_s(stack.environment) for _ in range(5))
        fastest, median, slowest = starts[0], starts[2], starts[4]
        print(f"API ready after {median:.2f} s (median of 5, {fastest:.2f} to {slowest:.2f})")
        url, key = httpx.URL(stack.url), stack.api_key
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            dataset_body = {"name": "digits", "source": "builtin:digits"}
            dataset = client.post("/v1/datasets", json=dataset_body).raise_for_status().json()
            while client.get(dataset["links"]["self"]).json()["state"] != "ready":
                time.sleep(0.5)
            body = {
                "student": {"architecture": "cifar/resnet8"},
                "dataset": dataset["id"],
                "training": {"epochs": 1},
            }
            job = client.post("/v1/jobs", json=body).raise_for_status().json()
            while client.get(job["links"]["self"]).json()["state"] != "succeeded":
                time.sleep(0.5)
        print(f"API resident memory {memory_mb(stack.process('api').pid):.0f} MB")
        for connections in CONNECTIONS:
            times_s = asyncio.run(response_times(url, job["links"]["self"], key, connections))
            p50_ms = 1000 * times_s[len(times_s) // 2]
            p99_ms = 1000 * times_s[int(len(times_s) * 0.99)]
            print(
                f"GET /v1/jobs/{{id}}, {connections:2} connections: "
                f"{len(times_s) / SECONDS:6.0f} /s, p50 {p50_ms:5.1f} ms, p99 {p99_ms:5.1f} ms"
            )


if __name__ == "__main__":
    main()
