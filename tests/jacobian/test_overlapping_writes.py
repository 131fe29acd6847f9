"""Writes in place whose arguments share memory: right, or refused if the order matters."""

import pytest
import torch
from _functions import METHODS, D, assert_right, by_differences, draw_codes, exact_penalty
from _oracle import power_iterations
from torch import nn

import pydisent
from pydisent import DerivativeError

torch.manual_seed(0)
LAYER = nn.Linear(4, 6).double()
# (written, read) columns of (B, 6)
PARTS = {
    "itself": (slice(None), slice(None)),
    "apart": (slice(3), slice(3, 6)),
    "interleaved": (slice(0, 6, 2), slice(1, 6, 2)),
    "behind": (slice(1, None), slice(-1)),
    "ahead": (slice(-1), slice(1, None)),
    "the first": (slice(None), slice(1)),
    "the last": (slice(None), slice(5, 6)),
}
WRITES = {
    "add": lambda a, b: a.add_(b),
    "sub": lambda a, b: a.__isub__(b),
    "mul": lambda a, b: a.mul_(b),
    "copy": lambda a, b: a.copy_(b),
    "setitem": lambda a, b: a.__setitem__(slice(None), b),
    "addcmul": lambda a, b: a.addcmul_(b, b),
}


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("write", WRITES)
def test_a_write_is_right_or_refused(write, parts):
    written, read = PARTS[parts]

    def fn(z):
        x = LAYER(z).tanh()
        y = x.clone()
        WRITES[write](y[:, written], y[:, read])
        return x + y

    z = draw_codes()
    jacobian = by_differences(fn, z)
    gram = jacobian.mT @ jacobian
    expected = power_iterations(lambda v: gram @ v, torch.ones(3, 4, 2, dtype=D), 2, True)
    refused = {}
    for method in METHODS:
        try:
            assert abs(exact_penalty(fn, z, method).detach() - expected) <= 1e-8, method
        except DerivativeError as error:
            refused[method] = str(error)
    for method, words in refused.items():
        # Double backward has errors of its own for a value written after it was saved.
        own = "inplace operation" if method == "autograd" else "never"
        assert "reads elements that it also writes" in words or own in words
    if parts in ("itself", "apart", "interleaved"):
        assert refused.keys() <= {"autograd"}
    if not refused:
        got = pydisent.linearize(fn, z).jacobian()
        torch.testing.assert_close(got, jacobian, atol=1e-9, rtol=1e-9)


def test_the_first_column_subtracted_in_place():
    def fn(z):
        x = LAYER(z) * 1
        x -= x[:, :1]
        return x.sin()

    for method in METHODS:
        with pytest.raises(DerivativeError, match="reads elements that it also writes"):
            exact_penalty(fn, draw_codes(), method)


def test_writes_inside_of_vmap():
    def write(x):
        y = x.sin()
        y[1:] += x[:-1].cos()
        return y

    assert_right(lambda z: torch.vmap(write)(LAYER(z)), draw_codes())


@pytest.mark.parametrize("method", METHODS)
def test_as_strided_scatter(method):
    def fn(z):
        x = LAYER(z).tanh()
        return torch.as_strided_scatter(x, x[:, :4].reshape(-1, 2, 2).sin(), (3, 2, 2), (6, 1, 3))

    z = draw_codes()
    jacobian = by_differences(fn, z)
    gram = jacobian.mT @ jacobian
    expected = power_iterations(lambda v: gram @ v, torch.ones(3, 4, 2, dtype=D), 2, True)
    assert abs(exact_penalty(fn, z, method).detach() - expected) <= 1e-8
