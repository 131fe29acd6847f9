"""Spatial constriction: layouts, dtypes, torch.compile, implementations, bad arguments."""

import importlib.util
import math
import os
import subprocess
import sys

import pytest
import torch
from _constriction import FORMATS, IMPLS, normal, plain, problem, require_gradients
from _native import needs_native
from torch.autograd import grad

from pydisent.ops import spatial_constriction


@pytest.mark.parametrize("layout", FORMATS)
def test_memory_format_is_that_of_x(layout):
    x, *rest = problem(2, 6, 4, 5, 2)
    x = x.to(memory_format=layout).requires_grad_()
    out = spatial_constriction(x, *rest)
    assert out.is_contiguous(memory_format=layout)
    transposed = normal(*x.shape[:2], 5, 4, seed=5).transpose(2, 3)
    (got,) = grad(out, x, transposed, retain_graph=True)
    assert got.is_contiguous(memory_format=layout)
    torch.testing.assert_close(got, grad(out, x, transposed.contiguous())[0])


@pytest.mark.parametrize("layout", FORMATS)
def test_the_op_keeps_its_contract(layout):
    x, *rest = problem(2, 18, 4, 5, 2, torch.float32)
    inputs = require_gradients([x.to(memory_format=layout), *rest])
    torch.library.opcheck(torch.ops.pydisent.spatial_constriction.default, (*inputs, 1e-8))


def test_strided_and_expanded_operands():
    x, masks, scales, shifts = problem(2, 3, 4, 6, 2)
    want = spatial_constriction(x, masks[:1].expand_as(masks), scales, shifts[:1].expand_as(shifts))
    wide = torch.full((2, 4, 3, 12), math.nan, dtype=x.dtype)
    wide[..., ::2] = x.transpose(1, 2)
    moved = wide[..., ::2].transpose(1, 2)
    nhwc = masks.contiguous(memory_format=torch.channels_last)
    got = spatial_constriction(
        moved, nhwc[:1].expand_as(masks), scales.mT.contiguous().mT, shifts[:1].expand_as(shifts)
    )
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("impl", IMPLS)
def test_dtypes_may_differ_and_x_gives_that_of_the_result(impl):
    """As autocast leaves them: a bfloat16 map, and masks from a float32 softmax."""
    x, masks, scales, shifts = problem(2, 5, 6, 7, 2)
    given = require_gradients([x.bfloat16(), masks.float(), scales.half(), shifts])
    exact = require_gradients(t.double() for t in given)
    out, want = spatial_constriction(*given, impl=impl), plain(*exact)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), want, rtol=2**-8, atol=1e-5)
    cotangent = normal(*x.shape, seed=9).bfloat16()
    for a, b, t in zip(grad(out, given, cotangent), grad(want, exact, cotangent.double()), given):
        assert a.dtype == t.dtype
        torch.testing.assert_close(a.double(), b, rtol=2 * torch.finfo(t.dtype).eps, atol=2e-5)


@pytest.mark.parametrize("impl", IMPLS)
def test_autocast_changes_nothing(impl):
    inputs = require_gradients(problem(2, 5, 6, 7, 2, torch.float32))

    def both():
        out = spatial_constriction(*inputs, impl=impl)
        return out, *grad(out.pow(2).sum(), inputs)

    want = both()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = both()
    for a, b in zip(got, want):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


@pytest.mark.parametrize("layout", FORMATS)
def test_compiles_whole_within_a_stranger_s_loss(layout):
    def loss(x, logits, scales, shifts):
        masks = torch.cumsum(torch.softmax(logits, -1), -1)
        return torch.relu(spatial_constriction(2 * x, masks, scales + 1, shifts)).pow(2).mean()

    x, *rest = problem(2, 18, 6, 7, 2)
    inputs = require_gradients([x.to(memory_format=layout), *rest])
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(grad(compiled(*inputs), inputs), grad(loss(*inputs), inputs))


@needs_native
@pytest.mark.parametrize("size", [(1, 70, 40, 40, 3), (5, 40, 16, 16, 9), (3, 20, 5, 5, 2)])
def test_neither_threads_nor_the_layout_change_a_bit(size):
    x, *rest = problem(*size, torch.float32)
    cotangent = normal(*x.shape, seed=9).float()

    def both(layout):
        inputs = require_gradients([x.to(memory_format=layout), *rest])
        out = spatial_constriction(*inputs, impl="native")
        return out, *grad(out, inputs, cotangent)

    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results += [both(layout) for layout in FORMATS]
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


AGAINST_THE_REFERENCE = """
import sys, torch
from torch.autograd import grad
from pydisent.ops import spatial_constriction

impl, tolerance = sys.argv[1], 1e-10
for size in ((1, 40, 23, 30, 3), (2, 3, 5, 7, 9), (2, 18, 8, 8, 1)):
    for layout in (torch.contiguous_format, torch.channels_last):
        batch, channels, height, width, codes = size
        x = torch.randn(size[:4], dtype=torch.float64).to(memory_format=layout)
        masks = torch.rand(batch, codes, height, width, dtype=torch.float64)
        styles = [torch.randn(batch, codes, channels, dtype=torch.float64) for _ in "ab"]
        inputs = [t.requires_grad_() for t in (x, masks, *styles)]
        cotangent = torch.randn_like(x)
        results = []
        for name in (impl, "reference"):
            out = spatial_constriction(*inputs, impl=name)
            results.append((out, *grad(out, inputs, cotangent)))
        torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)
        assert results[0][0].stride() == results[0][1].stride() == x.stride()
"""


def run_apart(*arguments, code=AGAINST_THE_REFERENCE, **environment):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.in_turn
@needs_native
@pytest.mark.parametrize("limit", ["baseline", "avx2"])
def test_other_instruction_sets(limit):
    run_apart("native", PYDISENT_INSTRUCTION_SET=limit)


UNEVEN_PLANES = """
import torch
from pydisent.ops.registry import REGISTRY

op = REGISTRY["spatial_constriction"]
torch.manual_seed(0)
for shape in ((1, 2, 96, 97), (1, 3, 128, 72), (1, 2, 3, 2731)):  # around what stays on chip
    for layout in (torch.contiguous_format, torch.channels_last):
        x = 1e4 + torch.randn(shape, dtype=torch.float64)
        x[..., :2, :] -= 3e4  # the first tile is far from the others
        x = x.float().to(memory_format=layout)
        rest = torch.rand(1, 1, *shape[2:]), torch.ones(1, 1, shape[1]), torch.ones(1, 1, shape[1])
        wide = x.double(), *(t.double() for t in rest)
        out, found = op.every(x, *rest, 1e-8, impl="triton")
        ref, known = op.every(x, *rest, 1e-8, impl="reference")
        exact, statistics = op.every(*wide, 1e-8, impl="reference")
        results = (out, ref, exact), (found[:, 2], known[:, 2], statistics[:, 2])
        for got, reference, want in results:
            error, bound = ((t.double() - want).abs().max() for t in (got, reference))
            assert error <= 2 * bound + 16 * 2**-23 * want.abs().max(), (shape, error, bound)
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_triton_on_planes_of_many_tiles_and_those_that_do_not_stay_on_chip():
    run_apart("triton", code=AGAINST_THE_REFERENCE + UNEVEN_PLANES, TRITON_INTERPRET="1")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.ones(4, 3, 5)}, ValueError, r"x must have shape .*got \(4, 3, 5\)"),
        ({"x": torch.ones(4, 3, 5, 6).long()}, TypeError, "x must .*got torch.int64"),
        ({"masks": torch.ones(4, 5, 6)}, ValueError, r"masks must .*\(4, N, 5, 6\)"),
        (
            {"masks": torch.ones(4, 2, 6, 5)},
            ValueError,
            r"masks must have shape .*got \(4, 2, 6, 5\)",
        ),
        ({"masks": torch.ones(4, 2, 5, 6) > 0}, TypeError, "masks must .*got torch.bool"),
        ({"scales": torch.ones(4, 3)}, ValueError, r"scales must .*\(4, 2, 3\)"),
        ({"shifts": torch.ones(4, 1, 3)}, ValueError, r"shifts must have shape .*got \(4, 1, 3\)"),
        ({"shifts": [1.0]}, TypeError, "shifts must .*got list"),
        ({"eps": 0.0}, ValueError, "eps must be a finite number > 0, got 0.0"),
        ({"eps": "1e-8"}, TypeError, "eps must be a finite number > 0, got '1e-8'"),
        ({"eps": torch.ones((), requires_grad=True)}, TypeError, "eps must .*got Tensor"),
        ({"scales": torch.ones(4, 2, 3, device="meta")}, ValueError, "scales must .*got meta"),
    ],
)
def test_bad_arguments_are_named(change, error, message):
    arguments = {"x": torch.ones(4, 3, 5, 6), "masks": torch.ones(4, 2, 5, 6)}
    arguments |= {name: torch.ones(4, 2, 3) for name in ("scales", "shifts")}
    with pytest.raises(error, match=message):
        spatial_constriction(**(arguments | change))
