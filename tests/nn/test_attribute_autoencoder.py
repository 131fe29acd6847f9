import copy
import pickle

import pytest
import torch
from torch.nn import functional as F

from pydisent.nn import AttributeAutoencoder, AttributeDecoder, AttributeEncoder


def _perturbed(net):
    """Move every weight and statistic off its initial value, so that none goes untested."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                noise = 0.2 * torch.randn_like(value)
                value.add_(noise.abs() if "var" in name else noise)
    return net.eval()


def _norm(h, layer):
    shift, scale = layer.running_mean.double(), (layer.running_var.double() + 1e-5).rsqrt()
    at = (None, slice(None), None, None)
    return ((h - shift[at]) * scale[at]) * layer.weight.double()[at] + layer.bias.double()[at]


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
def test_shapes(size):
    net = AttributeAutoencoder(5, z_channels=3, channels=2, base=4, image_size=size).eval()
    x = 2 * torch.rand(2, 2, size, size) - 1
    y, z = net.encoder(x)
    assert y.shape == (2, 5)
    assert z.shape == (2, 3, 2, 2)
    image = net.decoder(y, z)
    assert image.shape == x.shape
    assert image.abs().max() <= 1
    torch.testing.assert_close(net(x), image)


def test_published_widths():
    net = AttributeAutoencoder(40)
    convolutions = [m for m in net.encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [16, 32, 64, 128, 256, 512, 552]
    upsampling = [m for m in net.decoder.modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert [m.in_channels for m in upsampling] == [552, 552, 296, 168, 104, 72, 56]
    assert [m.out_channels for m in upsampling] == [512, 256, 128, 64, 32, 16, 3]
    for layer in (*convolutions, *upsampling):
        assert (layer.kernel_size, layer.stride, layer.padding) == ((4, 4), (2, 2), (1, 1))
    net.widen(512)
    net.widen(1024)
    assert net.z_channels == 2048
    assert net.encoder.code[0].out_channels == 2088
    assert net.decoder.first.in_channels == 2088


@pytest.mark.parametrize("last", [True, False])
def test_encoder_equals_its_definition(last):
    """Every block has a leaky ReLU, the last one too unless it is left out."""
    sizes = {"z_channels": 4, "channels": 2, "base": 5, "image_size": 32}
    net = _perturbed(AttributeEncoder(3, **sizes, last_activation=last))
    x = torch.randn(6, 2, 32, 32)
    h = x.double()
    for conv, norm, _ in net.blocks:
        h = _norm(F.conv2d(h, conv.weight.double(), stride=2, padding=1), norm)
        h = torch.where(h > 0, h, 0.2 * h)
    conv, norm = net.code
    h = _norm(F.conv2d(h, conv.weight.double(), stride=2, padding=1), norm)
    h = torch.where(h > 0, h, 0.2 * h) if last else h
    y, z = net(x)
    torch.testing.assert_close(y, h[:, :3].mean((2, 3)).float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(z, h[:, 3:].float(), rtol=1e-4, atol=1e-4)
    assert (y < 0).any()
    assert (y > 0).any()
    assert AttributeEncoder(3).last_activation


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_decoder_equals_its_definition(layout):
    """Each block convolves y, as constant maps, and the maps before it."""
    net = _perturbed(AttributeDecoder(3, z_channels=4, channels=2, base=5, image_size=64))
    net.to(memory_format=layout)
    y, z = torch.randn(6, 3), torch.randn(6, 4, 2, 2)
    h = z.double()
    layers = [net.first, *net.others]
    for i, layer in enumerate(layers):
        if i:
            h = _norm(h, net.norms[i - 1]).clamp(min=0)
        constant = y.double()[:, :, None, None] * torch.ones(h.shape[2:]).double()
        h = F.conv_transpose2d(
            torch.cat([constant, h], 1), layer.weight.double(), stride=2, padding=1
        )
    given = z.contiguous(memory_format=layout)
    torch.testing.assert_close(net(y, given), h.tanh().float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_growth_is_exact(layout):
    old = _perturbed(AttributeAutoencoder(3, z_channels=4, channels=2, base=5, image_size=32))
    old.to(memory_format=layout)
    x = torch.rand(4, 2, 32, 32).contiguous(memory_format=layout)
    new = copy.deepcopy(old)
    for extra in (4, 2):
        new.widen(extra)
    y, z = old.encoder(x)
    y_new, z_new = new.encoder(x)
    assert z_new.shape == (4, 10, 2, 2)
    torch.testing.assert_close(y_new, y, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(z_new[:, :4], z, rtol=1e-6, atol=1e-6)
    assert (z_new[:, 4:].std(0) > 0).all()
    assert (new(x) - old(x)).abs().max() > 1e-4  # fresh weights act
    with torch.no_grad():
        new.decoder.first.weight[3 + 4 :] = 0
    torch.testing.assert_close(new(x), old(x), rtol=1e-6, atol=1e-6)
    for name, value in old.state_dict().items():
        after = new.state_dict()[name]
        assert torch.equal(after[tuple(slice(n) for n in value.shape)], value), name
    assert new.encoder.code[0].weight.is_contiguous(memory_format=layout)
    assert new.decoder.first.weight.is_contiguous(memory_format=layout)


def test_growth_keeps_dtype_and_gradients():
    net = AttributeAutoencoder(2, 2, 1, 2, 16).double()
    net.widen(2)
    y, z = net.encoder(torch.rand(3, 1, 16, 16).double())
    net.decoder(y, z).square().sum().backward()
    assert all(p.grad is not None and p.dtype == torch.float64 for p in net.parameters())


def test_copies():
    net = _perturbed(AttributeAutoencoder(2, 2, 1, 2, 16))
    net.widen(2)
    x = torch.rand(3, 1, 16, 16)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), net(x))
    fresh = AttributeAutoencoder(2, 4, 1, 2, 16).eval()
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh(x), net(x))


@pytest.mark.parametrize("make", [AttributeEncoder, AttributeDecoder, AttributeAutoencoder])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"attributes": 0}, ValueError, "attributes must be .*, got 0"),
        ({"z_channels": 0}, ValueError, "z_channels must be .*, got 0"),
        ({"base": 1.5}, TypeError, "base must be .*, got 1.5"),
        ({"channels": 0}, ValueError, "channels must be .*, got 0"),
        ({"image_size": 8}, ValueError, "image_size must be .*, got 8"),
        ({"image_size": 48}, ValueError, "image_size must be .*, got 48"),
        ({"image_size": 512}, ValueError, "image_size must be .*, got 512"),
    ],
)
def test_bad_sizes(make, options, error, message):
    with pytest.raises(error, match=message):
        make(**{"attributes": 2} | options)


def test_bad_inputs():
    net = AttributeAutoencoder(2, 3, 1, 2, 16)
    with pytest.raises(ValueError, match=r"x must have shape .*, got \(2, 3, 16, 16\)"):
        net.encoder(torch.zeros(2, 3, 16, 16))
    with pytest.raises(ValueError, match=r"y must have shape \(B, 2\), got \(2, 3\)"):
        net.decoder(torch.zeros(2, 3), torch.zeros(2, 3, 2, 2))
    with pytest.raises(ValueError, match=r"z must have shape \(B, 3, 2, 2\), got \(2, 12\)"):
        net.decoder(torch.zeros(2, 2), torch.zeros(2, 12))
    with pytest.raises(ValueError, match=r"extra must be .*, got 0"):
        net.widen(0)
