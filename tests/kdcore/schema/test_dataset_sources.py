"""Names of built-in data sets, and the suggestion for an unknown name."""

import pytest
from pydantic import TypeAdapter, ValidationError

from kdcore.schema.dataset_sources import SOURCES, KnownSource, allows_flip, parse_file_source

FIELD = TypeAdapter(KnownSource)


@pytest.mark.parametrize("name", SOURCES)
def test_known_name_is_accepted(name):
    assert FIELD.validate_python(name) == name


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("torchvision:cifar10", "torchvision:CIFAR10"),
        ("torchvision:FasionMNIST", "torchvision:FashionMNIST"),
        ("cifar-100", "torchvision:CIFAR100"),
        ("digits", "builtin:digits"),
        ("\ud800" * 1000, "builtin:digits"),
    ],
)
def test_unknown_name_suggests_the_nearest(name, near):
    with pytest.raises(ValidationError) as error:
        FIELD.validate_python(name)
    assert near in error.value.errors()[0]["ctx"]["near"]


def test_digits_are_not_mirrored():
    assert not allows_flip("builtin:digits")
    assert not allows_flip("torchvision:SVHN")
    assert allows_flip("torchvision:CIFAR10")
    assert allows_flip("upload:upl_1")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://bucket/data/", "s3://bucket/data/"),
        ("s3://bucket/data", "s3://bucket/data"),
        ("s3://bucket/", "s3://bucket"),
        ("folder:/data/", "folder:/data"),
    ],
)
def test_slash_at_the_end_stays_with_an_s3_prefix(text, address):
    assert parse_file_source(text).address == address
    assert parse_file_source(address) == parse_file_source(text)
