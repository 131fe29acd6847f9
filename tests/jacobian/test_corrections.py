"""Plain PyTorch inside ``correct_derivatives``: native values, derivatives by differences."""

import copy
import threading

import pytest
import torch
import torch.nn.functional as F
from _probe import ROUTES, Probe
from _probe_cases import CASES
from torch import nn

import pydisent
from pydisent import correct_derivatives

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
WRONG = [
    "LayerNorm",
    "InstanceNorm2d",
    "batch_norm-training",
    "weight-from-input-weight_norm",
    "linalg.det",
    "linalg.slogdet",
    "logdet",
    "linalg.solve",
    "logcumsumexp",
    "Hardsigmoid",
    "GLU",
    "cdist-2",
    "grid_sample-grid",
    "sdpa-causal",
    "TransformerEncoderLayer-True",
]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def difference(function, step=1e-4):
    return (function(step) - function(-step)) / (2 * step)


@pytest.mark.in_turn
@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("route", ROUTES)
def test_derivatives_are_right_by_every_route(name, route):
    with correct_derivatives():
        assert Probe(CASES[name]).error(route) <= 1e-6


def test_values_are_the_native_ones():
    for name, case in CASES.items():
        operands = case.operands(0)
        expected = case.function(*operands)
        with correct_derivatives():
            got = case.function(*operands)
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtypes_under_autocast_are_the_native_ones(dtype):
    names = ["LayerNorm", "InstanceNorm2d", "batch_norm-training", "cdist-2", "sdpa-causal"]
    names += ["grid_sample-grid", "linalg.solve", "polar", "Hardsigmoid", "MultiheadAttention-True"]
    compared = 0
    for name in names:
        case = CASES[name]
        operands = [operand.to(dtype) for operand in case.operands(0)]
        with torch.autocast("cpu", torch.bfloat16):
            try:
                expected = case.function(*operands)
            except RuntimeError:  # not of bfloat16
                continue
            with correct_derivatives():
                got = case.function(*operands)
        assert got.dtype == expected.dtype, name
        torch.testing.assert_close(got, expected, rtol=0.05, atol=0.05, msg=name)
        compared += 1
    assert compared >= 6
    norm, native = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    x = draw(5, 4).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        native(x)
        with correct_derivatives():
            norm(x)
    torch.testing.assert_close(norm.running_mean, native.running_mean)  # written once


@pytest.mark.parametrize("upper", [False, True])
def test_cholesky_factors(upper):
    factor = draw(2, 3, 3).tril() + 3 * torch.eye(3).double()
    factor = factor.mT.contiguous() if upper else factor
    for call in (
        lambda x: torch.cholesky_inverse(x, upper=upper),
        lambda x: torch.cholesky_solve(draw(2, 3, 2, seed=1), x, upper=upper),
        lambda x: draw(3, 1, seed=2).cholesky_solve(x, upper),
    ):
        v = (torch.triu if upper else torch.tril)(draw(2, 3, 3, seed=3))
        with correct_derivatives():
            value, moved = torch.func.jvp(call, (factor,), (v,))
        torch.testing.assert_close(value, call(factor), rtol=1e-11, atol=1e-11)
        exact = difference(lambda h: call(factor + h * v))  # noqa: B023
        torch.testing.assert_close(moved, exact, rtol=1e-6, atol=1e-7)


def test_hessian_and_third_derivative_of_a_net():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Unflatten(1, (2, 2)), nn.InstanceNorm1d(2)
    ).double()
    x, v, w = draw(2, 3), draw(2, 3, seed=1), draw(2, 2, 2, seed=2)

    def total(x):
        return (net(x) * w).sum()

    def gradient(x):  # of first order, which is right without
        return torch.func.grad(total)(x)

    def curvature(x):
        return difference(lambda h: (gradient(x + h * v) * v).sum())

    exact = difference(lambda h: gradient(x + h * v))
    with correct_derivatives():
        for hessian in (
            torch.func.hessian(total),
            torch.func.jacfwd(torch.func.jacfwd(total)),
            torch.func.jacrev(torch.func.jacfwd(total)),
        ):
            got = torch.einsum("abcd,cd->ab", hessian(x), v)
            torch.testing.assert_close(got, exact, rtol=1e-6, atol=1e-7)
        leaf = x.clone().requires_grad_()
        y = total(leaf)
    for _ in range(3):  # outside: the graph is there
        (g,) = torch.autograd.grad(y, leaf, create_graph=True)
        y = (g * v).sum()
    torch.testing.assert_close(y.item(), difference(lambda h: curvature(x + h * v)).item(),
                               rtol=1e-4, atol=1e-5)  # fmt: skip


def test_dual_numbers():
    x, v, w = draw(3, 4), draw(3, 4, seed=1), draw(3, 4, seed=2)

    def moved(x):
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, v)
            return torch.autograd.forward_ad.unpack_dual(F.layer_norm(dual, (4,))).tangent

    exact = difference(lambda h: moved(x + h * w).square().sum())
    leaf = x.clone().requires_grad_()
    with correct_derivatives():
        (got,) = torch.autograd.grad(moved(leaf).square().sum(), leaf)
    torch.testing.assert_close((got * w).sum(), exact, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("momentum", [0.3, None])
def test_running_statistics_are_those_of_native_calls(momentum):
    norms = nn.Sequential(
        nn.BatchNorm1d(4, momentum=momentum), nn.InstanceNorm1d(4, track_running_stats=True)
    )
    native, x = copy.deepcopy(norms), draw(3, 4, 5).float() * 2 + 1
    expected = native(x)
    with correct_derivatives():
        got = norms(x)
    torch.testing.assert_close(got, expected)
    for name, buffer in native.named_buffers():
        torch.testing.assert_close(norms.get_buffer(name), buffer, msg=name)
    with correct_derivatives(), pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm1d(4)(torch.ones(1, 4))


def test_contexts_may_be_nested_and_reused_and_end():
    x, v = draw(3, 4), draw(3, 4, seed=1)

    def slope():
        leaf = x.clone().requires_grad_()
        moved = torch.func.jvp(lambda x: F.layer_norm(x, (4,)), (leaf,), (v,))[1]
        return torch.autograd.grad(moved.square().sum(), leaf)[0]

    before, context = slope(), correct_derivatives()
    with context:
        right = slope()
        with context, correct_derivatives():
            torch.testing.assert_close(slope(), right)
        torch.testing.assert_close(slope(), right)
        found = []
        thread = threading.Thread(target=lambda: found.append(slope()))
        thread.start()
        thread.join()
    assert torch.equal(found[0], before)  # a context is of its own thread
    assert torch.equal(slope(), before)
    with pytest.raises(ZeroDivisionError), correct_derivatives():
        raise ZeroDivisionError
    assert torch.equal(slope(), before)
    for decorated in (correct_derivatives()(slope), correct_derivatives(slope)):
        torch.testing.assert_close(decorated(), right)
        assert decorated.__name__ == "slope"
    assert (right - before).norm() > 1e-3


def test_what_would_run_outside_of_the_context_is_refused():
    def generator():
        yield 1

    async def coroutine():
        pass

    for function in (generator, coroutine):
        with pytest.raises(TypeError, match="plain functions, got a generator or coroutine"):
            correct_derivatives()(function)
    with pytest.raises(TypeError, match="takes no arguments, got 3"):
        correct_derivatives(3)


def test_scripted_norms_are_refused_and_linear_algebra_inside_of_others_is_not():
    scripted = torch.jit.script(nn.LayerNorm(4).double())
    x = draw(4, 4).requires_grad_()
    with correct_derivatives():
        with pytest.raises(RuntimeError, match="layer_norm"):
            scripted(x)
        values = torch.linalg.eig(x)[0].real.square().sum()
        (first,) = torch.autograd.grad(values, x, create_graph=True)  # solves a linear system
        torch.autograd.grad(first.square().sum(), x)
        with torch.no_grad():
            scripted(x)


def test_out_arguments_reach_the_native_call():
    a, b, out = draw(3, 3), draw(3, 2), torch.empty(3, 2).double()
    with correct_derivatives():
        assert torch.linalg.solve(a, b, out=out) is out
        torch.testing.assert_close(torch.linalg.solve(a, b, out=None), out)
    torch.testing.assert_close(a @ out, b)


def test_checkpointed_parts():
    net = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)).double()
    x, v = draw(3, 4), draw(3, 4, seed=1)

    def checkpointed(x):
        return torch.utils.checkpoint.checkpoint(net, x, use_reentrant=False)

    slopes = []
    for function in (net, checkpointed):
        leaf = x.clone().requires_grad_()
        with correct_derivatives():
            y = function(leaf)
        for _ in range(3):
            (g,) = torch.autograd.grad(y.square().sum(), leaf, create_graph=True)
            y = g * v
        slopes.append(y)
    torch.testing.assert_close(*slopes)


def test_compiled_functions_are_compiled_anew():
    def fn(x):
        return torch.sin(F.layer_norm(x, (4,)))

    def slope(f):
        leaf, v = draw(3, 4).requires_grad_(), draw(3, 4, seed=1)
        y = f(leaf)
        for _ in range(3):
            (g,) = torch.autograd.grad((y * v).sum(), leaf, create_graph=True)
            y = g
        return y

    compiled = torch.compile(fn, backend="eager")
    torch.testing.assert_close(slope(compiled), slope(fn))
    with correct_derivatives():
        right = slope(fn)
        torch.testing.assert_close(slope(compiled), right)
    assert (right - slope(compiled)).norm() > 1e-3 * right.norm()


def test_the_engine_inside_the_context():
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh())
    z = draw(2, 3).float()
    expected = pydisent.alignment_penalty(net, z, k=2, iterations=2, probe=torch.ones(2, 3, 2))
    with correct_derivatives():
        got = pydisent.alignment_penalty(net, z, k=2, iterations=2, probe=torch.ones(2, 3, 2))
    torch.testing.assert_close(got, expected)
