"""Samples that depend on each other's codes are refused, or what couples them is held."""

import pytest
import torch
import torch.nn.functional as F
from _functions import (
    METHODS,
    ROUTES,
    D,
    assert_right,
    by_differences,
    draw_codes,
    exact_penalty,
)
from torch import nn

import pydisent


def _by_hand(x):
    return (x - x.mean(0)) * torch.rsqrt(x.var(0, correction=0) + 1e-5)


COUPLED = {
    "mean": lambda x: _by_hand(x),
    "matmul": lambda x: torch.ones(3, 3, dtype=D) @ x / 3,
    "a permutation": lambda x: x.roll(1, 0),
    "add": lambda x: x + x[:1].sin(),
    "cumsum": lambda x: x.cumsum(0),
    "softmax": lambda x: torch.softmax(x, 0),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", COUPLED)
def test_coupled_samples_are_refused_and_the_operation_named(name, method):
    layer = nn.Linear(4, 6).double()
    with pytest.raises(ValueError, match="mixes the samples") as error:
        exact_penalty(lambda z: COUPLED[name](layer(z)).tanh(), draw_codes(), method)
    assert method == "autograd" or name in str(error.value)


@pytest.mark.parametrize("method", ROUTES)
def test_held_statistics_are_those_of_batch_norm(method):
    first, last, norm = nn.Linear(4, 8), nn.Linear(8, 5), nn.BatchNorm1d(8, affine=False)
    first, last, norm = first.double(), last.double(), norm.double()
    results = []
    for normalize in (norm, _by_hand):
        z = draw_codes().requires_grad_()
        value = exact_penalty(
            lambda z, n=normalize: last(n(first(z)).tanh()), z, method, coupled="hold"
        )
        wanted = [first.weight, last.weight, z]
        results.append([value, *torch.autograd.grad(value, wanted, materialize_grads=True)])
    torch.testing.assert_close(*results)


def test_samples_that_only_change_places_in_memory_are_apart():
    weight = draw_codes(4, 6)

    def fn(z):  # as modulated convolutions have it, and sequences first
        h = (z @ weight).t().reshape(1, -1).sin()
        return h.reshape(6, 3).unsqueeze(1).permute(2, 0, 1)

    torch.testing.assert_close(
        pydisent.linearize(fn, draw_codes()).jacobian(), by_differences(fn, draw_codes())
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_statistics_of_each_sample_are_differentiated_however_they_are_written(batch):
    """Instance norm as a batch norm of one row, as MUNIT's adaptive instance norm is written."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 24).double()
    scale = torch.randn(2, dtype=D).repeat(batch)

    def fn(z):
        maps = torch.tanh(layer(z)).reshape(1, 2 * batch, 3, 4)
        running = torch.zeros(2 * batch, dtype=D), torch.ones(2 * batch, dtype=D)
        out = F.batch_norm(maps, *running, scale, None, training=True)
        return out.reshape(batch, 24)

    assert_right(fn, draw_codes(batch, 4))
