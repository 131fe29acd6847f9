import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pydisent.nn import DCGANDiscriminator, DCGANEncoder, DCGANGenerator


def _weight(layer, out_axis):
    """The weight from its direction and scale, by the definition of Salimans & Kingma."""
    scale = layer.parametrizations.weight.original0.detach()
    direction = layer.parametrizations.weight.original1.detach().numpy()
    axes = tuple(i for i in range(direction.ndim) if i != out_axis)
    norm = np.sqrt((direction.astype(np.float64) ** 2).sum(axes, keepdims=True))
    return torch.from_numpy(scale.numpy() * direction / norm)


def _prelu(x, layer):
    a, c = (p.detach().double().view(1, -1, 1, 1) for p in (layer.leak, layer.threshold))
    return torch.where(x >= c, x, a * (x - c) + c)


def _perturb(net):
    """Move every parameter off its initial value, so that none goes untested."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def test_paper_widths():
    generator = DCGANGenerator(128)
    convs = [m for m in generator.layers if isinstance(m, torch.nn.ConvTranspose2d)]
    assert [m.in_channels for m in convs] == [512, 256, 128, 64]
    assert convs[-1].out_channels == 3
    discriminator = DCGANDiscriminator()
    convs = [m for m in discriminator.trunk if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convs] == [64, 128, 256, 512]
    assert discriminator.logit.in_features == 512 * 16


def test_generator_equals_its_definition():
    net = _perturb(DCGANGenerator(5, channels=2, base=3, image_size=32))
    z = torch.randn(4, 5)
    h = z.double() @ _weight(net.project, 0).T + net.project.bias.double()
    h = _prelu(h.view(4, 12, 4, 4), net.first)
    for layer in net.layers:
        if isinstance(layer, torch.nn.ConvTranspose2d):
            weight = _weight(layer, 1)
            h = F.conv_transpose2d(h, weight, layer.bias.double(), stride=2, padding=1)
        else:
            h = _prelu(h, layer)
    torch.testing.assert_close(net(z), ((h.tanh() + 1) / 2).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("image_size", [16, 32, 64, 128])
def test_shapes_and_range(image_size):
    torch.manual_seed(0)
    images = DCGANGenerator(7, channels=1, base=2, image_size=image_size)(torch.randn(3, 7))
    assert images.shape == (3, 1, image_size, image_size)
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std() > 0.05
    assert DCGANDiscriminator(1, 2, image_size)(images).shape == (3,)
    assert DCGANEncoder(7, 1, 2, image_size)(images).shape == (3, 7)
    assert DCGANGenerator(7, 1, 2, image_size)(torch.randn(0, 7)).shape[0] == 0


def test_discriminator_scale_is_fixed_to_one():
    net = DCGANDiscriminator(1, 4, 32)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(8, 1, 32, 32)).square().mean().backward()
        optimizer.step()
    for layer in [*net.trunk, net.logit]:
        if hasattr(layer, "parametrizations"):
            norms = layer.weight.flatten(1).norm(dim=1)
            torch.testing.assert_close(norms, torch.ones_like(norms))


def test_generator_and_encoder_scales_are_learned():
    for net in (DCGANGenerator(3, 1, 2, 16), DCGANEncoder(3, 1, 2, 16)):
        scales = [p for name, p in net.named_parameters() if name.endswith("original0")]
        assert len(scales) == 3
        assert all(scale.requires_grad for scale in scales)


@pytest.mark.parametrize(
    ("name", "value"),
    [("latent_size", 0), ("channels", 0), ("base", -1), ("image_size", 8), ("image_size", 48)],
)
def test_bad_sizes_are_named(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be .*, got {value}"):
        DCGANGenerator(**{"latent_size": 4, name: value})
