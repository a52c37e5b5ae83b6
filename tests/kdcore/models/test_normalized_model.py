"""A NormalizedModel normalizes and resizes the views for its network."""

import pytest
import torch
from torch import nn

from kdcore.models.normalized_model import NormalizedModel
from kdcore.schema.catalog import Normalization


def test_model_normalizes_and_resizes_views():
    normalization = Normalization(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    view = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    network = NormalizedModel(nn.Identity(), normalization)
    assert network(view)[1, 1, 2, 3] == pytest.approx((view[1, 1, 2, 3] / 255 - 0.25) / 0.25)
    assert torch.allclose(network(view), network(view / 255))
    resized = NormalizedModel(nn.Identity(), normalization, input_size=8)(view)
    assert resized.shape == (2, 3, 8, 8)
    assert not network.state_dict()
    with pytest.raises(ValueError, match="1 channels"):
        network(view[:, :1])
