"""Data sets from sources: the same as from an upload of the same files."""

import os
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.helpers import image_tree, png_bytes, upload, zip_bytes
from tests.worker.sources.helpers import write_files

Json = dict[str, Any]
SAMPLES = {
    f"train-{shard}/{number}{suffix}": data
    for shard in range(2)
    for number in range(20)
    for suffix, data in ((".png", png_bytes(number)), (".cls", b"%d" % (number % 2)))
}


@pytest.fixture(scope="module")
def outcomes(api_url: str, run_queue: Any, source_folder: Path) -> Any:
    """Data sets of folders, ingested in one go."""
    from tests.conftest import client_for, create_tenant

    folder = source_folder / "ingest"
    tree = image_tree(("ant", "bee"), count=10, prefix="train/")
    sources = {
        "tree": tree,
        "archive": {"data.zip": zip_bytes(tree)},
        "manifest": {
            **{f"images/{number}.png": png_bytes(number) for number in range(20)},
            "labels.csv": b"path,label\n"
            + b"".join(b"images/%d.png,%d\n" % (number, number % 2) for number in range(20)),
        },
        "samples": SAMPLES,
        "broken": tree | {"train/ant/broken.png": png_bytes(1)[:40]},
        "link": tree,
    }
    for name, files in sources.items():
        write_files(folder / name, files)
    (folder / "arrays").mkdir()
    np.save(folder / "arrays/images.npy", np.arange(40 * 81, dtype=np.uint8).reshape(40, 9, 9))
    np.save(folder / "arrays/labels.npy", np.arange(40) % 2)
    (folder / "link/train/ant/outside.png").symlink_to(source_folder.parent / "outside.png")
    with client_for(api_url, create_tenant().key) as client:
        created = {
            name: _create(client, {"name": name, "source": f"folder:{folder / name}"})
            for name in (*sources, "arrays", "none")
        }
        created["upload"] = _create(
            client, {"name": "upload", "upload_id": upload(client, zip_bytes(tree))}
        )
        run_queue("prepare")
        yield {
            name: client.get(f"/v1/datasets/{item['id']}").json() for name, item in created.items()
        }


def _create(client: httpx.Client, body: Json) -> Json:
    created: Json = client.post("/v1/datasets", json=body).raise_for_status().json()
    return created


def test_folder_is_the_same_data_set_as_its_upload(outcomes: Any) -> None:
    ready = outcomes["tree"]
    assert (ready["state"], ready["error"]) == ("ready", None)
    assert ready["source"].startswith("folder:/")
    for name in ("upload", "archive"):
        assert ready["digest"] == outcomes[name]["digest"]
        assert ready["splits"] == outcomes[name]["splits"]


@pytest.mark.parametrize(("name", "count"), [("manifest", 20), ("samples", 40), ("arrays", 40)])
def test_folder_of_other_formats_is_read(outcomes: Any, name: str, count: int) -> None:
    ready = outcomes[name]
    assert (ready["state"], ready["error"]) == ("ready", None)
    assert sum(split["count"] for split in ready["splits"].values()) == count


def test_broken_files_and_links_are_named(outcomes: Any) -> None:
    for name, file in (("broken", "train/ant/broken.png"), ("link", "train/ant/outside.png")):
        error = outcomes[name]["error"]
        assert (outcomes[name]["state"], error["code"]) == ("failed", "dataset_invalid")
        assert [item["name"] for item in error["items"]] == [file]


def test_missing_folder_is_named(outcomes: Any) -> None:
    failed = outcomes["none"]
    assert failed["state"] == "failed"
    assert failed["error"]["message"] == f"{failed['source']} does not exist on the worker"
    assert not os.path.exists(failed["source"].removeprefix("folder:"))
