"""Keys of the teacher cache: earlier versions' files are found, and every part counts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kdcore.data import dataset
from kdcore.data.loader import Loader
from kdcore.models.teachers import TeacherEnsemble
from kdcore.training.compute.device import ComputeEnv
from kdcore.training.context import JobContext
from kdcore.training.teacher_cache.cache_key import TeacherCacheSpec, key_parts
from kdcore.training.teacher_cache.codec import OutputCodec
from tests.kdcore.training.helpers import World

ENVIRONMENT = ComputeEnv(torch.device("cpu"), "a processor", "float32", 1, {"torch": "2.0"})


def build_spec(
    world: World, codec: OutputCodec, compute_env: ComputeEnv = ENVIRONMENT, **training: Any
) -> TeacherCacheSpec:
    request = world.request(training={"views": 2, **training})
    data = dataset.load_dataset(world.dataset)
    no_teachers = TeacherEnsemble(())
    context = JobContext(
        request.job, data, no_teachers, data.info.normalization, dataset_sha256="b" * 64
    )
    loader = Loader(
        data.images("train"),
        data.targets("train"),
        batch_size=32,
        augmentation=request.job.training.augmentation,
        seed=request.job.seed,
        device=torch.device("cpu"),
        num_views=2,
    )
    parts = key_parts(context, loader, compute_env)
    return TeacherCacheSpec(Path("cache"), ("a" * 64,), codec, parts)


@pytest.mark.parametrize(
    ("codec", "key"),
    [
        (OutputCodec(7), "9ed9ff73a953be70c947410c6b093b96a3efce5cf6f29182b6df2def28147782"),
        (
            OutputCodec(7, 3, pooled=True),
            "d33e97fd1db596026b5d8767e505931d400a55b0ac7fa510ec82bdbbe43eac33",
        ),
    ],
    ids=["all logits", "largest logits and pooled features"],
)
def test_keys_are_those_of_version_0_0(world: World, codec: OutputCodec, key: str) -> None:
    """The keys were computed by the version that wrote the first caches."""
    assert build_spec(world, codec).key(0, 1, fused=False) == key


def test_every_part_changes_the_key(world: World) -> None:
    codec = OutputCodec(7)
    spec = build_spec(world, codec)
    keys = {
        spec.key(0, 1, fused=False),
        spec.key(0, 2, fused=False),
        spec.key(0, 1, fused=True),
        spec._replace(identities=("c" * 64,)).key(0, 1, fused=False),
        build_spec(world, codec._replace(top_k=3)).key(0, 1, fused=False),
        build_spec(world, codec, determinism="fast").key(0, 1, fused=False),
        build_spec(world, codec, augmentation={"type": "none"}).key(0, 1, fused=False),
        build_spec(world, codec, replace(ENVIRONMENT, threads=2)).key(0, 1, fused=False),
    }
    assert len(keys) == 8


def test_the_students_precision_does_not_change_the_key(world: World) -> None:
    spec = build_spec(world, OutputCodec(7))
    other = build_spec(world, OutputCodec(7), replace(ENVIRONMENT, precision="bfloat16"))
    assert spec.key(0, 1, fused=False) == other.key(0, 1, fused=False)
