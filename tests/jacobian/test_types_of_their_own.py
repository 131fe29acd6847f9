"""Arguments of types of their own, layers without a shape, and control flow of PyTorch's."""

import pytest
import torch
import torch.nn.functional as F
from _functions import assert_right, draw_codes, exact_penalty
from torch import nn
from torch.nn.attention.bias import causal_lower_right, causal_upper_left

import pydisent
from pydisent import DerivativeError

torch.manual_seed(0)
LAYER = nn.Linear(4, 6).double()


class Halved(torch.Tensor):
    """Of which sines are half as large."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        out = super().__torch_function__(func, types, args, kwargs or {})
        return out * 0.5 if func is torch.Tensor.sin else out


class Wrapped:
    def __init__(self, tensor):
        self.tensor = tensor

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        args = [x.tensor if isinstance(x, Wrapped) else x for x in args]
        return cls(func(*args, **(kwargs or {})))


def test_types_that_say_themselves_what_functions_do():
    def halved(z):
        x = LAYER(z).as_subclass(Halved)
        y = x.sin() + F.layer_norm(x, (6,))
        y += x
        return (y * x.cos()).as_subclass(torch.Tensor)

    def plain(z):
        x = LAYER(z)
        return (0.5 * x.sin() + F.layer_norm(x, (6,)) + x) * x.cos()

    z = draw_codes()
    assert_right(halved, z, plain)
    torch.testing.assert_close(
        pydisent.second_directional_derivative(halved, z, z[None]),
        pydisent.second_directional_derivative(plain, z, z[None]),
    )
    assert_right(lambda z: F.layer_norm(Wrapped(LAYER(z)), (6,)).tensor.sin(), z)


@pytest.mark.parametrize("bias", [causal_lower_right(2, 3), causal_upper_left(2, 3)])
def test_causal_biases(bias):
    def fn(z):
        x = LAYER(z).view(-1, 1, 3, 2)
        return F.scaled_dot_product_attention(x[:, :, 1:], x.sin(), x.cos(), bias).flatten(1)

    assert_right(fn, draw_codes())


def test_a_lazy_layer_is_made_in_the_first_call():
    torch.manual_seed(0)
    net = nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.LazyLinear(3))
    exact_penalty(net, draw_codes(dtype=torch.float32)).backward()
    assert net[2].weight.grad.any()
    assert_right(net.double(), draw_codes())


def test_control_flow_of_torch_and_nested_tensors_are_refused_by_name():
    def branched(z):
        return torch.stack([torch.cond(x[0] > 0, torch.sin, torch.cos, (x,)) for x in LAYER(z)])

    def nested(z):
        return torch.nested.to_padded_tensor(torch.nested.as_nested_tensor(list(LAYER(z))), 0.0)

    with pytest.raises(DerivativeError, match=r"'cond'.*in Python"):
        pydisent.linearize(branched, draw_codes())
    with pytest.raises(RuntimeError, match=r"'cond'.*in Python"):
        exact_penalty(branched, draw_codes(), "autograd")
    with pytest.raises(DerivativeError, match="nested tensor"):
        pydisent.linearize(nested, draw_codes())
