"""An op computes as it does without autocast, and so does the backward pass of its kernel.

Autograd's own derivatives, of references and of second order, follow PyTorch: matrix products that
run inside of autocast are in half precision.
"""

import pytest
import torch

from pydisent.ops.registry import REGISTRY
from pydisent.ops.spec import tuple_of

OPS = [name for name, op in REGISTRY.items() if not op.spec.written]
DIFFERENTIATED = [n for n in OPS if REGISTRY[n].spec.adjoint or REGISTRY[n].spec.backward]


def outputs_of(op, arguments, impl):
    return tuple_of(op(*arguments, impl=impl))


def gradients_of(op, arguments):
    leaves = [
        x.clone().requires_grad_() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
        for x in arguments
    ]
    outputs = tuple_of(op(*leaves))
    given = [x for x in leaves if isinstance(x, torch.Tensor) and x.requires_grad]
    ones = [torch.ones_like(x) for x in outputs]
    found = torch.autograd.grad(outputs, given, ones, allow_unused=True)
    return [x for x in found if x is not None]


def check_same(function, half):
    expected = function()
    with torch.autocast("cpu", half):
        found = function()
    assert expected
    for got, want in zip(found, expected, strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_does_not_alter_outputs(name, half):
    op = REGISTRY[name]
    arguments = next(iter(op.spec.samples(torch.float32)))
    for impl in ("auto", "reference"):
        check_same(lambda impl=impl: outputs_of(op, arguments, impl), half)


@pytest.mark.parametrize("name", DIFFERENTIATED)
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_does_not_alter_gradients(name, half):
    op = REGISTRY[name]
    arguments = next(iter(op.spec.samples(torch.float32)))
    check_same(lambda: gradients_of(op, arguments), half)
