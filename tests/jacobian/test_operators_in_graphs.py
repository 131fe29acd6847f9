"""PyTorch's operators as graphs call them: ``torch.ops.aten`` in place of ``torch`` functions.

What ``torch.export`` and ``make_fx`` make of a function gets the same derivatives as the function.
"""

import pytest

pytest.importorskip("expecttest", reason="PyTorch's operator database needs expecttest")

import _operators as cases
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

import pydisent
from pydisent.jacobian.decompositions import DECOMPOSITIONS

try:
    OPERATORS = cases.operators()
except ImportError as error:
    pytest.skip(f"this torch has no database of operators: {error}", allow_module_level=True)

# Graphs that draw other numbers than their functions, or whose backward was left out.
LEFT_OUT = (
    "normal",
    "nn.functional.multi_head_attention_forward",
    "nn.functional.linear_cross_entropy",
)
CHOSEN = [
    name
    for name, op in OPERATORS.items()
    if not name.startswith(LEFT_OUT)
    and op.op in DECOMPOSITIONS
    and not all(cases.left_out(op, kind) for kind in cases.KINDS)
]


class Graph(cases.Case):
    """A sample whose operation is a graph, of the operators before or after autograd."""

    def __init__(self, op, kind, place, sample, pre_dispatch):
        super().__init__(op, kind, place, sample)
        leaves, structure = pytree.tree_flatten(
            pytree.tree_unflatten(self._leaves, self._structure)[1:]
        )
        first, native = self._leaves[0], self._operation
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]

        def called(first, *tensors):
            filled = list(leaves)
            for place, tensor in zip(places, tensors, strict=True):
                filled[place] = tensor
            args, kwargs = pytree.tree_unflatten(filled, structure)
            return native(first, *args, **kwargs)

        tensors = [leaves[i].clone() for i in places]
        with torch.no_grad():
            graph = make_fx(called, pre_dispatch=pre_dispatch)(first.clone(), *tensors)

        def operation(first, *args, **kwargs):
            given = pytree.tree_leaves((args, kwargs))
            return graph(first, *(given[i] for i in places))

        self._operation = operation


@pytest.mark.parametrize("name", CHOSEN)
def test_operators_in_graphs_are_right_or_refused(name):
    for place, sample in cases.samples(OPERATORS[name], "float64", 2):
        try:
            case = Graph(OPERATORS[name], "float64", place, sample, pre_dispatch=place % 2 == 0)
        except RuntimeError:
            continue  # its graph would depend on values
        try:
            verdict = cases.judge(case)
        except cases.NoDerivativeError:
            continue
        assert verdict.outcome != cases.WRONG, verdict


def test_an_exported_generator():
    torch.manual_seed(0)
    generator = nn.Sequential(
        nn.Linear(4, 16),
        nn.LayerNorm(16),
        nn.Unflatten(1, (4, 2, 2)),
        nn.InstanceNorm2d(4, affine=True),
        nn.ConvTranspose2d(4, 4, 4, 2, 1),
        nn.GroupNorm(2, 4),
        nn.SiLU(),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        nn.Tanh(),
    ).double()
    generator.eval()
    z = torch.randn(3, 4, dtype=torch.float64)
    exported = torch.export.export(generator, (z,)).module()
    found = []
    for fn in (generator, exported):
        probe = z[..., None].expand(3, 4, 2)
        value = pydisent.alignment_penalty(fn, z, k=2, iterations=2, probe=probe, tolerance=0)
        wanted = list(fn.parameters())
        found.append((value, *torch.autograd.grad(value, wanted, materialize_grads=True)))
    named = [dict(fn.named_parameters()) for fn in (generator, exported)]
    assert list(named[0]) == list(named[1])
    for native, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, native, atol=1e-9, rtol=1e-9)
