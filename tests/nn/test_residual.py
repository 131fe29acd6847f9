import math
from functools import partial

import numpy as np
import pytest
import torch
from _resampled import halved
from torch.nn import functional as F

from pydisent.nn import ResidualDiscriminator, ResidualRecogniser
from pydisent.nn.residual import minibatch_deviation

SMALL = {"max_width": 6, "min_width": 2}


def _perturb(net):
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def _weight(layer, gain):
    """Weights of variance gain² / fan-in."""
    return gain * layer.weight.double() / math.sqrt(layer.weight[0].numel())


def _affine(x, layer, gain):
    weight, bias = _weight(layer, gain), None if layer.bias is None else layer.bias.double()
    if weight.dim() == 2:
        return F.linear(x, weight, bias)
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def _activated(x):
    return x.clamp(min=0) + 0.2 * x.clamp(max=0)


def _lrelu(x, layer, gain=2**0.5):
    return _activated(_affine(x, layer, gain))


def _deviation(x, group):
    x = x.numpy()
    maps = np.empty((len(x), 1, 4, 4))
    for start in range(len(x) // group):
        members = range(start, len(x), len(x) // group)
        maps[list(members)] = np.sqrt(x[list(members)].var(0) + 1e-8).mean()
    return torch.from_numpy(maps)


def _network(net, x, filtered, group=None):
    x = _lrelu(x, net.from_rgb)
    for block in net.blocks:
        h = halved(_lrelu(x, block.conv), _weight(block.down, 1), filtered)
        h = _activated(h + block.down.bias.double().view(-1, 1, 1))
        x = h + halved(x, _weight(block.skip, 1 / math.sqrt(2)), filtered)
    if group:
        x = torch.cat([x, _deviation(x, group)], 1)
    x = _lrelu(_lrelu(x, net.conv).flatten(1), net.dense)
    return _affine(x, net.output, 1)


@pytest.mark.parametrize("resampling", ["filtered", "unfiltered"])
@pytest.mark.parametrize(("batch", "group"), [(8, 4), (6, 3), (10, 2), (7, 1), (2, 2)])
def test_discriminator_equals_its_definition(batch, group, resampling):
    net = _perturb(ResidualDiscriminator(3, 16, resampling=resampling, **SMALL))
    x = torch.randn(batch, 3, 16, 16)
    with torch.no_grad():
        expected = _network(net, x.double(), resampling == "filtered", group).squeeze(1)
        torch.testing.assert_close(net(x).double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("resampling", ["filtered", "unfiltered"])
def test_recogniser_equals_its_definition_and_sees_one_image_at_a_time(resampling):
    net = _perturb(ResidualRecogniser(5, 3, 32, resampling=resampling, **SMALL))
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        codes, expected = net(x), _network(net, x.double(), resampling == "filtered")
        torch.testing.assert_close(codes.double(), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(net(x[:1]), codes[:1])


def test_residual_sum_keeps_the_variance():
    """Of normal inputs, at first: that is what the gains are for."""
    torch.manual_seed(0)
    net = ResidualRecogniser(4, 3, 16, max_width=128, min_width=128)
    block = net.blocks[0]
    x = torch.randn(8, 128, 16, 16)
    with torch.no_grad():
        h = block.conv(x)
        assert h.square().mean() == pytest.approx(2, rel=0.1)
        assert F.leaky_relu(h, 0.2).square().mean() == pytest.approx(1.04, rel=0.1)
        # The filter leaves (1 + 9 + 9 + 1) / 8² of white noise along each axis.
        assert block.skip(x).square().mean() == pytest.approx(0.5 * (20 / 64) ** 2, rel=0.1)


@pytest.mark.parametrize("image_size", [8, 64])
def test_shapes(image_size):
    x = torch.randn(3, 1, image_size, image_size)
    assert ResidualDiscriminator(1, image_size, **SMALL)(x).shape == (3,)
    assert ResidualRecogniser(7, 1, image_size, **SMALL)(x).shape == (3, 7)
    assert ResidualRecogniser(7, 1, image_size, **SMALL)(x[:0]).shape == (0, 7)


def test_paper_widths():
    net = ResidualDiscriminator()
    widths = [net.from_rgb.weight.shape[0], *(b.down.weight.shape[0] for b in net.blocks)]
    assert widths == [64, 64, 128, 256, 512, 512]
    assert net.conv.weight.shape == (512, 513, 3, 3)
    assert net.dense.weight.shape == (512, 512 * 16)


def test_the_deviation_tells_equal_images_from_different_ones():
    x = torch.randn(1, 2, 4, 4).repeat(8, 1, 1, 1)
    assert minibatch_deviation(x).max() == pytest.approx(1e-4)
    x[1] += 2  # with images 1, 3, 5 and 7
    deviation = minibatch_deviation(x)[:, 0, 0, 0]
    torch.testing.assert_close(deviation[1::2], torch.full((4,), 2 * math.sqrt(3 / 16)))
    assert deviation[::2].max() == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"channels": 0}, "channels must be .*, got 0"),
        ({"image_size": 4}, "image_size must be .*, got 4"),
        ({"image_size": 48}, "image_size must be .*, got 48"),
        ({"min_width": 0}, "min_width must be .*, got 0"),
        ({"min_width": 9, "max_width": 8}, "min_width must be .*, got 9"),
        ({"resampling": "cubic"}, "resampling must be .*, got 'cubic'"),
        ({"max_width": 9.5}, "max_width must be .*, got 9.5"),
    ],
)
def test_bad_arguments_are_named(settings, words):
    for build in (ResidualDiscriminator, partial(ResidualRecogniser, 4)):
        with pytest.raises((ValueError, TypeError), match=words):
            build(**settings)
    with pytest.raises(ValueError, match=r"latent_size must be .*, got 0"):
        ResidualRecogniser(0)


# As many pixels at the narrow end as there should be, in the last.
@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 3, 32, 32), (3, 16, 16), (2, 3, 8, 32)])
def test_images_of_another_shape_are_refused(shape):
    for net in (ResidualDiscriminator(3, 16, **SMALL), ResidualRecogniser(4, 3, 16, **SMALL)):
        with pytest.raises(ValueError, match=r"x must have shape \(B, 3, 16, 16\), got .*"):
            net(torch.zeros(shape))


def test_r1_through_the_deviation_is_exact_in_float64():
    """Its gradient against central differences of ‖∇D‖², ∇D against those of D."""
    net = _perturb(ResidualDiscriminator(1, 8, max_width=4, min_width=2)).double()
    x = torch.randn(4, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    direction, step = torch.randn_like(x), 1e-5

    def slope(x):
        return torch.autograd.grad(net(x).sum(), x, create_graph=True)[0]

    def difference(function):
        moved = [(x.detach() + s * direction).requires_grad_() for s in (step, -step)]
        return (function(moved[0]) - function(moved[1])) / (2 * step)

    along = (slope(x) * direction).sum()
    torch.testing.assert_close(along, difference(lambda x: net(x).sum()), rtol=1e-7, atol=0)
    (gradient,) = torch.autograd.grad(slope(x).square().sum(), x)
    along = (gradient * direction).sum()
    expected = difference(lambda x: slope(x).square().sum())
    torch.testing.assert_close(along, expected, rtol=1e-7, atol=0)
