"""Data sets from sources through the API and a worker."""

from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from store.database import transaction
from store.settings import settings
from store.tables import Dataset, Job
from tests.helpers import image_tree
from tests.worker.sources.conftest import S3Server
from tests.worker.sources.helpers import put_objects, write_files
from worker.engine.engine_process import base_environment, run_environment
from worker.kinds import handlers


def test_folders_become_data_sets(
    client: httpx.Client, run_queue: Any, source_folder: Path
) -> None:
    tree = image_tree(count=10, prefix="train/")
    ready_folder = write_files(source_folder / "ready", tree)
    link_folder = write_files(source_folder / "link", tree)
    (link_folder / "train/ant/outside.png").symlink_to("/etc/hostname")
    created = [
        client.post("/v1/datasets", json={"name": "x", "source": f"folder:{folder}"})
        for folder in (ready_folder, link_folder)
    ]
    run_queue("prepare")
    ready, failed = (
        client.get(f"/v1/datasets/{item.raise_for_status().json()['id']}").json()
        for item in created
    )
    assert (ready["state"], ready["error"]) == ("ready", None)
    assert ready["source"] == f"folder:{ready_folder}"
    assert ready["splits"]["train"]["source"] == "train/"
    assert sum(split["count"] for split in ready["splits"].values()) == len(tree)
    assert failed["error"]["items"] == [
        {
            "name": "train/ant/outside.png",
            "detail": "is a link that leaves the folder; put the file itself into the folder",
        }
    ]
    assert list((settings().work_dir / "sources").iterdir()) == []


def test_s3_prefix_becomes_a_data_set_without_its_credentials(
    client: httpx.Client, run_queue: Any, s3_settings: S3Server, tmp_path: Path
) -> None:
    source = put_objects(s3_settings, "sets/http", image_tree(count=10))
    created = client.post("/v1/datasets", json={"name": "x", "source": source})
    dataset_id = created.raise_for_status().json()["id"]
    with transaction() as session:
        job = session.scalars(select(Job).where(Job.dataset_id == dataset_id)).one()
    inputs = handlers()["ingest"].load_inputs(job, tmp_path)
    assert inputs.source_server is not None
    inputs.source_server.close()
    visible = [inputs.request.model_dump_json(), *base_environment().values()]
    visible += run_environment(tmp_path, inputs.request).values()
    run_queue("prepare")
    ready = client.get(f"/v1/datasets/{dataset_id}").json()
    assert (ready["state"], ready["source"]) == ("ready", source)
    visible += [client.get(f"/v1/datasets/{dataset_id}").text]
    with transaction() as session:
        visible += [str(session.get_one(Dataset, dataset_id).info)]
    for secret in (s3_settings.key, s3_settings.secret, s3_settings.endpoint):
        assert not any(secret in text for text in visible)
