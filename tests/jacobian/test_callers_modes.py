"""A caller's own function modes act on the function, not on the engine's computation."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from _functions import METHODS, D, draw_codes, exact_penalty
from torch import nn
from torch.overrides import TorchFunctionMode

import pydisent


class Replacing(TorchFunctionMode):
    """Replaces functions: one by another with a rule, one by one with wrong derivatives."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.tanh, torch.Tensor.tanh):
            return torch.sin(*args, **kwargs)
        if func is F.relu:
            return F.layer_norm(args[0], args[0].shape[-1:])
        return func(*args, **kwargs)


torch.manual_seed(0)
LAYERS = nn.Linear(4, 6).double(), nn.Linear(6, 5).double()


def fn(z):
    # The slope of this GELU is itself computed by tanh.
    return LAYERS[1](F.relu(F.gelu(LAYERS[0](z).tanh(), approximate="tanh")))


def replaced(z):
    with Replacing():
        return fn(z)


def plain(z):
    x = F.gelu(LAYERS[0](z).sin(), approximate="tanh")
    return LAYERS[1](F.layer_norm(x, (6,)))


def results_of(fn, method, mode=contextlib.nullcontext):
    parameters = [p for layer in LAYERS for p in layer.parameters()]
    with mode():
        if method == "hessian":
            value = pydisent.hessian_penalty(fn, draw_codes(), reduction="sum")
        else:
            value = exact_penalty(fn, draw_codes(), method)
        jacobian = pydisent.linearize(fn, draw_codes()).jacobian()
    assert not torch._C._len_torch_function_stack()
    return value, jacobian, *torch.autograd.grad(value, parameters, materialize_grads=True)


@pytest.mark.parametrize("method", [*METHODS, "hessian"])
def test_a_mode_that_replaces_functions(method):
    expected = results_of(plain, method)
    assert expected[0].dtype == D
    torch.testing.assert_close(results_of(fn, method, Replacing), expected)
    torch.testing.assert_close(results_of(replaced, method), expected)
