"""Data sets from sources through the API and a worker."""

from pathlib import Path
from typing import Any

import httpx

from tests.helpers import image_tree
from tests.worker.sources.helpers import write_files


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
