"""Networks take exactly what they are made for, in any storage, and refuse what they would bend."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from pydisent import nn as networks

GENERATOR = torch.Generator().manual_seed(0)


def draw(*shape):
    return torch.randn(shape, generator=GENERATOR, dtype=torch.float64)


NARROW = {"max_width": 8, "min_width": 4}
MODULES = {
    "TranslatedPReLU": (lambda: networks.TranslatedPReLU(4, threshold=0.1), [(4, 3, 2)]),
    "AttributeAutoencoder": (lambda: networks.AttributeAutoencoder(3, 4, 3, 2, 16), [(3, 16, 16)]),
    "AttributeDecoder": (lambda: networks.AttributeDecoder(3, 4, 3, 2, 16), [(3,), (4, 2, 2)]),
    "BandMask": (lambda: networks.BandMask(4, 6, 5, codes=2), [(4, 6, 5)]),
    "BandMask of softmax": (lambda: networks.BandMask(4, 6, 5, kind="softmax"), [(4, 6, 5)]),
    "SpatialConstriction": (
        lambda: networks.SpatialConstriction(4, 6, 5, codes=2), [(4, 6, 5), (2,)]
    ),
    "CumaxGate": (lambda: networks.CumaxGate(4, 6), [(4,)]),
    "ConstrictedGenerator": (lambda: networks.ConstrictedGenerator(2, 1, 8, **NARROW), [(2,)]),
    "ConstrictedGenerator of blocks": (
        lambda: networks.ConstrictedGenerator(
            2, 1, 8, constricted=False, width_schedule="blocks", resampling="unfiltered", **NARROW
        ),
        [(2,)],
    ),
    "ConvDecoder": (lambda: networks.ConvDecoder(5, 1, 4, 8, 16), [(5,)]),
    "ConvEncoder": (lambda: networks.ConvEncoder(5, 1, 4, 8, 16), [(1, 16, 16)]),
    "DCGANGenerator": (lambda: networks.DCGANGenerator(5, 3, 4, 16), [(5,)]),
    "DCGANDiscriminator": (lambda: networks.DCGANDiscriminator(3, 4, 16), [(3, 16, 16)]),
    "DCGANEncoder": (lambda: networks.DCGANEncoder(5, 3, 4, 16), [(3, 16, 16)]),
    "IBGANGenerator": (lambda: networks.IBGANGenerator(5, 1, 4, 16), [(5,)]),
    "IBGANHead": (lambda: networks.IBGANHead(2, 4, 16), [(16, 2, 2)]),
    "RepresentationEncoder": (lambda: networks.RepresentationEncoder(5, 3, (8,)), [(5,)]),
    "ResidualDiscriminator": (
        lambda: networks.ResidualDiscriminator(3, 16, **NARROW), [(3, 16, 16)]
    ),
    "ResidualRecogniser": (lambda: networks.ResidualRecogniser(3, 3, 16, **NARROW), [(3, 16, 16)]),
    "dense CodeDecoder": (lambda: networks.mlp_decoder(2, (1, 8, 8), (7,)), [(2,)]),
    "convolutional CodeDecoder": (lambda: networks.conv_decoder(2, (1, 8, 8), (7, 5)), [(2,)]),
    "DoublingConvTranspose2d": (lambda: networks.DoublingConvTranspose2d(4, 2), [(4, 3, 5)]),
    "wide DoublingConvTranspose2d": (lambda: networks.DoublingConvTranspose2d(4, 9), [(4, 3, 5)]),
    "HalvingConv2d": (lambda: networks.HalvingConv2d(2, 4), [(2, 6, 8)]),
    "HalvingConv2d of odd images": (lambda: networks.HalvingConv2d(2, 4), [(2, 7, 9)]),
}  # fmt: skip
#: Networks of any image size, as convolutions are.
FREE = [n for n in MODULES if "Conv2d" in n or "ConvTranspose2d" in n or n == "TranslatedPReLU"]


def made(name, batch=3):
    make, shapes = MODULES[name]
    torch.manual_seed(0)
    return make().double().eval(), [draw(batch, *shape) for shape in shapes]


def outputs_of(module, inputs):
    found = module(*inputs)
    return found if isinstance(found, tuple) else (found,)


def close(found, expected, **tolerance):
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, **tolerance)


def spaced(x):
    wide = torch.full((*x.shape[:-1], 2 * x.shape[-1]), torch.nan, dtype=x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


STORAGES = {
    "negated": lambda x: torch._neg_view(-x),
    "spaced": spaced,
    "reversed axes": lambda x: x.permute(*range(x.dim())[::-1]).contiguous().permute(
        *range(x.dim())[::-1]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_storage_autocast_and_transforms_do_not_matter_in_double_precision(name):
    module, inputs = made(name)
    expected = outputs_of(module, inputs)
    for storage in STORAGES.values():
        close(outputs_of(module, map(storage, inputs)), expected)
    with torch.autocast("cpu", torch.bfloat16):
        close(outputs_of(module, inputs), expected, rtol=0, atol=0)
        leaves = [x.clone().requires_grad_() for x in inputs]
        close(outputs_of(module, leaves), expected)
    stacked = [torch.stack([2 * x, x]) for x in inputs]
    found = torch.func.vmap(module)(*stacked)
    close([x[1] for x in (found if isinstance(found, tuple) else (found,))], expected)


def test_a_module_in_single_precision_follows_autocast():
    x = draw(2, 4, 3, 5).float()
    layer = networks.DoublingConvTranspose2d(4, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


@pytest.mark.parametrize("name", MODULES)
def test_other_shapes_are_refused_not_broadcast(name):
    module, inputs = made(name)
    for i, x in enumerate(inputs):
        wrong = [x[0], x[None], x[..., None], *([x[:1], x[:2]] if len(inputs) > 1 else [])]
        for axis in range(1, 2 if name in FREE else x.dim()):
            length = x.shape[axis]
            wrong += [torch.cat([x, x.narrow(axis, 0, 1)], axis)]
            wrong += [x.narrow(axis, 0, size) for size in {1, length - 1} - {length, 0}]
        if name in FREE:
            wrong = [y for y in wrong if y.dim() == x.dim()]
        for y in wrong:
            with pytest.raises((ValueError, RuntimeError)):
                module(*inputs[:i], y, *inputs[i + 1 :])


@pytest.mark.parametrize("name", MODULES)
def test_a_module_filled_from_its_state_dict_is_the_same(name):
    """As large networks are loaded: made without memory, and filled."""
    module, inputs = made(name)
    with torch.device("meta"):
        empty = MODULES[name][0]().double()
    assert all(p.is_meta for p in empty.parameters())
    # The buffers of a freed network leave other numbers in the memory that is reused.
    filled = empty.to_empty(device="cpu").eval()
    for buffer in filled.buffers():
        if buffer.is_floating_point():
            assert buffer.dtype == torch.float64
    filled.load_state_dict(module.state_dict())
    close(outputs_of(filled, inputs), outputs_of(module, inputs), rtol=0, atol=0)
    half = copy.deepcopy(module).to(torch.bfloat16).double()
    blurs = [b for b in half.modules() if type(b).__name__ == "_Blur"]
    own = [b for b in module.modules() if type(b).__name__ == "_Blur"]
    assert all(torch.equal(a.kernel, b.kernel) for a, b in zip(blurs, own, strict=True))


@pytest.mark.parametrize("shape", [(), (5,), (2, 1), (2, 4), (2, 1, 5)])
def test_translated_prelu_refuses_other_channels(shape):
    message = rf"^x must have shape \(B, 5, ...\), got {re.escape(str(shape))}$"
    with pytest.raises(ValueError, match=message):
        networks.TranslatedPReLU(5)(torch.ones(shape))
    with pytest.raises(ValueError, match=r"^threshold must be a finite number, got nan$"):
        networks.TranslatedPReLU(5, threshold=torch.nan)


COMPUTED = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "weight norm's hook": nn.utils.weight_norm,
    "spectral norm's hook": nn.utils.spectral_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("kind", COMPUTED)
def test_a_weight_that_is_computed_is_not_written_to(kind):
    layer = COMPUTED[kind](nn.Linear(4, 3))
    message = "^layer must have a plain parameter weight, without weight norm"
    before = copy.deepcopy(layer.state_dict())
    for change in (
        lambda: networks.with_more_outputs(layer, 1),
        lambda: networks.with_more_inputs(layer, 1),
        lambda: networks.fold_batch_norm(layer, nn.BatchNorm1d(3)),
    ):
        with pytest.raises(TypeError, match=message):
            change()
    if "hook" in kind:
        with pytest.raises(TypeError, match=r"^1 must have a plain parameter weight"):
            networks.normalize_spectrally(nn.Sequential(nn.Linear(2, 4), layer))
    assert all(torch.equal(x, before[name]) for name, x in layer.state_dict().items())
    with pytest.raises(TypeError, match=message):
        networks.with_more_outputs(nn.LazyLinear(3), 1)


@pytest.mark.parametrize(
    ("layer", "norm", "words"),
    [
        (nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3), "layer must have a bias, got Linear"),
        (nn.Linear(4, 3), nn.BatchNorm1d(1), "norm must be of 3 features, got BatchNorm1d(1"),
        (nn.Linear(4, 3), nn.BatchNorm1d(4), "norm must be of 3 features, got BatchNorm1d(4"),
        (
            nn.Linear(4, 3),
            nn.BatchNorm1d(3, track_running_stats=False),
            "norm must have running statistics",
        ),
        (
            nn.ConvTranspose2d(4, 4, 3, groups=2),
            nn.BatchNorm2d(4),
            "layer must be without groups if transposed",
        ),
    ],
)
def test_what_cannot_be_folded_is_left_as_it_is(layer, norm, words):
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises((ValueError, TypeError), match=f"^{re.escape(words)}"):
        networks.fold_batch_norm(layer, norm)
    assert all(torch.equal(x, before[name]) for name, x in layer.state_dict().items())


def test_more_features_of_a_norm():
    frozen = nn.BatchNorm2d(3).requires_grad_(False)
    assert not any(p.requires_grad for p in networks.with_more_features(frozen, 2).parameters())
    for other in (nn.GroupNorm(1, 3), None):
        with pytest.raises(TypeError, match=r"^norm must be a batch norm, got "):
            networks.with_more_features(other, 1)


@pytest.mark.parametrize("factor", [0.0, 1e-20])
def test_a_weight_without_direction_cannot_be_normalised(factor):
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    with torch.no_grad():
        network[2].weight.mul_(factor)
    with pytest.raises(ValueError, match=r"^2\.weight must be of norm > 1e-10, as a direction"):
        networks.normalize_spectrally(network)
    assert not nn.utils.parametrize.is_parametrized(network[0])
    with torch.no_grad():
        network[2].weight.fill_(1e-9)
    x = draw(2, 4).float()
    before = network(x)
    networks.normalize_spectrally(network)
    torch.testing.assert_close(network.eval()(x), before)


def test_a_frozen_layer_gets_a_frozen_scale():
    layer = nn.Linear(4, 3)
    layer.weight.requires_grad_(False)
    networks.normalize_spectrally(layer)
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["bias"]


class Linear(nn.Module):
    def __init__(self, outputs=3, buffer=2):
        super().__init__()
        self.layer = nn.Linear(4, outputs)
        self.register_buffer("seen", torch.ones(buffer))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Linear(1), "module's layer.weight must be (3, 4) torch.float32, as in the average"),
        (Linear(buffer=1), "module's seen must be (2,) torch.float32, as in the average, got (1,)"),
        (Linear().double(), "module's layer.weight must be (3, 4) torch.float32, as in"),
        (nn.Sequential(Linear(), nn.Linear(3, 3)), "module must have 2 parameters, as the average"),
        (nn.Linear(4, 3), "module must have 1 buffers, as the average, got 0"),
    ],
)  # fmt: skip
def test_an_average_is_of_modules_alike(other, words):
    average = networks.ExponentialAverage(Linear(), 0.5)
    before = copy.deepcopy(average.state_dict())
    with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
        average.update(other, 0)
    assert all(torch.equal(x, before[name]) for name, x in average.state_dict().items())


def test_an_average_of_a_wrapped_module_and_of_counted_steps():
    module = Linear()
    average = networks.ExponentialAverage(module, 0.5)
    with torch.no_grad():
        module.layer.weight.add_(1)
    average.update(torch.compile(module), 0)
    torch.testing.assert_close(module.layer.weight - average.module.layer.weight,
                               torch.full((3, 4), 0.1))  # fmt: skip
    for step, error in ((-1, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match=r"^step must be an integer >= 0, got "):
            average.update(module, step)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_average_in_half_precision_would_stand_still(dtype):
    one = torch.ones(1, dtype=dtype)
    assert torch.equal(one.lerp(1.5 * one, 1e-4), one)
    with pytest.raises(TypeError, match=f"half precision rounds the updates off, got {dtype} for"):
        networks.ExponentialAverage(nn.Linear(2, 2).to(dtype), 0.9999)


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        ("conv_decoder", (2, (1, 9, 9), (5, 4)), "image_shape must be of a height and width divis"),
        ("conv_decoder", (2, (1, 8, 16), (5,)), "image_shape must be square, got (1, 8, 16)"),
        ("conv_decoder", (2, (1, 4, 4), (5,) * 3), "image_shape must be of a height and width div"),
        ("conv_encoder", (2, (1, 9, 8), (5,)), "image_shape must be of a height and width divis"),
        ("conv_encoder", (2, (1, 8, 8), ()), "widths must be of at least one block, got ()"),
        ("mlp_encoder", (0, (1, 8, 8), (5,)), "code_size must be an integer >= 1, got 0"),
        ("mlp_decoder", (2, (1, 8), (5,)), "image_shape must be (C, H, W), got (1, 8)"),
        ("mlp_decoder", (2, (1, 8, 0), (5,)), "image_shape must be an integer >= 1, got 0"),
        ("conv_encoder", (2, (1, 8, 8), (5, 0)), "widths must be an integer >= 1, got 0"),
    ],
)
def test_sizes_that_code_networks_cannot_have(make, arguments, words):
    with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
        getattr(networks, make)(*arguments)
