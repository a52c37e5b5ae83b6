"""Uploads around checkpoints: gzip, archives of shards with an index, files of other kinds."""

import gzip
import io
import json
import tarfile
import zipfile

import pytest
import torch
from safetensors.torch import save

from kdcore.weights import containers
from tests.kdcore.weights.checkpoint_files import (
    assert_equal_weights,
    network_state,
    refuse_file,
    torch_bytes,
    verify_file,
)

STATE = network_state()
NAMES = sorted(STATE)
FIRST, SECOND = ({name: STATE[name] for name in names} for names in (NAMES[:20], NAMES[20:]))


def zip_bytes(members, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def tar_bytes(members, mode="w"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def shard_files(write=save, suffix="safetensors", folder=""):
    shards = {f"model-0000{n}-of-00002.{suffix}": s for n, s in ((1, FIRST), (2, SECOND))}
    weight_map = {name: file for file, shard in shards.items() for name in shard}
    index = json.dumps({"metadata": {}, "weight_map": weight_map}).encode()
    members = {f"{folder}{name}": write(shard) for name, shard in shards.items()}
    return members | {f"{folder}model.{suffix}.index.json": index}


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(torch_bytes({"model": STATE})),
        gzip.compress(save(STATE)),
        zip_bytes(shard_files()),
        tar_bytes(shard_files(torch_bytes, "bin", "run/checkpoint-3/")),
        tar_bytes(shard_files(), "w:gz"),
        zip_bytes({k: v for k, v in shard_files().items() if "index" not in k}),
        zip_bytes(
            {"model.safetensors": save(STATE), "optimizer.bin": torch_bytes({"a": torch.ones(1)})}
        ),
        zip_bytes(
            {"__MACOSX/._best.pth": b"x", "net/best.pth": torch_bytes(STATE), "net/log.txt": b"x"}
        ),
    ],
)
def test_packed_checkpoint_is_read(tmp_path, data):
    assert_equal_weights(verify_file(tmp_path, data).tensors, STATE)
    assert not list(tmp_path.rglob("unpacked-*"))


def test_other_files_of_an_archive_are_a_warning(tmp_path):
    members = {
        "pytorch_model.bin": torch_bytes(STATE),
        "optimizer.bin": torch_bytes({"a": torch.ones(1)}),
    }
    assert "optimizer.bin: not read" in verify_file(tmp_path, zip_bytes(members)).warnings


def without(members, part):
    return {name: data for name, data in members.items() if part not in name}


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 99\n"
REFUSED = {
    "a shard is missing": (
        zip_bytes(without(shard_files(), "00002-of")),
        "lacks 1 of the 2 shards",
    ),
    "a numbered shard": (
        zip_bytes(without(without(shard_files(), "index"), "00002-of")),
        "all shards",
    ),
    "another shard": (
        zip_bytes(shard_files() | {"model-00001-of-00002.safetensors": save(SECOND)}),
        "lacks 20 of the tensors",
    ),
    "no index": (
        zip_bytes(shard_files() | {"model.safetensors.index.json": b"[]"}),
        "`weight_map`",
    ),
    "two checkpoints": (
        zip_bytes({"a.pt": torch_bytes(STATE), "b.pt": torch_bytes(STATE)}),
        "2 checkpoints",
    ),
    "no checkpoint": (zip_bytes({"a.txt": b"x"}), "without a checkpoint; it holds a.txt"),
    "a pointer": (POINTER, "Git LFS pointer of 65 bytes"),
    "a pointer in an archive": (zip_bytes({"a.pt": POINTER}), "a.pt is a Git LFS pointer"),
    "a page": (b"<!DOCTYPE html><html>", "a web page"),
    "Keras": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    "cut gzip": (gzip.compress(torch_bytes(STATE))[:-99], "cut off or damaged"),
    "cut tar": (tar_bytes(shard_files())[:90_000], "cut off or damaged"),
    "gzip twice": (zip_bytes({"a.pt.gz": gzip.compress(torch_bytes(STATE))}), "packed twice"),
    "a bomb": (gzip.compress(bytes(300 << 20), 1), "more than 256 MiB"),
    "a bomb in a zip": (zip_bytes({"a.pt": bytes(300 << 20)}), "far more bytes"),
    "names twice": (
        tar_bytes(
            {
                "model-00001-of-00002.safetensors": save(FIRST),
                "model-00002-of-00002.safetensors": save(STATE),
            }
        ),
        "20 names are in two shards",
    ),
    "TorchScript": (zip_bytes({"m/data.pkl": b"", "m/code/m.py": b""}, 0), "TorchScript"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_upload_is_named_for_what_it_is(tmp_path, kind):
    data, words = REFUSED[kind]
    error = refuse_file(tmp_path, data)
    assert words in error.message
    assert error.fix_fields == ()
    assert not list(tmp_path.rglob("unpacked-*"))


def test_programs_beside_the_weights_are_not_torchscript(tmp_path):
    members = {"repo/code/inference.py": b"x", "repo/model.safetensors": save(STATE)}
    assert_equal_weights(verify_file(tmp_path, zip_bytes(members, 0)).tensors, STATE)


def test_expansion_is_limited_by_the_original_upload(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "MIN_UNPACKED_BYTES", 0)
    monkeypatch.setattr(containers, "MAX_EXPANSION", 1100)
    bomb = zip_bytes({"a.pt": bytes(4 << 20)})
    upload = gzip.compress(bomb)
    assert len(bomb) < 1100 * len(upload) < 4 << 20 < 1100 * len(bomb)
    assert "far more bytes" in refuse_file(tmp_path, upload).message


@pytest.mark.parametrize("damage", ["broken header", "long extension"])
def test_damaged_header_in_the_middle_of_a_tar_is_refused(tmp_path, damage):
    first = tar_bytes({"model.safetensors": save(STATE)}).rstrip(b"\0")
    first += bytes(-len(first) % tarfile.BLOCKSIZE)
    extension = tarfile.TarInfo("long")
    extension.type, extension.size = tarfile.GNUTYPE_LONGNAME, 2 << 20
    header = bytearray(extension.tobuf(tarfile.GNU_FORMAT))
    if damage == "broken header":
        header[0] ^= 1
    data = first + bytes(header) + b"a" * (2 << 20) + tar_bytes({"b.txt": b"x"})
    assert "cut off or damaged and cannot be unpacked" in refuse_file(tmp_path, data).message


def test_code_in_a_shard_is_refused(tmp_path):
    class Call:
        def __reduce__(self):
            return eval, ("1",)

    members = shard_files(torch_bytes, "bin") | {
        "model-00002-of-00002.bin": torch_bytes({**SECOND, "x": Call()})
    }
    for data in (zip_bytes(members), tar_bytes(members), gzip.compress(torch_bytes({"x": Call()}))):
        assert "contains code" in refuse_file(tmp_path, data).message


def test_exported_program_is_not_called_damaged(tmp_path):
    class Network(torch.nn.Module):
        def forward(self, x):
            return x + 1

    file = io.BytesIO()
    torch.export.save(torch.export.export(Network(), (torch.ones(2),)), file)
    message = refuse_file(tmp_path, file.getvalue()).message
    assert "program of torch.export" in message
