"""What the API's process costs, and how many jobs a second it shows.

One uvicorn worker on the embedded Postgres; the client shares the machine's cores with it.
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


async def load(url: httpx.URL, path: str, key: str, connections: int) -> list[float]:
    """Seconds of each answer, of clients that ask again as soon as they are answered."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer {key}\r\n\r\n"
    ).encode()
    end = time.perf_counter() + SECONDS
    taken: list[float] = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection(url.host, url.port)
        while (start := time.perf_counter()) < end:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            taken.append(time.perf_counter() - start)
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return sorted(taken)


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return int(fields["VmRSS"].split()[0]) / 1024


def start_s(environment: dict[str, str]) -> float:
    """From starting another API process to its first answer."""
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
        least, middle, most = starts[0], starts[2], starts[4]
        print(f"API ready after {middle:.2f} s (median of 5, {least:.2f} to {most:.2f})")
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
            taken = asyncio.run(load(url, job["links"]["self"], key, connections))
            rate, middle, late = (
                len(taken) / SECONDS,
                taken[len(taken) // 2] * 1000,
                taken[int(len(taken) * 0.99)] * 1000,
            )
            print(
                f"GET /v1/jobs/{{id}}, {connections:2} connections: {rate:6.0f} /s, "
                f"p50 {middle:5.1f} ms, p99 {late:5.1f} ms"
            )


if __name__ == "__main__":
    main()
