import pytest
import torch
from torch import nn

from pydisent.nn import IBGANFront, IBGANGenerator, IBGANHead, RepresentationEncoder


def _layers(module):
    """Name each layer as the tables do, with what it makes of a batch."""
    seen = []

    def note(layer, inputs, output):
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            size = f"{layer.kernel_size[0]}×{layer.kernel_size[0]}"
            seen.append((size, layer.stride[0], tuple(output.shape[1:])))
        elif isinstance(layer, nn.Linear):
            seen.append(("FC", 1, tuple(output.shape[1:])))
        elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            seen.append("BN")

    for layer in module.modules():
        layer.register_forward_hook(note)
    return seen


def test_the_generator_of_tables_4_to_6():
    generator = IBGANGenerator(10, channels=3, base=16, image_size=64)
    seen = _layers(generator)
    images = generator(torch.randn(5, 10))
    assert images.shape == (5, 3, 64, 64)
    assert images.abs().max() <= 1
    assert seen == [
        ("FC", 1, (256,)), "BN", ("FC", 1, (4096,)), "BN",
        ("3×3", 1, (64, 8, 8)), "BN", ("3×3", 1, (64, 8, 8)), "BN",
        ("4×4", 2, (32, 16, 16)), "BN", ("4×4", 2, (16, 32, 32)), "BN", ("4×4", 2, (3, 64, 64)),
    ]  # fmt: skip


def test_the_discriminator_and_the_reconstructor_of_tables_4_to_6():
    for outputs in (1, 16):
        network = nn.Sequential(IBGANFront(1, 16), IBGANHead(outputs, 16, 64))
        seen = _layers(network)
        assert network(torch.randn(5, 1, 64, 64)).shape == (5, outputs)
        assert seen == [
            ("4×4", 2, (16, 32, 32)), ("4×4", 2, (32, 16, 16)), "BN", ("4×4", 2, (64, 8, 8)), "BN",
            ("3×3", 1, (64, 8, 8)), "BN", ("3×3", 1, (64, 8, 8)), "BN",
            ("FC", 1, (256,)), "BN", ("FC", 1, (outputs,)),
        ]  # fmt: skip


def test_the_heads_of_the_authors_code():
    layers = [
        ("4×4", 2, (16, 32, 32)), ("4×4", 2, (32, 16, 16)), "BN", ("4×4", 2, (64, 8, 8)), "BN",
        ("3×3", 1, (128, 8, 8)), "BN", ("FC", 1, (256,)), "BN",
    ]  # fmt: skip
    for outputs, units, more in ((1, (16,), []), (16, (16, 16), [("FC", 1, (256,)), "BN"])):
        network = nn.Sequential(IBGANFront(3, 16), IBGANHead(outputs, 16, 64, (8,), units))
        seen = _layers(network)
        assert network(torch.randn(5, 3, 64, 64)).shape == (5, outputs)
        assert seen == [*layers, *more, ("FC", 1, (outputs,))]


@pytest.mark.parametrize("units", [(64, 64, 32), (32, 32)])
def test_the_encoders_of_tables_4_and_5(units):
    encoder = RepresentationEncoder(16, 10, units)
    seen = _layers(encoder)
    mu, logvar = encoder(torch.randn(5, 16))
    assert mu.shape == logvar.shape == (5, 10)
    hidden = [entry for width in units for entry in (("FC", 1, (width,)), "BN")]
    assert seen == [*hidden, ("FC", 1, (20,))]


def test_the_encoder_of_the_authors_code_has_no_batch_norm():
    encoder = RepresentationEncoder(16, 10, (32, 32), batch_norm=False)
    seen = _layers(encoder)
    assert encoder(torch.randn(1, 16))[0].shape == (1, 10)
    assert seen == [("FC", 1, (32,)), ("FC", 1, (32,)), ("FC", 1, (20,))]
    linear = [layer for layer in encoder.modules() if isinstance(layer, nn.Linear)]
    assert all(layer.bias is not None for layer in linear)


@pytest.mark.parametrize("size", [16, 32, 128])
def test_other_sizes(size):
    generator = IBGANGenerator(4, 1, 2, size)
    network = nn.Sequential(IBGANFront(1, 2), IBGANHead(3, 2, size))
    assert network(generator(torch.randn(3, 4))).shape == (3, 3)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: IBGANGenerator(4, image_size=8),
            "image_size must be a power of two >= 16, got 8",
        ),
        (lambda: IBGANGenerator(0), "latent_size must be .*, got 0"),
        (lambda: IBGANFront(1, 0), "base must be .*, got 0"),
        (lambda: IBGANHead(0), "outputs must be .*, got 0"),
        (lambda: IBGANHead(1, image_size=24), "image_size must be .*, got 24"),
        (lambda: IBGANHead(1, convolutions=(4, 0)), "convolutions must be .*, got 0"),
        (lambda: IBGANHead(1, units=(0,)), "units must be .*, got 0"),
        (lambda: RepresentationEncoder(0, 4), "noise_size must be .*, got 0"),
        (lambda: RepresentationEncoder(4, 4, (8, 0)), "units must be .*, got 0"),
    ],
)
def test_bad_sizes_are_named(build, words):
    with pytest.raises(ValueError, match=words):
        build()
