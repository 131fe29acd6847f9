"""The rule for attention by blocks, against the decomposition, and what it holds in memory."""

import math

import pytest
import torch
import torch.nn.functional as F
from _oracle import random_signs, unrolled
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import pydisent
from pydisent.jacobian.decompositions import DECOMPOSITIONS
from pydisent.jacobian.rules import attention

decomposed = DECOMPOSITIONS[F.scaled_dot_product_attention]
LATENT = 5


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks that no side is a multiple of, and how often the rule is applied."""
    monkeypatch.setattr(attention, "SMALL", 0)
    monkeypatch.setattr(attention, "_SIDE", 3)
    monkeypatch.setattr(attention, "_ELEMENTS", 50)
    applied = []
    apply = attention._Tangents.apply
    monkeypatch.setattr(attention._Tangents, "apply", lambda *a: applied.append(1) or apply(*a))
    return applied


def _case(lead, query, key, width, inner, *, moving="qkv", heads=1):
    """A function of z through attention, nonlinear on both sides, and its parameters."""
    torch.manual_seed(0)
    few = (*lead[:-1], lead[-1] // heads) if lead else lead
    shapes = {"q": (*lead, query, width), "k": (*few, key, width), "v": (*few, key, inner)}
    fixed = {n: torch.randn(2, *s, dtype=torch.float64) for n, s in shapes.items()}
    weights = {
        n: torch.randn(LATENT, math.prod(s), dtype=torch.float64, requires_grad=True)
        for n, s in shapes.items()
    }

    def fn(z, function, **options):
        q, k, v = (
            (z @ weights[n]).reshape(2, *s).tanh() if n in moving else fixed[n]
            for n, s in shapes.items()
        )
        return function(q, k, v, **options).sin()

    return fn, [weights[n] for n in moving], torch.randn(2, LATENT, dtype=torch.float64)


def _penalty(fn, parameters, z, function, **options):
    z = z.clone().requires_grad_()
    value = pydisent.alignment_penalty(
        fn, z, function, k=3, iterations=2, probe=random_signs(z), tolerance=0, method="gram",
        fn_kwargs=options,
    )  # fmt: skip
    wanted = [*parameters, z, *(m for m in options.values() if getattr(m, "requires_grad", False))]
    return value, torch.autograd.grad(value, wanted, materialize_grads=True)


def _mask(kind):
    torch.manual_seed(1)
    keep = torch.rand(7, 8) > 0.4
    keep[:, 0] = True
    if kind == "closed row":
        keep[2] = False
    per_head = torch.randn(2, 2, 7, 8, dtype=torch.float64, requires_grad=True)
    learned = torch.randn(7, 8, dtype=torch.float64, requires_grad=True)
    return {"bool": keep, "closed row": keep, "per head": per_head, "learned": learned}[kind]


@pytest.mark.parametrize("lead", [(2,), ()])
@pytest.mark.parametrize(
    "options",
    [{}, {"is_causal": True}, {"scale": 0.3}, "bool", "closed row", "per head", "learned"],
    ids=str,
)
def test_value_and_gradients_are_those_of_the_decomposition(small_blocks, lead, options):
    if isinstance(options, str):
        if options == "per head" and not lead:
            pytest.skip("there are no heads")
        options = {"attn_mask": _mask(options)}
    case = _case(lead, 7, 8, 4, 3)
    expected = _penalty(*case, decomposed, **options)
    assert not small_blocks
    got = _penalty(*case, F.scaled_dot_product_attention, **options)
    assert small_blocks
    assert got[0].item() == pytest.approx(expected[0].item(), rel=1e-10)
    for mine, other in zip(got[1], expected[1]):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("moving", ["q", "k", "v", "qv", "kv"])
def test_some_of_the_three_move(small_blocks, moving):
    fn, parameters, z = _case((2,), 7, 8, 4, 3, moving=moving)
    probe = random_signs(z)
    expected = unrolled(
        lambda z: fn(z, decomposed), parameters, z, iterations=2, probe=probe
    )  # by reverse mode twice
    value, gradients = _penalty(fn, parameters, z, F.scaled_dot_product_attention)
    assert small_blocks
    assert value.item() == pytest.approx(expected.value, rel=1e-10)
    for mine, other in zip(gradients, [*expected.parameters, expected.z]):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-10)


def test_grouped_queries(small_blocks):
    case = _case((4,), 7, 8, 4, 3, heads=2)
    expected = _penalty(*case, decomposed, enable_gqa=True)
    got = _penalty(*case, F.scaled_dot_product_attention, enable_gqa=True)
    assert small_blocks
    for mine, other in zip(got[1], expected[1]):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-10)


def test_what_the_rule_does_not_cover_is_decomposed(small_blocks):
    fn, parameters, z = _case((2,), 7, 8, 4, 3)
    _penalty(fn, parameters, z, F.scaled_dot_product_attention, dropout_p=0.3)
    moved = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, q @ k.mT)
    _penalty(fn, parameters, z, moved)
    broadcast = lambda q, k, v: F.scaled_dot_product_attention(q, k[:, :1], v[:, :1])
    _penalty(fn, parameters, z, broadcast)
    assert not small_blocks


def test_products_both_ways(small_blocks):
    fn, _, z = _case((2,), 7, 8, 4, 3)
    linear = pydisent.linearize(fn, z, F.scaled_dot_product_attention, chunk=2)
    other = pydisent.linearize(fn, z, decomposed)
    assert small_blocks == []
    torch.testing.assert_close(linear.jacobian(), other.jacobian(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(linear.gram_matrix(), other.gram_matrix(), rtol=1e-10, atol=1e-12)
    u = torch.randn(3, *linear.value.shape, dtype=z.dtype)
    torch.testing.assert_close(linear.vjp(u), other.vjp(u), rtol=1e-10, atol=1e-12)
    assert small_blocks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_single_and_half_precision_are_as_close_as_the_decomposition(small_blocks, dtype):
    fn, parameters, z = _case((2,), 7, 8, 4, 3)
    with torch.no_grad():
        for p in parameters:
            p.copy_(p.to(dtype))
    exact = pydisent.linearize(fn, z.to(dtype).double(), decomposed).jacobian()
    low = _case((2,), 7, 8, 4, 3)[0]
    for cell in low.__closure__:
        if isinstance(cell.cell_contents, dict):
            for name, x in cell.cell_contents.items():
                if isinstance(x, torch.Tensor):
                    cell.cell_contents[name] = x.detach().to(dtype).requires_grad_()
    errors = [
        (pydisent.linearize(low, z.to(dtype), function).jacobian().double() - exact).norm()
        for function in (F.scaled_dot_product_attention, decomposed)
    ]
    assert small_blocks
    assert errors[0] <= 2 * errors[1]
    assert errors[0] <= 8 * torch.finfo(dtype).eps * exact.norm()


def test_layers_of_attention_take_the_rule(small_blocks):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).double()
    z = torch.randn(2, 40, dtype=torch.float64)
    fn = lambda z: layer(z.view(2, 5, 8))
    probe = random_signs(z)
    expected = unrolled(fn, layer.parameters(), z, iterations=2, probe=probe)
    value = pydisent.alignment_penalty(
        fn, z, k=3, iterations=2, probe=probe, tolerance=0, method="gram"
    )
    assert small_blocks
    assert value.item() == pytest.approx(expected.value, rel=1e-10)
    found = torch.autograd.grad(value, list(layer.parameters()), materialize_grads=True)
    for mine, other in zip(found, expected.parameters):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-10)


class _Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // 4)
        return out


def test_nothing_of_the_size_of_all_scores_is_made(monkeypatch):
    monkeypatch.setattr(attention, "_SIDE", 64)
    monkeypatch.setattr(attention, "_ELEMENTS", 1 << 14)
    length, width, size = 512, 8, 3
    torch.manual_seed(0)
    weights = [torch.randn(size, length * width, requires_grad=True) for _ in range(3)]
    largest = {}
    for function in (F.scaled_dot_product_attention, decomposed):

        def fn(z, function=function):
            return function(*((z @ w).reshape(1, 1, length, width) for w in weights))

        with _Largest() as mode:
            pydisent.alignment_penalty(
                fn, torch.randn(1, size), k=2, iterations=2, method="gram", chunk=size
            ).backward()
        largest[function] = mode.elements
    assert largest[decomposed] >= size * length**2
    assert largest[F.scaled_dot_product_attention] <= 4 * size * length * width
