"""Views that come again, and teachers that are asked about each of them once."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kdcore.data.dataset import load_dataset
from kdcore.data.loader import Loader
from kdcore.models.teachers import TeacherEnsemble
from kdcore.protocol.requests import RunRequest
from kdcore.runtime.errors import RunCancelledError
from kdcore.schema.augmentation import Mixup, RandomResizedCrop
from kdcore.training.loop import features
from tests.kdcore.training import nursery
from tests.kdcore.training.helpers import StopAfter, World, events_of, sha256, train

STUDENT = Path("artifacts/student.safetensors")
VIEWS = 2
EPOCHS = 4


@pytest.fixture
def request_(world: World, tmp_path: Path) -> RunRequest:
    made = world.request(training={"epochs": EPOCHS, "views": VIEWS})
    return made.model_copy(update={"teacher_cache_dir": str(tmp_path / "kept")})


def files(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tmp_path / "kept").glob("*.safetensors")}


def asked(workdir: Path) -> list[str]:
    return [event["name"] for event in events_of(workdir, "teacher_cache") if not event["hit"]]


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each question to a teacher was about."""
    counted: list[int] = []
    own = features.run_teachers

    def counting(teachers: Any, views: Any, autocast: Any) -> Any:
        counted.extend(len(views) for _ in teachers)
        return own(teachers, views, autocast)

    for place in ("kdcore.training.teacher_cache.provider", "kdcore.training.loop.builder"):
        monkeypatch.setattr(f"{place}.run_teachers", counting)
    return counted


def test_a_teacher_is_asked_once_for_each_view_and_never_again(
    request_: RunRequest, tmp_path: Path, forwards: list[int]
) -> None:
    first = train(request_, tmp_path / "first")
    probes = 2  # by which the methods see the shapes
    assert sum(forwards) == VIEWS * 225 + probes
    assert len(asked(first)) == VIEWS
    kept = files(tmp_path)
    assert len(kept) == VIEWS
    forwards.clear()
    second = train(request_, tmp_path / "second")
    assert sum(forwards) == probes
    assert asked(second) == []
    assert sha256(first / STUDENT) == sha256(second / STUDENT)
    assert files(tmp_path) == kept


def test_what_is_kept_is_what_the_teacher_says_of_that_view(
    world: World, request_: RunRequest, tmp_path: Path
) -> None:
    train(request_, tmp_path / "run")
    data = load_dataset(world.dataset)
    recipe = request_.job.training
    loader = Loader(
        data.images("train"),
        data.targets("train"),
        batch_size=32,
        augmentation=recipe.augmentation,
        seed=request_.job.seed,
        device=torch.device("cpu"),
        num_views=VIEWS,
    )
    teachers = TeacherEnsemble.from_files(request_.teachers, torch.device("cpu"))
    expected = [
        teachers.networks[0](loader.views(np.arange(225), view)) for view in range(1, VIEWS + 1)
    ]
    found = [load_file(path)["logits"] for path in (tmp_path / "kept").glob("*.safetensors")]
    assert {each.dtype for each in found} == {torch.float16}
    for logits in expected:
        assert min((logits - each.float()).abs().max().item() for each in found) < 0.02
    # The third epoch shows the views of the first, in another order.
    again, once = loader.batch(3, 0), loader.batch(1, 0)
    assert (again.view, once.view) == (1, 1)
    assert not torch.equal(again.index, once.index)
    place = once.index.tolist().index(again.index[0]) if again.index[0] in once.index else None
    assert place is None or torch.equal(again.images[0], once.images[place])


def test_with_fresh_views_nothing_is_kept(world: World, tmp_path: Path) -> None:
    made = world.request(training={"epochs": 1})
    train(made.model_copy(update={"teacher_cache_dir": str(tmp_path / "kept")}), tmp_path / "run")
    assert files(tmp_path) == {}


def test_methods_that_look_at_maps_ask_each_time(world: World, tmp_path: Path) -> None:
    made = world.request("attention", training={"epochs": 1, "views": 1})
    train(made.model_copy(update={"teacher_cache_dir": str(tmp_path / "kept")}), tmp_path / "run")
    assert files(tmp_path) == {}


@pytest.mark.parametrize("method", ["rkd", "crd"])
def test_pooled_features_are_kept_beside_the_logits(
    world: World, tmp_path: Path, forwards: list[int], method: str
) -> None:
    made = world.request(method, training={"epochs": EPOCHS, "views": VIEWS})
    made = made.model_copy(update={"teacher_cache_dir": str(tmp_path / "kept")})
    first = train(made, tmp_path / "first")
    probes = 2
    assert sum(forwards) == VIEWS * 225 + probes
    kept = [load_file(path) for path in (tmp_path / "kept").glob("*.safetensors")]
    assert [{name: rows.shape[0] for name, rows in each.items()} for each in kept] == [
        {"logits": 225, "pooled": 225}
    ] * VIEWS
    second = train(made, tmp_path / "second")
    assert asked(second) == []
    assert sha256(first / STUDENT) == sha256(second / STUDENT)
    # Rounded features teach nearly what exact ones do.
    online = train(world.request(method, training={"epochs": 1}), tmp_path / "online")
    once = train(world.request(method, training={"epochs": 1, "views": 1}), tmp_path / "once")
    ours, theirs = (
        next(
            e["values"]["train/loss"]
            for e in events_of(each, "metrics")
            if "train/loss" in e["values"]
        )
        for each in (once, online)
    )
    assert ours == pytest.approx(theirs, rel=2e-3)


def test_kept_answers_teach_what_live_ones_teach(world: World, tmp_path: Path) -> None:
    recipes = {
        "live": {},
        "kept": {"views": 1},
        "slower": {"optimizer": {"type": "sgd", "lr": 0.045}},
    }
    live, kept, other = (
        weights(train(world.request(training={"epochs": 1} | own), tmp_path / name))
        for name, own in recipes.items()
    )
    # Of eleven binary digits that float16 has, some steps of learning lose a few.
    apart = float((kept - live).norm() / live.norm())
    assert 0 < apart < 2**-9
    assert float((other - live).norm() / live.norm()) > 4 * apart


def weights(workdir: Path) -> torch.Tensor:
    """All of the student's parameters in one vector."""
    found = load_file(workdir / STUDENT)
    return torch.cat([found[name].flatten() for name in sorted(found) if "running" not in name])


def test_the_largest_logits_alone(world: World, request_: RunRequest, tmp_path: Path) -> None:
    train(request_, tmp_path / "all")
    whole = set(files(tmp_path))
    few = world.request(training={"epochs": EPOCHS, "views": VIEWS, "teacher_cache_logits": 3})
    train(
        few.model_copy(update={"teacher_cache_dir": request_.teacher_cache_dir}), tmp_path / "few"
    )
    fresh = set(files(tmp_path)) - whole
    assert len(fresh) == VIEWS
    assert {load_file(tmp_path / "kept" / name)["logits"].shape for name in fresh} == {(225, 3)}
    # As many as there are classes is all of them: the same files.
    every = world.request(training={"epochs": EPOCHS, "views": VIEWS, "teacher_cache_logits": 7})
    ran = train(
        every.model_copy(update={"teacher_cache_dir": request_.teacher_cache_dir}),
        tmp_path / "every",
    )
    assert asked(ran) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "no digest"])
def test_damaged_answers_are_asked_for_again(
    request_: RunRequest, tmp_path: Path, damage: str
) -> None:
    first = train(request_, tmp_path / "first")
    kept = files(tmp_path)
    path = next((tmp_path / "kept").glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    if damage == "no digest":
        path.with_suffix(".json").unlink()
    else:
        path.write_bytes(data if damage == "flip" else data[:-9])
    second = train(request_, tmp_path / "second")
    assert len(asked(second)) == 1
    assert files(tmp_path) == kept
    assert sha256(first / STUDENT) == sha256(second / STUDENT)


def test_other_views_are_other_files(world: World, request_: RunRequest, tmp_path: Path) -> None:
    train(request_, tmp_path / "one")
    before = set(files(tmp_path))
    job = request_.job.model_copy(update={"seed": 8})
    train(request_.model_copy(update={"job": job}), tmp_path / "other")
    assert len(set(files(tmp_path)) - before) == VIEWS


def test_students_of_other_seeds_share_views_that_have_a_seed_of_their_own(
    world: World, tmp_path: Path
) -> None:
    recipe = {"epochs": EPOCHS, "views": VIEWS, "view_seed": 5}
    made = world.request(training=recipe, evaluation={"baseline": False, "seeds": 2})
    request = made.model_copy(update={"teacher_cache_dir": str(tmp_path / "kept")})
    first = train(request, tmp_path / "first")
    assert len(asked(first)) == VIEWS
    other = request.model_copy(update={"job": request.job.model_copy(update={"seed": 99})})
    second = train(other, tmp_path / "second")
    assert asked(second) == []
    assert sha256(first / STUDENT) != sha256(second / STUDENT)


def test_views_of_one_seed_come_in_orders_and_mixtures_of_another(world: World) -> None:
    data = load_dataset(world.dataset)
    crop, mixup = RandomResizedCrop(type="random_resized_crop"), Mixup(type="mixup")

    def batches(seed: int, view_seed: int | None, *mixing: Mixup) -> Any:
        loader = Loader(
            data.images("train"),
            data.targets("train"),
            batch_size=225,
            augmentation=(crop, *mixing),
            seed=seed,
            view_seed=view_seed,
            device=torch.device("cpu"),
        )
        batch = loader.batch(1, 0)
        return batch.index, batch.images[batch.index.argsort()], batch.mix

    order, views, _ = batches(1, 5)
    assert torch.equal(views, batches(5, None)[1])
    assert torch.equal(order, batches(1, None)[0])
    assert not torch.equal(order, batches(5, None)[0])
    shares = [batches(seed, view_seed, mixup)[2].share for seed, view_seed in ((1, 5), (1, None))]
    assert torch.equal(*shares)
    assert not torch.equal(shares[0], batches(5, None, mixup)[2].share)


def test_fast_answers_do_not_serve_a_strict_job(
    world: World, request_: RunRequest, tmp_path: Path
) -> None:
    recipe = {"epochs": EPOCHS, "views": VIEWS, "determinism": "fast"}
    fast = world.request(training=recipe)
    train(
        fast.model_copy(update={"teacher_cache_dir": request_.teacher_cache_dir}), tmp_path / "fast"
    )
    assert len(asked(train(request_, tmp_path / "strict"))) == VIEWS


def test_stopped_while_it_asks_it_goes_on(request_: RunRequest, tmp_path: Path) -> None:
    whole = train(request_, tmp_path / "whole")
    for path in (tmp_path / "kept").glob("*"):
        path.unlink()
    for looks in range(2, 40):
        try:
            train(request_, tmp_path / "stopped", StopAfter(looks))
            break
        except RunCancelledError:
            continue
    assert sha256(tmp_path / "stopped" / STUDENT) == sha256(whole / STUDENT)


def test_killed_it_goes_on_exactly(request_: RunRequest, tmp_path: Path) -> None:
    whole = train(request_, tmp_path / "whole")
    for path in (tmp_path / "kept").glob("*"):
        path.unlink()
    assert nursery.kill_after(request_, tmp_path / "killed", '"train/loss"', 9)
    assert nursery.finish(nursery.start(request_, tmp_path / "killed")) == 0
    assert sha256(tmp_path / "killed" / STUDENT) == sha256(whole / STUDENT)


def test_mixed_views_are_refused(world: World) -> None:
    recipe = {"views": 4, "augmentation": {"type": "mixup"}}
    with pytest.raises(ValueError, match=re.escape("views must be fresh")) as raised:
        world.request(training=recipe)
    assert "views" in str(raised.value)
