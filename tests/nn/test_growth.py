import pytest
import torch
from torch import nn

from pydisent.nn import (
    fold_batch_norm,
    with_more_features,
    with_more_inputs,
    with_more_outputs,
)

LAYERS = {
    "linear": (lambda: nn.Linear(3, 4), (2, 3)),
    "no bias": (lambda: nn.Linear(3, 4, bias=False), (2, 3)),
    "conv": (lambda: nn.Conv2d(3, 4, 3, padding=1, stride=2), (2, 3, 6, 6)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 4, 2, 1), (2, 3, 5, 5)),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    torch.manual_seed(0)
    make, shape = LAYERS[request.param]
    return make(), torch.randn(shape)


def test_old_outputs_stay(layer):
    old, x = layer
    grown = with_more_outputs(old, 2)
    assert grown(x).shape[1] == 6
    torch.testing.assert_close(grown(x)[:, :4], old(x))
    assert grown(x)[:, 4:].std() > 0
    assert sum(p.numel() for p in old.parameters()) < sum(p.numel() for p in grown.parameters())


def test_zeros_for_new_inputs_change_nothing(layer):
    old, x = layer
    grown = with_more_inputs(old, 2)
    padded = torch.cat([x, torch.zeros_like(x[:, :2])], dim=1)
    torch.testing.assert_close(grown(padded), old(x))
    padded[:, 3:] = 1
    assert not torch.allclose(grown(padded), old(x))


def test_new_units_are_drawn_as_pytorch_draws_them():
    torch.manual_seed(0)
    grown = with_more_outputs(nn.Linear(100, 1), 2000)
    fresh = nn.Linear(100, 2000)
    assert grown.weight[1:].std().item() == pytest.approx(fresh.weight.std().item(), rel=0.02)


def test_growing_by_nothing(layer):
    old, x = layer
    assert torch.equal(with_more_inputs(old, 0)(x), old(x))
    assert with_more_inputs(old, 0) is not old


@pytest.mark.parametrize("affine", [True, False])
def test_folded_batch_norm(layer, affine):
    module, x = layer
    if module.bias is None:
        pytest.skip("folding needs a bias")
    kind = nn.BatchNorm1d if x.dim() == 2 else nn.BatchNorm2d
    norm = kind(4, affine=affine)
    for _ in range(3):
        norm(module(x))
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    wanted = norm.eval()(module(x)).detach()
    fold_batch_norm(module, norm)
    torch.testing.assert_close(module(x), wanted)


def test_frozen_layers_and_their_memory_format_stay():
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last).requires_grad_(False)
    grown = with_more_inputs(conv, 2)
    assert not any(p.requires_grad for p in grown.parameters())
    assert grown.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("affine", [True, False])
def test_old_features_of_a_batch_norm_stay(affine):
    norm = nn.BatchNorm2d(3, eps=1e-3, momentum=0.3, affine=affine)
    x = torch.randn(4, 5, 2, 2) * 3 + 1
    norm(x[:, :3])
    grown = with_more_features(norm.eval(), 2)
    assert not grown.training
    assert (grown.eps, grown.momentum) == (1e-3, 0.3)
    torch.testing.assert_close(grown(x)[:, :3], norm(x[:, :3]))
    torch.testing.assert_close(grown(x)[:, 3:], x[:, 3:] / (1 + 1e-3) ** 0.5)
    with pytest.raises(ValueError, match=r"count must be .*, got -1"):
        with_more_features(norm, -1)


def test_what_cannot_grow():
    with pytest.raises(ValueError, match=r"count must be .*, got -1"):
        with_more_inputs(nn.Linear(2, 2), -1)
    with pytest.raises(TypeError, match="layer must be Linear"):
        with_more_inputs(nn.Conv2d(4, 4, 3, groups=2), 1)
    with pytest.raises(TypeError, match="layer must be Linear"):
        with_more_outputs(nn.ReLU(), 1)
