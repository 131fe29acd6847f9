import math

import pytest
import torch
from _resampled import doubled, halved

from pydisent.nn.resampling import DownConv, UpConv


def _perturbed(layer):
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return layer.double()


@pytest.mark.parametrize("filtered", [True, False])
def test_doubling_equals_its_definition(filtered):
    torch.manual_seed(0)
    layer, x = _perturbed(UpConv(3, 4, 1.5, filtered)), torch.randn(2, 3, 5, 6).double()
    expected = doubled(x, layer.weight * 1.5 / math.sqrt(27), filtered)
    torch.testing.assert_close(layer(x), expected + layer.bias[:, None, None])
    assert torch.autograd.gradcheck(layer, x[:1].clone().requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("filtered", [True, False])
def test_halving_equals_its_definition(filtered, size):
    torch.manual_seed(0)
    layer = _perturbed(DownConv(3, 4, size, 1.5, filtered))
    x = torch.randn(2, 3, 8, 8).double()
    expected = halved(x, layer.weight * 1.5 / math.sqrt(3) / size, filtered)
    torch.testing.assert_close(layer(x), expected + layer.bias[:, None, None])
    # R1 differentiates twice.
    assert torch.autograd.gradgradcheck(
        layer, x[:1, :, :4, :4].clone().requires_grad_(), fast_mode=True
    )


def test_filtered_pixels_lie_between_their_neighbours():
    """With the centre tap alone: a quarter of the one and three of the other, which keeps ramps."""
    layer = UpConv(1, 1, 3.0, True).double()  # 3 / √9 = 1
    with torch.no_grad():
        layer.weight.zero_()[..., 1, 1] = 1
    x = torch.randn(1, 1, 1, 6).double().expand(1, 1, 6, 6)
    row = layer(x)[0, 0, 5]
    torch.testing.assert_close(row[2::2], 0.25 * x[0, 0, 0, :-1] + 0.75 * x[0, 0, 0, 1:])
    torch.testing.assert_close(row[1:-1:2], 0.75 * x[0, 0, 0, :-1] + 0.25 * x[0, 0, 0, 1:])
    down = DownConv(1, 1, 1, 1.0, True, bias=False).double()
    with torch.no_grad():
        down.weight.fill_(1)
    ramp = torch.arange(8.0).double().expand(1, 1, 8, 8)
    # The middle of pixels 2o and 2o + 1, away from the border.
    torch.testing.assert_close(down(ramp)[0, 0, 1, 1:3], torch.tensor([2.5, 4.5]).double())


def test_filters_are_no_state_and_follow_their_layer():
    for layer in (UpConv(2, 2, 1.0, True), DownConv(2, 2, 3, 1.0, True)):
        assert set(layer.state_dict()) == {"weight", "bias"}
        assert layer.double()(torch.ones(1, 2, 4, 4).double()).dtype == torch.double
        with torch.device("meta"):
            assert type(layer)(2, 2, *([3] if type(layer) is DownConv else []), 1.0, True)
