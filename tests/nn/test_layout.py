import copy

import pytest
import torch
from torch import nn

from pydisent.nn.layout import channels_last_


@pytest.mark.parametrize("channels", [1, 3])
def test_what_a_network_computes_is_channels_last_whatever_images_are(channels):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))
    x = torch.randn(2, channels, 8, 8)
    want, weights = network(x), copy.deepcopy(network.state_dict())
    channels_last_(network)
    for made in (network, copy.deepcopy(network)):
        torch.testing.assert_close(made(x), want)
        assert made[0](x).is_contiguous(memory_format=torch.channels_last)
        assert made(x).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network.state_dict(), weights, rtol=0, atol=0)
    network(x).sum().backward()
    assert network[0].weight.grad.stride() == network[0].weight.stride()
