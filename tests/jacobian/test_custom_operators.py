"""Operators of ``torch.library``: with their formulas, or refused if they have none."""

import numpy as np
import pytest
import torch
from _functions import METHODS, D, assert_right, draw_codes, exact_penalty
from torch import nn

from pydisent import DerivativeError

LIBRARY = torch.library.Library("pydisent_tests", "FRAGMENT")
OPS = torch.ops.pydisent_tests
torch.manual_seed(0)
LAYER = nn.Linear(4, 6).double()


def define(name, schema, function, key="CPU"):
    LIBRARY.define(f"{name}{schema}")
    LIBRARY.impl(name, function, key)


def opaque(x):
    """A sine that autograd cannot look into, as in a kernel written in C++."""
    return torch.from_numpy(np.sin(x.detach().numpy()))


def write(x, out):
    out.detach().copy_(opaque(x))


@torch.library.custom_op("pydisent_tests::written", mutates_args=("out",))
def written(x: torch.Tensor, out: torch.Tensor) -> None:
    write(x, out)


@torch.library.custom_op("pydisent_tests::overwritten", mutates_args=("x",))
def overwritten(x: torch.Tensor) -> None:
    write(x, x)


@torch.library.custom_op("pydisent_tests::right", mutates_args=())
def right(x: torch.Tensor) -> torch.Tensor:
    return opaque(x)


right.register_autograd(
    lambda ctx, cotangent: cotangent * ctx.saved_tensors[0].cos(),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)
define("composed", "(Tensor x) -> Tensor", torch.sin, "CompositeImplicitAutograd")
define("bare", "(Tensor x) -> Tensor", opaque)
define("bare_write", "(Tensor x, Tensor(a!) out) -> ()", write)
define("largest", "(Tensor x) -> Tensor", lambda x: x.argmax(1))


def through(operator):
    """A function that reads what an operator writes into its second argument."""

    def fn(z):
        x = LAYER(z)
        out = torch.zeros(3, 6, dtype=D)
        operator(x, out)
        return x + out

    return fn


def in_place(z):
    x = LAYER(z) * 1
    overwritten(x)
    return x * 2


REFUSED = {
    "bare": lambda z: LAYER(z) + OPS.bare(LAYER(z)),
    "bare_write": through(OPS.bare_write),
    "bare_write.default": through(OPS.bare_write.default),
    "written": through(written),
    "overwritten": in_place,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", REFUSED)
def test_an_operator_without_a_formula_is_refused_where_its_result_is_read(name, method):
    with pytest.raises(DerivativeError, match=rf"pydisent_tests.{name}.*constant"):
        exact_penalty(REFUSED[name], draw_codes(), method)


def test_what_is_not_read_or_has_a_formula_is_right():
    def unread(z):
        x = LAYER(z)
        written(x, torch.zeros(3, 6, dtype=D))
        return x.sin()

    def constant(z):
        x, out = LAYER(z), torch.zeros(3, 6, dtype=D)
        written(LAYER.weight[:3, :1].detach().expand(3, 6), out)
        with torch.no_grad():
            OPS.bare_write(LAYER.weight[:1, :1].expand(3, 6), out)
        return x * out

    def chosen(z):
        x = LAYER(z)
        return x.sin().gather(1, OPS.largest(x)[:, None])

    z = draw_codes()
    for fn in (unread, constant, chosen):
        assert_right(fn, z)
    assert_right(lambda z: right(LAYER(z)), z)
    assert_right(lambda z: OPS.composed(LAYER(z)), z)
