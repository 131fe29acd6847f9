"""The penalty's options: k, iterations, chunk, probe, and codes of any kind."""

import pytest
import torch
from _small_generator import (
    METHODS,
    ROUTES,
    assert_near,
    by_unrolling,
    draw_codes,
    draw_signs,
    gradients_of,
    small_generator,
)
from torch import nn

import pydisent


@pytest.mark.parametrize("method", METHODS)
def test_z_gets_a_gradient_only_if_it_asks_and_may_be_an_inner_node(method):
    net, z = small_generator(), draw_codes()
    options = {"k": 2, "iterations": 2, "probe": draw_signs(z, 2), "method": method, "tolerance": 0}
    expected = by_unrolling(net, z)
    value = pydisent.alignment_penalty(net, z, **options)
    value.backward()
    assert z.grad is None
    mapping = nn.Linear(5, 5).double()
    w = draw_codes(m=5) * 0.3
    inner = mapping(w)
    value = pydisent.alignment_penalty(net, inner, **options)
    (got,) = torch.autograd.grad(value, mapping.weight)
    exact = by_unrolling(net, inner.detach())
    assert_near([got], [exact.z.T @ w], 1e-10)
    assert expected.value != exact.value


@pytest.mark.parametrize("method", METHODS)
def test_z_need_not_be_contiguous(method):
    net = small_generator()
    wide = torch.randn(5, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for z in (wide.t()[::2], wide[:, :3].t(), wide[:1, :5].expand(3, 5)):
        probe = draw_signs(z, 2)
        options = {"k": 2, "iterations": 2, "probe": probe, "method": method, "tolerance": 0}
        value = pydisent.alignment_penalty(net, z, **options)
        expected = by_unrolling(net, z.contiguous())
        assert abs(value.item() - expected.value) <= 1e-12
        assert_near(gradients_of(value, net.parameters()), expected.parameters, 1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("k", "iterations"), [(5, 3), (5, 1), (1, 1), (1, 4)])
def test_extreme_k_and_iterations(method, k, iterations):
    net, z = small_generator(), draw_codes()
    expected = by_unrolling(net, z, k, iterations)
    value = pydisent.alignment_penalty(
        net, z, k=k, iterations=iterations, probe=draw_signs(z, k), method=method, tolerance=0
    )
    assert abs(value.item() - expected.value) <= 1e-12
    assert_near(gradients_of(value, net.parameters()), expected.parameters, 1e-10)


@pytest.mark.parametrize("method", ROUTES)
def test_chunk_changes_only_rounding(method):
    net, z = small_generator(), draw_codes()
    options = {"k": 3, "iterations": 3, "probe": draw_signs(z, 3), "method": method, "tolerance": 0}
    results = []
    for chunk in (None, 1, 2, 10**6):
        value = pydisent.alignment_penalty(net, z, chunk=chunk, **options)
        results.append([value, *gradients_of(value, net.parameters())])
    for other in results[1:]:
        assert_near(other, results[0], 1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_the_default_probe_is_reproducible_random_signs(method):
    net, z = small_generator(), draw_codes()
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(pydisent.alignment_penalty(net, z, k=3, iterations=1, method=method).item())
    assert values[0] == values[1]
    assert values[0] != values[2]
    # With one iteration the value takes few values over all signs: try them, m = k = 2, B = 1.
    net, z = small_generator(m=2), draw_codes(1, 2)
    signs = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0])]).double()
    possible = set()
    for a, b, c in signs.tolist():
        probe = torch.tensor([[[a, 1.0], [b, c]]], dtype=torch.float64)
        v = pydisent.alignment_penalty(net, z, k=2, iterations=1, probe=probe, method=method)
        possible.add(round(v.item(), 9))
    drawn = {
        round(pydisent.alignment_penalty(net, z, k=2, iterations=1, method=method).item(), 9)
        for _ in range(20)
    }
    assert drawn <= possible


def test_the_probe_may_be_of_another_dtype():
    net, z = small_generator(torch.float32), draw_codes(dtype=torch.float32)
    options = {"k": 2, "iterations": 2, "tolerance": 0}
    probe = draw_signs(z, 2)
    narrow = pydisent.alignment_penalty(net, z, probe=probe, **options)
    wide = pydisent.alignment_penalty(net, z, probe=probe.double(), **options)
    assert abs(narrow.item() - wide.item()) <= 1e-6


# What must stay as it was
