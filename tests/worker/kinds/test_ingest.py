"""Archives through the real ingestion: good ones are ready, bad ones name all that is bad."""

import hashlib
import io
from typing import Any

import httpx
import numpy as np
import pytest

from store import object_store
from store.database import transaction
from store.tables import Dataset, Upload
from tests.helpers import (
    assert_problem,
    image_tree,
    issue_codes,
    job_body,
    png_bytes,
    upload,
    zip_bytes,
)

Json = dict[str, Any]

BAD = {
    "broken": image_tree() | {"ant/broken.png": png_bytes(1)[:40], "bee/text.png": b"no image"},
    "dots": image_tree() | {"../evil.png": png_bytes(1), "ant/broken.png": b"x"},
    "no_images": {"readme.txt": b"nothing here"},
    "one_class": image_tree(("ant",)),
}
OPTIONS: dict[str, Json] = {
    "arrays": {"image_size": 16},
    "skipped": {"on_bad_image": "skip", "on_duplicates": "drop"},
}


def arrays() -> bytes:
    """An .npz of 40 gray images, half of them without labels."""
    file = io.BytesIO()
    images = np.arange(40 * 12 * 12).reshape(40, 12, 12).astype(np.uint8)
    labels = np.arange(20) % 2
    np.savez(file, images=images[:20], labels=labels, unlabeled_images=images[20:])
    return file.getvalue()


@pytest.fixture(scope="module")
def outcomes(api_url: str, run_queue: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All archives, ingested in one go."""
    from tests.conftest import client_for, create_tenant

    tenant = create_tenant()
    good = {
        "splits": {
            name: data
            for split in ("train", "val", "test")
            for name, data in image_tree(prefix=f"{split}/", count=4).items()
        },
        "tree": image_tree(("ant", "bee", "cat"), count=10),
        "skipped": image_tree(count=10, prefix="training/")
        | image_tree(count=3, prefix="testing/")
        | {"training/ant/copy.png": image_tree(count=1, prefix="testing/")["testing/ant/0.png"]}
        | {"training/ant/broken.png": png_bytes(1)[:40], "labels.txt": b"ant, bee"},
    }
    sent = {name: zip_bytes(members) for name, members in (good | BAD).items()}
    sent["no_zip"] = b"this is no archive"
    sent["arrays"] = arrays()
    with client_for(api_url, tenant.key) as client:
        created = {}
        for name, data in sent.items():
            body = {"name": name, "upload_id": upload(client, data, f"{name}.zip")}
            body |= OPTIONS.get(name, {})
            created[name] = client.post("/v1/datasets", json=body).raise_for_status().json()
        assert {item["state"] for item in created.values()} == {"ingesting"}
        response = client.post("/v1/jobs", json=job_body(created["tree"]))
        assert issue_codes(response) == {"/dataset": "not_ready"}
        assert_problem(client.delete(f"/v1/datasets/{created['tree']['id']}"), 409, "in_use")
        run_queue("prepare")
        yield (
            client,
            {
                name: client.get(f"/v1/datasets/{item['id']}").json()
                for name, item in created.items()
            },
        )


def test_arrays_are_resized_to_image_size(outcomes: Any) -> None:
    _, datasets = outcomes
    ready = datasets["arrays"]
    assert (ready["state"], ready["error"]) == ("ready", None)
    assert (ready["classes"], ready["in_channels"], ready["image_size"]) == (["0", "1"], 1, 16)
    assert ready["splits"]["unlabeled"] == {
        "count": 20,
        "per_class": {},
        "source": "unlabeled_images (N x H x W, uint8)",
    }


def test_summary_of_a_ready_data_set(outcomes: Any) -> None:
    _, datasets = outcomes
    ready = datasets["skipped"]
    assert (ready["state"], ready["error"]) == ("ready", None)
    assert (ready["on_bad_image"], ready["on_duplicates"]) == ("skip", "drop")
    sources = {name: split["source"] for name, split in ready["splits"].items()}
    assert sources == {
        "train": "training/",
        "test": "testing/",
        "val": "drawn from train with split_seed 0",
    }
    assert ready["splits"]["test"]["count"] == 6
    assert ready["splits"]["train"]["count"] + ready["splits"]["val"]["count"] == 20
    ignored = {part["reason"]: (part["count"], part["examples"]) for part in ready["ignored"]}
    assert ignored["is not an image"] == (1, ["labels.txt"])
    copies = ignored["is a copy of another image (on_duplicates: drop)"]
    assert copies == (1, ["training/ant/copy.png"])
    num_bad, (bad,) = ignored["cannot be decoded (on_bad_image: skip)"]
    assert num_bad == 1
    assert bad.startswith("training/ant/broken.png: cannot be decoded: it begins like a PNG image")
    assert ready["warnings"] == []


def test_summary_of_a_failed_data_set(outcomes: Any) -> None:
    _, datasets = outcomes
    failed = datasets["broken"]
    assert failed["splits"]["train"] == {
        "count": len(image_tree()),
        "per_class": {},
        "source": "class folders",
    }
    assert failed["error"]["num_items"] == 2
    assert datasets["no_images"]["ignored"] == [
        {"reason": "is not an image", "count": 1, "examples": ["readme.txt"]}
    ]


def test_archive_with_splits_keeps_them(outcomes: Any) -> None:
    _, datasets = outcomes
    ready = datasets["splits"]
    assert (ready["state"], ready["error"]) == ("ready", None)
    assert ready["classes"] == ["ant", "bee"]
    assert {name: split["count"] for name, split in ready["splits"].items()} == {
        "train": 8,
        "val": 8,
        "test": 8,
    }
    assert (ready["in_channels"], ready["image_size"]) == (3, 10)
    assert ready["digest"]
    assert ready["ready_at"]


def test_one_tree_is_split_by_seed(outcomes: Any) -> None:
    _, datasets = outcomes
    ready = datasets["tree"]
    assert ready["classes"] == ["ant", "bee", "cat"]
    assert sum(split["count"] for split in ready["splits"].values()) == 30
    assert all(split["count"] for split in ready["splits"].values())


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("broken", {"ant/broken.png", "bee/text.png"}),
        ("dots", {"../evil.png", "ant/broken.png"}),
        ("no_images", None),
        ("one_class", None),
        ("no_zip", None),
    ],
)
def test_invalid_archive_fails_with_every_invalid_file(
    outcomes: Any, name: str, names: set[str] | None
) -> None:
    _, datasets = outcomes
    failed = datasets[name]
    assert failed["state"] == "failed"
    error = failed["error"]
    assert error["code"] == "dataset_invalid"
    assert error["message"]
    if names is not None:
        assert {item["name"] for item in error["items"]} == names
        assert all(item["detail"] for item in error["items"])


def test_bytes_of_an_invalid_archive_are_deleted_and_its_row_stays(outcomes: Any) -> None:
    client, datasets = outcomes
    stored_keys = {entry.key for entry in object_store.list_objects()}
    for name in ("dots", "no_images", "one_class", "no_zip"):
        assert datasets[name]["error"]["fix_fields"] == []
        with transaction() as session:
            row = session.get_one(Dataset, datasets[name]["id"])
            upload_row = session.get_one(Upload, row.upload_id)
            assert (upload_row.state, upload_row.parts) == ("discarded", [])
            assert not any(upload_row.id in key for key in stored_keys)
        body = {"name": "again", "upload_id": row.upload_id}
        assert issue_codes(client.post("/v1/datasets", json=body)) == {"/upload_id": "discarded"}


def test_upload_whose_images_alone_are_bad_stays(outcomes: Any) -> None:
    client, datasets = outcomes
    assert datasets["broken"]["error"]["fix_fields"] == ["on_bad_image"]
    with transaction() as session:
        upload_id = session.get_one(Dataset, datasets["broken"]["id"]).upload_id
    assert client.get(f"/v1/uploads/{upload_id}").json()["state"] == "complete"


def test_failed_data_set_is_an_issue_of_a_job_and_can_be_deleted(outcomes: Any) -> None:
    client, datasets = outcomes
    failed = datasets["one_class"]
    document = assert_problem(client.post("/v1/jobs", json=job_body(failed)), 422)
    (fault,) = document["errors"]
    assert (fault["pointer"], fault["code"]) == ("/dataset", "not_ready")
    assert failed["error"]["message"] in fault["detail"]
    assert client.delete(f"/v1/datasets/{failed['id']}").status_code == 204


def test_ready_data_set_is_stored_under_its_digest(outcomes: Any) -> None:
    _, datasets = outcomes
    with transaction() as session:
        row = session.get_one(Dataset, datasets["tree"]["id"])
    data = b"".join(object_store.read(row.object_key or ""))
    assert hashlib.sha256(data).hexdigest() == row.sha256
    assert row.object_key == f"{row.project_id}/datasets/{row.sha256}"


def test_two_data_sets_of_one_invalid_upload_both_fail(
    client: httpx.Client, run_queue: Any, tenant: Any
) -> None:
    sent = upload(client, b"this is no archive, twice")
    created = [
        client.post("/v1/datasets", json={"name": name, "upload_id": sent}).json()["id"]
        for name in "ab"
    ]
    run_queue("prepare")
    datasets = [client.get(f"/v1/datasets/{item}").json() for item in created]
    assert [item["state"] for item in datasets] == ["failed", "failed"]
    # The first failure kept the bytes, because the other still needed them; the last did not.
    again = client.post("/v1/datasets", json={"name": "c", "upload_id": sent})
    assert issue_codes(again) == {"/upload_id": "discarded"}
