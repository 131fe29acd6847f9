import pytest
import torch
from torch.nn import functional as F

from pydisent.nn import ConvDecoder, ConvEncoder, LatentDiscriminator


def _count(net):
    return sum(p.numel() for p in net.parameters())


def _perturb(net):
    """Move every parameter off its initial value, so that none goes untested."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return [p.detach().double() for p in net.parameters()]


def test_published_sizes():
    """4×4 kernels of 32, 32, 64 and 64 maps, 256 units, 10 latents: counted by hand."""
    convolutions = 544 + 16_416 + 32_832 + 65_600
    assert _count(ConvEncoder(20)) == convolutions + (1024 * 256 + 256) + (256 * 20 + 20)
    # Locatello et al.'s encoder has 2×2 kernels in its third and fourth convolution.
    convolutions = 544 + 16_416 + (2 * 2 * 32 * 64 + 64) + (2 * 2 * 64 * 64 + 64)
    of_lib = ConvEncoder(20, late_kernel=2)
    assert _count(of_lib) == convolutions + (1024 * 256 + 256) + (256 * 20 + 20)
    transposed = 65_600 + 32_800 + 16_416 + 513
    assert _count(ConvDecoder(10)) == (10 * 256 + 256) + (256 * 1024 + 1024) + transposed
    discriminator = (10 * 1000 + 1000) + 5 * (1000 * 1000 + 1000) + (1000 * 2 + 2)
    assert _count(LatentDiscriminator(10)) == discriminator


@pytest.mark.parametrize("late_kernel", [4, 2])
def test_encoder_equals_its_definition(late_kernel):
    """Kernels of 2×2 halve without padding, as TensorFlow's padding "same" of even images."""
    net = ConvEncoder(6, channels=2, base=3, hidden=7, image_size=64, late_kernel=late_kernel)
    *convolutions, w1, b1, w2, b2 = _perturb(net)
    assert [w.shape[2] for w in convolutions[::2]] == [4, 4, late_kernel, late_kernel]
    x = torch.rand(4, 2, 64, 64)
    h = x.double()
    for weight, bias in zip(convolutions[::2], convolutions[1::2]):
        padding = {4: 1, 2: 0}[weight.shape[2]]
        h = F.conv2d(h, weight, bias, stride=2, padding=padding).clamp(min=0)
    expected = (h.flatten(1) @ w1.T + b1).clamp(min=0) @ w2.T + b2
    torch.testing.assert_close(net(x), expected.float(), rtol=1e-4, atol=1e-4)


def test_decoder_equals_its_definition():
    net = ConvDecoder(5, channels=2, base=3, hidden=7, image_size=64)
    w1, b1, w2, b2, *convolutions = _perturb(net)
    z = torch.randn(4, 5)
    h = (z.double() @ w1.T + b1).clamp(min=0) @ w2.T + b2
    h = h.view(4, 6, 4, 4)
    for weight, bias in zip(convolutions[::2], convolutions[1::2]):
        h = F.conv_transpose2d(h.clamp(min=0), weight, bias, stride=2, padding=1)
    torch.testing.assert_close(net(z), h.float(), rtol=1e-4, atol=1e-4)


def test_discriminator_equals_its_definition():
    net = LatentDiscriminator(3, width=5, layers=2)
    weights = _perturb(net)
    z = torch.randn(4, 3)
    h = z.double()
    for i in range(0, 6, 2):
        h = h @ weights[i].T + weights[i + 1]
        h = torch.where(h > 0, h, 0.2 * h) if i < 4 else h
    torch.testing.assert_close(net(z), h.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("net", [ConvEncoder(20), ConvDecoder(10), LatentDiscriminator(10)])
def test_initial_weights_follow_glorot(net):
    """Uniform with variance 2 / (inputs + outputs) of a unit, a unit seeing 4×4 pixels."""
    for layer in net.modules():
        if not list(layer.parameters(recurse=False)):
            continue
        fans = sum(layer.weight.shape[:2]) * layer.weight[0, 0].numel()
        assert layer.weight.abs().max() <= (6 / fans) ** 0.5
        assert float(layer.weight.detach().square().mean()) == pytest.approx(2 / fans, rel=0.15)
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ("size", "maps"),
    [
        (8, [64]),
        (16, [32, 64]),
        (32, [32, 64, 64]),
        (64, [32, 32, 64, 64]),
        (128, [32, 32, 64, 64, 64]),
    ],
)
def test_other_image_sizes_change_the_depth_only(size, maps):
    encoder, decoder = ConvEncoder(4, 3, image_size=size), ConvDecoder(2, 3, image_size=size)
    convolutions = [m for m in encoder if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == maps
    assert [m.in_features for m in encoder if isinstance(m, torch.nn.Linear)] == [1024, 256]
    assert encoder(torch.rand(2, 3, size, size)).shape == (2, 4)
    assert decoder(torch.randn(2, 2)).shape == (2, 3, size, size)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ConvEncoder(0), "outputs must be .*, got 0"),
        (lambda: ConvEncoder(4, late_kernel=3), "late_kernel must be 4 or 2, got 3"),
        (lambda: ConvEncoder(4, base=0), "base must be .*, got 0"),
        (lambda: ConvDecoder(0), "latent_size must be .*, got 0"),
        (lambda: ConvDecoder(4, hidden=-1), "hidden must be .*, got -1"),
        (lambda: ConvEncoder(4, image_size=48), "image_size must be a power of two >= 8, got 48"),
        (lambda: ConvDecoder(4, image_size=4), "image_size must be .*, got 4"),
        (lambda: LatentDiscriminator(4, width=0), "width must be .*, got 0"),
        (lambda: LatentDiscriminator(4, layers=0), "layers must be .*, got 0"),
    ],
)
def test_bad_sizes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
