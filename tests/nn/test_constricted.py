import copy
import math

import numpy as np
import pytest
import torch
from _resampled import doubled
from torch.nn import functional as F

from pydisent.nn import ConstrictedGenerator
from pydisent.nn.constricted import ModulatedConv, ResConv

SMALL = {"max_width": 6, "min_width": 2}
VARIANTS = (("layers", "filtered"), ("blocks", "unfiltered"))


def _perturb(net):
    """Move every parameter off its initial value, so that none goes untested."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def _activated(x, layer, gain=2**0.5):
    """√2 lrelu(x + b / √2) of a convolution x by weights of variance 1 / fan-in."""
    bias = 0 if layer.bias is None else layer.bias.double().view(1, -1, 1, 1)
    return gain * torch.where(x + bias / gain >= 0, x + bias / gain, 0.2 * (x + bias / gain))


def _weight(layer):
    return layer.weight.double() / math.sqrt(layer.weight[0].numel())


def _conv(x, layer):
    return _activated(F.conv2d(x, _weight(layer), padding=layer.weight.shape[-1] // 2), layer)


def _res_conv(x, layer, filtered=False):
    if not layer.up:
        h = x
        for conv in (layer.conv, *layer.further):
            h = _conv(h, conv)
        return h + _conv(x, layer.skip)
    twice = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    h = _activated(doubled(x, _weight(layer.conv), filtered), layer.conv)
    return h + _conv(twice, layer.skip)


def _styled(x, block, code):
    if isinstance(block.style, ModulatedConv):
        return torch.stack([_modulated(x[b], block.style, code[b]) for b in range(len(x))])
    return block.style.double()(x, code.double())


def _modulated(x, layer, code):
    """One sample's own convolution: its weights scaled, then normalised an output map."""
    scales = layer.scales
    style = code.double() @ scales.weight.double().T / math.sqrt(len(code)) + scales.bias.double()
    weight = layer.conv.weight.double() * style.view(1, -1, 1, 1)
    weight = math.sqrt(2) * weight / weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    x = F.conv2d(x[None], weight, padding=1)[0] + layer.bias.double()
    return torch.where(x >= 0, x, 0.2 * x)


@pytest.mark.parametrize(("schedule", "resampling"), VARIANTS)
@pytest.mark.parametrize("constricted", [True, False])
def test_equals_its_definition(constricted, schedule, resampling):
    options = {"width_schedule": schedule, "resampling": resampling, "constricted": constricted}
    net = _perturb(ConstrictedGenerator(2, 3, 16, **options, **SMALL))
    code = torch.randn(3, 4)
    with torch.no_grad():
        images = net(code)
        x = net.constant.double().repeat(3, 1, 1, 1)
        for i, block in enumerate(net.blocks):
            x = _res_conv(x, block.up, resampling == "filtered")
            x = _styled(x, block, code[:, 2 * i : 2 * i + 2])
            x = _res_conv(x, block.conv)
            for layer in block.noise:
                weight = layer.conv.weight.double() * math.sqrt(2 / layer.conv.weight[0].numel())
                x = F.conv2d(x, weight, layer.conv.bias.double(), padding=1)
                x = F.leaky_relu(x + layer.strength.double() * layer.noise.double(), 0.2)
        for layer in net.last:
            x = _res_conv(x, layer)
        weight = net.to_rgb.weight.double() / math.sqrt(net.to_rgb.weight.shape[1])
        x = F.conv2d(x, weight, net.to_rgb.bias.double())
    torch.testing.assert_close(images.double(), x, rtol=1e-4, atol=1e-4 * float(x.std()))


def _widths(net):
    """The output maps of each block's ResConv-up, ResConv-id and Noise × 2, and of what follows."""
    layers = [(b.up.conv, b.conv.conv, b.noise[0].conv, b.noise[1].conv) for b in net.blocks]
    tail = [conv for block in net.last for conv in (block.conv, *block.further)]
    return [[conv.weight.shape[0] for conv in convs] for convs in (*layers, tail)]


def test_paper_widths():
    net = ConstrictedGenerator()
    assert net.latent_size == 25
    assert _widths(net) == [
        [512] * 4, [512] * 4, [512, 512, 256, 256], [256] * 4, [256, 128, 128, 128], [128, 128],
    ]  # fmt: skip
    assert net.constant.shape == (1, 512, 4, 4)
    assert {block.style.mask.rectangles for block in net.blocks} == {4}
    assert len(net.last) == 1
    assert net.to_rgb.weight.shape == (3, 128, 1, 1)
    # Two more blocks go on as the author's rule does: layers 21 to 23 have 128 maps, then 64.
    large = ConstrictedGenerator(image_size=512)
    assert _widths(large)[5:] == [[128, 128, 64, 64], [64] * 4, [64, 64]]


def test_widths_by_blocks():
    net = ConstrictedGenerator(width_schedule="blocks")
    assert _widths(net) == [[w] * 4 for w in (512, 512, 256, 128, 64)] + [[64, 64]]
    assert len(net.last) == 2


@pytest.mark.parametrize("constricted", [True, False])
def test_a_modulated_convolution_narrows_where_its_number_says_so(constricted):
    """Layer 18, the fifth block's style, is the first of the fourth six, and has 128 maps."""
    block = ConstrictedGenerator(constricted=constricted).blocks[4]
    assert block.conv.conv.weight.shape == (128, 256 if constricted else 128, 3, 3)
    if not constricted:
        assert block.style.conv.weight.shape == (128, 256, 3, 3)


@pytest.mark.parametrize("constricted", [True, False])
@pytest.mark.parametrize("image_size", [8, 16, 64])
def test_shapes(image_size, constricted):
    net = ConstrictedGenerator(3, 1, image_size, constricted=constricted, **SMALL)
    blocks = int(math.log2(image_size)) - 2
    assert net.latent_size == 3 * blocks
    assert net(torch.randn(2, net.latent_size)).shape == (2, 1, image_size, image_size)
    assert net(torch.randn(0, net.latent_size)).shape[0] == 0


def test_unfiltered_scaling_up_keeps_each_pixel_in_place():
    """With the centre tap alone, the output's pixel (i, j) depends on the input's (i/2, j/2)."""
    layer = ResConv(1, 1, up=True, filtered=False)
    with torch.no_grad():
        layer.conv.weight.zero_()[..., 1, 1] = 1
    x = torch.randn(1, 1, 3, 3)
    nearest = layer(x)[:, :, ::2, ::2]
    for i in (0, 1):
        for j in (0, 1):
            torch.testing.assert_close(layer(x)[:, :, i::2, j::2], nearest)


def test_noise_is_fixed_unless_fresh_and_starts_without_effect():
    net = ConstrictedGenerator(2, 1, 16, **SMALL)
    code = torch.randn(4, 4)
    assert torch.equal(net(code, fresh_noise=True), net(code))
    with torch.no_grad():
        for block in net.blocks:
            for layer in block.noise:
                layer.strength.fill_(0.3)
    assert torch.equal(net(code), net(code))
    # Convolutions may round otherwise at another batch size, so not bit for bit.
    wide, codes = copy.deepcopy(net).double(), code.double()
    torch.testing.assert_close(wide(codes)[:2], wide(codes[:2]), rtol=1e-10, atol=1e-10)
    torch.manual_seed(1)
    first = net(code, fresh_noise=True)
    assert not torch.equal(net(code, fresh_noise=True), first)
    torch.manual_seed(1)
    assert torch.equal(net(code, fresh_noise=True), first)
    other = ConstrictedGenerator(2, 1, 16, **SMALL)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(code), net(code))


@pytest.mark.parametrize("mask", ["band", "softmax"])
def test_masks_are_those_used_at_the_images_size(mask):
    net = _perturb(ConstrictedGenerator(2, 1, 32, mask=mask, **SMALL))
    code = torch.randn(3, 6)
    used = []
    for block in net.blocks:
        block.style.mask.register_forward_hook(lambda _, inputs, output: used.append(output))
    net(code)
    masks = net.masks(code)
    assert masks.shape == (3, 6, 32, 32)
    assert not masks.requires_grad
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert torch.equal(masks[:, 4:], used[2])
    for i, size in ((0, 8), (1, 16)):
        # Linearly between the centres of the block's pixels, at the centres of the image's.
        centres, coarse = (np.arange(32) + 0.5) * size / 32 - 0.5, used[i].detach().numpy()
        for axis in (2, 3):
            coarse = np.apply_along_axis(
                lambda line, at=centres: np.interp(at, np.arange(len(line)), line), axis, coarse
            )
        np.testing.assert_allclose(masks[:, 2 * i : 2 * i + 2].numpy(), coarse, atol=1e-6)
    assert ConstrictedGenerator(2, 1, 8, constricted=False, **SMALL).masks(code[:, :2]) is None


def test_a_code_reaches_the_image_and_only_through_its_block():
    net = _perturb(ConstrictedGenerator(2, 1, 16, **SMALL))
    code = torch.randn(1, 4)
    seen = []
    net.blocks[0].register_forward_hook(lambda _, inputs, output: seen.append(output))
    for i in range(4):
        moved = code.clone()
        moved[:, i] += 2
        seen.clear()
        assert not torch.equal(net(moved), net(code))
        assert torch.equal(seen[0], seen[1]) == (i >= 2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"codes": 0}, "codes must be .*, got 0"),
        ({"channels": 0}, "channels must be .*, got 0"),
        ({"image_size": 4}, "image_size must be .*, got 4"),
        ({"image_size": 24}, "image_size must be .*, got 24"),
        ({"min_width": 0}, "min_width must be .*, got 0"),
        ({"min_width": 9, "max_width": 8}, "min_width must be .*, got 9"),
        ({"rectangles": 0}, "rectangles must be .*, got 0"),
        ({"mask": "round"}, "'round'"),
        ({"rectangles": 0, "constricted": False}, "rectangles must be .*, got 0"),
        ({"mask": "round", "constricted": False}, "mask must be .*, got 'round'"),
        ({"width_schedule": "pixels"}, "width_schedule must be .*, got 'pixels'"),
        ({"resampling": "cubic"}, "resampling must be .*, got 'cubic'"),
        ({"max_width": 8.5}, "max_width must be .*, got 8.5"),
        ({"max_width": "8"}, "max_width must be .*, got '8'"),
        ({"image_size": 16.0}, "image_size must be a power of two >= 8, got 16.0"),
    ],
)
def test_bad_arguments_are_named(settings, words):
    with pytest.raises((ValueError, TypeError), match=words):
        ConstrictedGenerator(**settings)


@pytest.mark.parametrize("constricted", [True, False])
@pytest.mark.parametrize("shape", [(3, 3), (3, 5), (3, 9), (4,), (3, 4, 1)])
def test_codes_of_another_size_are_refused(shape, constricted):
    net = ConstrictedGenerator(2, 1, 16, constricted=constricted, **SMALL)
    for use in (net, net.masks):
        with pytest.raises(ValueError, match=r"code must have shape \(B, 4\), got .*"):
            use(torch.zeros(shape))
