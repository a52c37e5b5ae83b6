"""The checked-in catalogue is what the registry would write today."""

import pytest

from kdcore.models import catalogue
from kdcore.models.registry import ENTRIES
from kdcore.spec.catalogue import architectures


def test_the_catalogue_is_fresh():
    assert catalogue.main(["--check"]) == 0


def test_a_stale_catalogue_is_noticed(tmp_path, monkeypatch, capsys):
    stale = tmp_path / "catalogue.json"
    monkeypatch.setattr(catalogue, "PATH", stale)
    monkeypatch.setattr(catalogue, "ENTRIES", {"cifar/resnet8": ENTRIES["cifar/resnet8"]})
    assert catalogue.main(["--check"]) == 1
    assert "is stale" in capsys.readouterr().err
    assert catalogue.main([]) == 0
    stale.write_text(stale.read_text().replace("83892", "83893"))
    assert catalogue.main(["--check"]) == 1


def test_the_catalogue_lists_what_can_be_built():
    assert list(architectures()) == list(ENTRIES)


def test_costs_are_the_known_ones():
    resnet20 = architectures()["cifar/resnet20"]
    # He et al. give 0.27 million parameters and, as others count, 41 million multiply-adds.
    assert resnet20.num_params == 278_324
    assert resnet20.macs == pytest.approx(41e6, rel=0.01)
    assert resnet20.pooled_features == 64
