"""The data set format of CONTRIBUTING.md ingests a file."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open

from tests.house.scratch import apply_example, copy_checkout, read_example, scratch_environment


def test_a_new_format_is_one_file_and_one_line(root: Path, tmp_path: Path) -> None:
    example = read_example(root, "A new data set format")
    assert example.num_lines < 30
    assert (len(example.files), len(example.lines)) == (1, 1)
    assert example.lines[0][2].strip().count("\n") == 0
    checkout, workdir = tmp_path / "checkout", tmp_path / "workdir"
    copy_checkout(root, checkout)
    apply_example(example, checkout)

    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (40, 64)), np.arange(40) % 4
    workdir.mkdir()
    upload = workdir / "upload"
    header = ",".join(["label", *(f"pixel{index}" for index in range(64))])
    rows = np.column_stack([labels, pixels])
    np.savetxt(upload, rows, "%d", ",", header=header, comments="")
    request = workdir / "request.json"
    request.write_text(json.dumps({"source": "archive", "path": str(upload)}))
    command = [sys.executable, "-m", "kdcore", "ingest", str(request), "--workdir", str(workdir)]
    environment = scratch_environment(checkout)
    process = subprocess.run(
        command, env=environment, cwd=workdir, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr + (workdir / "events.jsonl").read_text()
    with safe_open(workdir / "artifacts" / "dataset.safetensors", framework="np") as file:
        images = np.concatenate([file.get_tensor(f"{s}/images") for s in ("train", "val", "test")])
        targets = np.concatenate(
            [file.get_tensor(f"{s}/targets") for s in ("train", "val", "test")]
        )
    stored = {(int(t), image.tobytes()) for t, image in zip(targets, images, strict=True)}
    uploaded = zip(labels, pixels.astype(np.uint8), strict=True)
    assert stored == {(int(label), image.tobytes()) for label, image in uploaded}
