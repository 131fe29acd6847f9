import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from pydisent.nn import DCGANEncoder, normalize_spectrally


def _layers():
    torch.manual_seed(0)
    return {
        "linear": nn.Linear(7, 5),
        "conv": nn.Conv2d(3, 6, 4, 2, 1),
        "transposed": nn.ConvTranspose2d(3, 6, 4, 2, 1),
        "weight norm": weight_norm(nn.Conv2d(3, 6, 4, 2, 1)),
    }


def _singular_value(layer, weight):
    """Of the matrix with one row per output, by LAPACK."""
    rows = weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight
    return float(torch.linalg.matrix_norm(rows.reshape(len(rows), -1).double(), 2))


@pytest.mark.parametrize("name", _layers())
def test_the_largest_singular_value_is_a_learned_scale(name):
    layer = _layers()[name]
    before = layer.weight.detach().clone()
    net = nn.Sequential(layer)
    normalize_spectrally(net)
    v, scale = layer.parametrizations.weight.original, layer.parametrizations.weight[1].scale
    assert {p.shape for p in (v, scale)} <= {p.shape for p in net.parameters()}
    torch.testing.assert_close(layer.eval().weight, before)
    layer.train()
    with torch.no_grad():
        v.mul_(torch.linspace(1, 30, v.numel()).view(v.shape))
        scale.fill_(2.5)
        for _ in range(200):
            layer.weight  # noqa: B018  # a power iteration for each use
    weight = layer.eval().weight
    assert _singular_value(layer, weight.detach()) == pytest.approx(2.5, rel=1e-4)
    direction = v / _singular_value(layer, v.detach())
    torch.testing.assert_close(weight / 2.5, direction, rtol=1e-4, atol=1e-5)
    weight.square().sum().backward()
    assert v.grad is not None
    assert float(scale.grad) != 0


def test_a_whole_network_and_its_state():
    net = DCGANEncoder(4, 1, 4, 16)
    x = torch.rand(3, 1, 16, 16)
    before = net(x)
    normalize_spectrally(net)
    torch.testing.assert_close(net.eval()(x), before, rtol=1e-4, atol=1e-5)
    fresh = DCGANEncoder(4, 1, 4, 16).eval()
    normalize_spectrally(fresh)
    assert not any(module.training for module in fresh.modules())
    fresh.load_state_dict(net.state_dict())
    for other in (fresh, copy.deepcopy(net)):
        assert torch.equal(other(x), net(x))
