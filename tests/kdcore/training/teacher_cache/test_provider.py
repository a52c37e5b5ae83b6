"""The teacher cache: outputs are computed once per view, stored, and shared between runs."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kdcore.data.dataset import load_dataset
from kdcore.data.loader import Loader
from kdcore.models.teachers import TeacherEnsemble
from kdcore.protocol.requests import RunRequest
from kdcore.runtime.errors import RunCancelledError
from kdcore.schema.augmentation import Mixup, RandomResizedCrop
from kdcore.training.loop import features
from tests.kdcore.training import engine_process
from tests.kdcore.training.helpers import (
    NUM_TRAIN_IMAGES,
    STUDENT,
    CancelAfter,
    World,
    events_of,
    log_text,
    metric_values,
    sha256,
    train,
    with_fields,
    with_job,
)

VIEWS = 2
EPOCHS = 4


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Folder of the teacher cache."""
    return tmp_path / "cache"


@pytest.fixture
def request_(world: World, cache: Path) -> RunRequest:
    return cached_request(world, cache, {"epochs": EPOCHS, "views": VIEWS})


def cached_request(
    world: World, cache: Path, training: dict[str, Any], method: str = "kd", **job: Any
) -> RunRequest:
    return with_fields(
        world.request(method, training=training, **job), teacher_cache_dir=str(cache)
    )


def read_files(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.glob("*.safetensors")}


def load_files(cache: Path) -> list[dict[str, torch.Tensor]]:
    return [load_file(path) for path in cache.glob("*.safetensors")]


def misses(workdir: Path) -> list[str]:
    """Names of the files that a run computed."""
    return [event["name"] for event in events_of(workdir, "teacher_cache") if not event["hit"]]


@pytest.fixture
def image_counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of all batches that a teacher computes outputs for."""
    counts: list[int] = []
    run_teachers = features.run_teachers

    def count_images(teachers: Any, views: Any, autocast: Any) -> Any:
        counts.extend(len(views) for _ in teachers)
        return run_teachers(teachers, views, autocast)

    for module in ("kdcore.training.teacher_cache.provider", "kdcore.training.loop.builder"):
        monkeypatch.setattr(f"{module}.run_teachers", count_images)
    return counts


PROBE = 2
"""Images from which the methods learn the shapes of outputs."""


def test_a_view_is_computed_once_and_read_by_later_runs(
    request_: RunRequest, tmp_path: Path, cache: Path, image_counts: list[int]
) -> None:
    first = train(request_, tmp_path / "first")
    assert sum(image_counts) == VIEWS * NUM_TRAIN_IMAGES + PROBE
    assert len(misses(first)) == VIEWS
    files = read_files(cache)
    assert len(files) == VIEWS
    image_counts.clear()
    second = train(request_, tmp_path / "second")
    assert sum(image_counts) == PROBE
    assert misses(second) == []
    assert sha256(first / STUDENT) == sha256(second / STUDENT)
    assert read_files(cache) == files


def test_cached_logits_are_the_teachers_for_that_view(
    world: World, request_: RunRequest, tmp_path: Path, cache: Path
) -> None:
    train(request_, tmp_path / "run")
    data = load_dataset(world.dataset)
    training = request_.job.training
    loader = Loader(
        data.images("train"),
        data.targets("train"),
        batch_size=32,
        augmentation=training.augmentation,
        seed=request_.job.seed,
        device=torch.device("cpu"),
        num_views=VIEWS,
    )
    teachers = TeacherEnsemble.from_files(request_.teachers, torch.device("cpu"))
    expected = [
        teachers.networks[0](loader.views(np.arange(NUM_TRAIN_IMAGES), view))
        for view in range(1, VIEWS + 1)
    ]
    cached = [tensors["logits"] for tensors in load_files(cache)]
    assert {logits.dtype for logits in cached} == {torch.float16}
    for logits in expected:
        assert min((logits - other.float()).abs().max().item() for other in cached) < 0.02
    # The third epoch shows the views of the first epoch, in another order.
    third, first = loader.batch(3, 0), loader.batch(1, 0)
    assert (third.view, first.view) == (1, 1)
    assert not torch.equal(third.index, first.index)
    shared = set(third.index.tolist()) & set(first.index.tolist())
    for sample in shared:
        third_image = third.images[third.index == sample]
        assert torch.equal(third_image, first.images[first.index == sample])


@pytest.mark.parametrize(
    ("method", "training"),
    [("kd", {"epochs": 1}), ("attention", {"epochs": 1, "views": 1})],
    ids=["fresh views", "feature maps"],
)
def test_runs_that_cannot_cache_write_no_files(
    world: World, tmp_path: Path, cache: Path, method: str, training: dict[str, Any]
) -> None:
    train(cached_request(world, cache, training, method), tmp_path / "run")
    assert read_files(cache) == {}


@pytest.mark.parametrize("method", ["rkd", "crd"])
def test_pooled_features_are_cached_beside_the_logits(
    world: World, tmp_path: Path, cache: Path, image_counts: list[int], method: str
) -> None:
    request = cached_request(world, cache, {"epochs": EPOCHS, "views": VIEWS}, method)
    first = train(request, tmp_path / "first")
    assert sum(image_counts) == VIEWS * NUM_TRAIN_IMAGES + PROBE
    assert [{name: len(rows) for name, rows in entry.items()} for entry in load_files(cache)] == [
        {"logits": NUM_TRAIN_IMAGES, "pooled": NUM_TRAIN_IMAGES}
    ] * VIEWS
    second = train(request, tmp_path / "second")
    assert misses(second) == []
    assert sha256(first / STUDENT) == sha256(second / STUDENT)
    # Rounded features give nearly the loss of exact ones.
    live = train(world.request(method, training={"epochs": 1}), tmp_path / "live")
    rounded = train(world.request(method, training={"epochs": 1, "views": 1}), tmp_path / "rounded")
    live_loss, rounded_loss = (metric_values(run, "train/loss")[0] for run in (live, rounded))
    assert rounded_loss == pytest.approx(live_loss, rel=2e-3)


def test_cached_outputs_train_nearly_the_same_student(world: World, tmp_path: Path) -> None:
    variants = {
        "live": {},
        "cached": {"views": 1},
        "slower": {"optimizer": {"type": "sgd", "lr": 0.045}},
    }
    live, cached, slower = (
        student_vector(train(world.request(training={"epochs": 1} | training), tmp_path / name))
        for name, training in variants.items()
    )
    # float16 has eleven binary digits; a few steps of training lose some of them.
    difference = float((cached - live).norm() / live.norm())
    assert 0 < difference < 2**-9
    assert float((slower - live).norm() / live.norm()) > 4 * difference


def student_vector(workdir: Path) -> torch.Tensor:
    """All of the student's parameters in one vector."""
    state = load_file(workdir / STUDENT)
    return torch.cat([state[name].flatten() for name in sorted(state) if "running" not in name])


def test_only_the_largest_logits_are_cached_on_request(
    world: World, request_: RunRequest, tmp_path: Path, cache: Path
) -> None:
    train(request_, tmp_path / "all")
    files = set(read_files(cache))
    training = {"epochs": EPOCHS, "views": VIEWS}
    train(cached_request(world, cache, training | {"teacher_cache_logits": 3}), tmp_path / "top3")
    new_files = set(read_files(cache)) - files
    assert len(new_files) == VIEWS
    assert {load_file(cache / name)["logits"].shape for name in new_files} == {
        (NUM_TRAIN_IMAGES, 3)
    }
    # As many logits as classes are all of them, in the same files.
    request = cached_request(world, cache, training | {"teacher_cache_logits": 7})
    assert misses(train(request, tmp_path / "top7")) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "no sidecar"])
def test_damaged_files_are_computed_again(
    request_: RunRequest, tmp_path: Path, cache: Path, damage: str
) -> None:
    first = train(request_, tmp_path / "first")
    files = read_files(cache)
    path = next(cache.glob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    if damage == "no sidecar":
        path.with_suffix(".json").unlink()
    else:
        path.write_bytes(content if damage == "flip" else content[:-9])
    second = train(request_, tmp_path / "second")
    assert len(misses(second)) == 1
    assert read_files(cache) == files
    assert sha256(first / STUDENT) == sha256(second / STUDENT)


@pytest.fixture
def loud_world(world: World, tmp_path: Path) -> World:
    """A world whose teacher has logits beyond float16's range."""
    weights = load_file(world.teacher)
    for name in ("fc.weight", "fc.bias"):
        weights[name] = 1e5 * weights[name]
    path = tmp_path / "loud.safetensors"
    save_file(weights, path)
    return replace(world, teacher_path=path)


def test_outputs_beyond_float16_are_cached_in_float32(
    loud_world: World, tmp_path: Path, cache: Path
) -> None:
    training = {"epochs": EPOCHS, "views": VIEWS}
    run = train(cached_request(loud_world, cache, training), tmp_path / "run")
    assert "in float32: they pass float16's range" in log_text(run)
    for tensors in load_files(cache):
        assert tensors["logits"].dtype == torch.float32
        assert tensors["logits"].abs().max() > 65504
        assert torch.isfinite(tensors["logits"]).all()
    uncached = train(loud_world.request("kd", training=training), tmp_path / "uncached")
    losses, expected = (metric_values(folder, "train/loss") for folder in (run, uncached))
    assert losses[:3] == pytest.approx(expected[:3], rel=1e-3)
    again = train(cached_request(loud_world, cache, training), tmp_path / "again")
    assert misses(again) == []
    assert sha256(run / STUDENT) == sha256(again / STUDENT)


def test_stored_infinities_are_computed_again(
    loud_world: World, tmp_path: Path, cache: Path
) -> None:
    """Version 0.1.0 stored outputs beyond float16's range as infinities."""
    request = cached_request(loud_world, cache, {"epochs": EPOCHS, "views": VIEWS})
    train(request, tmp_path / "first")
    files = read_files(cache)
    path = next(cache.glob("*.safetensors"))
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path)
    sidecar = path.with_suffix(".json")
    sidecar.write_text(f'{{"sha256": "{sha256(path)}", "fill_s": 1.0}}')
    second = train(request, tmp_path / "second")
    assert misses(second) == [path.name]
    assert read_files(cache) == files


def test_another_seed_has_other_files(request_: RunRequest, tmp_path: Path, cache: Path) -> None:
    train(request_, tmp_path / "seed7")
    files = set(read_files(cache))
    train(with_job(request_, seed=8), tmp_path / "seed8")
    assert len(set(read_files(cache)) - files) == VIEWS


def test_seeds_with_one_view_seed_share_files(world: World, tmp_path: Path, cache: Path) -> None:
    training = {"epochs": EPOCHS, "views": VIEWS, "view_seed": 5}
    request = cached_request(world, cache, training, evaluation={"baseline": False, "seeds": 2})
    first = train(request, tmp_path / "first")
    assert len(misses(first)) == VIEWS
    second = train(with_job(request, seed=99), tmp_path / "second")
    assert misses(second) == []
    assert sha256(first / STUDENT) != sha256(second / STUDENT)


def test_view_seed_draws_views_and_seed_draws_order_and_mixtures(world: World) -> None:
    data = load_dataset(world.dataset)
    crop, mixup = RandomResizedCrop(type="random_resized_crop"), Mixup(type="mixup")

    def first_batch(seed: int, view_seed: int | None, *mixing: Mixup) -> Any:
        loader = Loader(
            data.images("train"),
            data.targets("train"),
            batch_size=NUM_TRAIN_IMAGES,
            augmentation=(crop, *mixing),
            seed=seed,
            view_seed=view_seed,
            device=torch.device("cpu"),
        )
        batch = loader.batch(1, 0)
        return batch.index, batch.images[batch.index.argsort()], batch.mix

    order, views, _ = first_batch(1, 5)
    assert torch.equal(views, first_batch(5, None)[1])
    assert torch.equal(order, first_batch(1, None)[0])
    assert not torch.equal(order, first_batch(5, None)[0])
    seeds = ((1, 5), (1, None))
    shares = [first_batch(seed, view_seed, mixup)[2].share for seed, view_seed in seeds]
    assert torch.equal(*shares)
    assert not torch.equal(shares[0], first_batch(5, None, mixup)[2].share)


def test_a_strict_job_does_not_read_the_files_of_a_fast_one(
    world: World, request_: RunRequest, tmp_path: Path, cache: Path
) -> None:
    training = {"epochs": EPOCHS, "views": VIEWS, "determinism": "fast"}
    train(cached_request(world, cache, training), tmp_path / "fast")
    assert len(misses(train(request_, tmp_path / "strict"))) == VIEWS


def test_a_run_cancelled_while_it_fills_the_cache_resumes(
    request_: RunRequest, tmp_path: Path, cache: Path
) -> None:
    complete = train(request_, tmp_path / "complete")
    for path in cache.glob("*"):
        path.unlink()
    for num_checks in range(2, 40):
        try:
            train(request_, tmp_path / "cancelled", CancelAfter(num_checks))
            break
        except RunCancelledError:
            continue
    assert sha256(tmp_path / "cancelled" / STUDENT) == sha256(complete / STUDENT)


def test_a_killed_run_resumes_exactly(request_: RunRequest, tmp_path: Path, cache: Path) -> None:
    complete = train(request_, tmp_path / "complete")
    for path in cache.glob("*"):
        path.unlink()
    engine_process.kill_running(request_, tmp_path / "killed", '"train/loss"', 9)
    assert engine_process.finish(engine_process.start(request_, tmp_path / "killed")) == 0
    assert sha256(tmp_path / "killed" / STUDENT) == sha256(complete / STUDENT)


def test_views_that_mix_images_cannot_recur(world: World) -> None:
    training = {"views": 4, "augmentation": {"type": "mixup"}}
    with pytest.raises(ValueError, match=re.escape("set views to fresh")):
        world.request(training=training)
