"""Masked power iteration against NumPy, eigenvectors, and central differences."""

import numpy as np
import pytest
import torch

from pydisent.ops import masked_power_iteration
from pydisent.ops.registry import REGISTRY

EPS = 1e-8


def by_numpy(gram, probe, mask, iterations):
    """Algorithm 2 of Ramesh et al., one sample and one column at a time."""
    batch, m, k = probe.shape
    vectors, norms = np.zeros((batch, m, k)), np.zeros((batch, k))
    for b in range(batch):
        for c in range(k):
            v = mask[:, c] * probe[b, :, c]
            for _ in range(iterations):
                w = mask[:, c] * (gram[b] @ v)
                norms[b, c] = np.sqrt(np.sum(w * w))
                v = w / (norms[b, c] + EPS)
            vectors[b, :, c] = v
    return vectors, norms


def problem(batch, m, k, seed=0, symmetric=True):
    rng = np.random.default_rng(seed)
    jacobian = rng.standard_normal((batch, 2 * m + 1, m)) / np.sqrt(m)
    gram = np.swapaxes(jacobian, 1, 2) @ jacobian
    if not symmetric:
        gram = gram + 0.3 * rng.standard_normal((batch, m, m))
    return gram, np.sign(rng.standard_normal((batch, m, k))), np.tril(np.ones((m, k)))


SIZES = [(2, 1, 1), (3, 3, 1), (3, 3, 3), (2, 17, 5), (2, 17, 17), (1, 130, 9), (1, 64, 33)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("iterations", [1, 4])
@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_forward_equals_numpy(size, iterations, impl):
    gram, probe, mask = problem(*size, symmetric=False)
    want_vectors, want_norms = by_numpy(gram, probe, mask, iterations)
    tensors = map(torch.from_numpy, (gram, probe, mask))
    vectors, norms = masked_power_iteration(*tensors, iterations, impl=impl)
    np.testing.assert_allclose(vectors.numpy(), want_vectors, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(norms.numpy(), want_norms, rtol=1e-11)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_adjoint_equals_central_differences(size, impl):
    """Along random directions, of the NumPy oracle: no code under test computes them."""
    iterations, step = 3, 1e-6
    gram, probe, mask = problem(*size, symmetric=False)
    rng = np.random.default_rng(1)
    on_vectors, on_norms = rng.standard_normal(probe.shape), rng.standard_normal(probe[:, 0].shape)

    def objective(gram, probe):
        vectors, norms = by_numpy(gram, probe, mask, iterations)
        return np.sum(on_vectors * vectors) + np.sum(on_norms * norms)

    inputs = [torch.from_numpy(x).requires_grad_() for x in (gram, probe)]
    outputs = masked_power_iteration(*inputs, torch.from_numpy(mask), iterations, impl=impl)
    cotangents = [torch.from_numpy(on_vectors), torch.from_numpy(on_norms)]
    grad_gram, grad_probe = torch.autograd.grad(outputs, inputs, cotangents)
    for _ in range(3):
        d_gram, d_probe = rng.standard_normal(gram.shape), rng.standard_normal(probe.shape)
        plus = objective(gram + step * d_gram, probe + step * d_probe)
        minus = objective(gram - step * d_gram, probe - step * d_probe)
        got = np.sum(grad_gram.numpy() * d_gram) + np.sum(grad_probe.numpy() * d_probe)
        np.testing.assert_allclose(got, (plus - minus) / (2 * step), rtol=2e-6, atol=1e-7)


def test_converges_to_the_leading_eigenpair():
    gram, probe, mask = problem(4, 6, 1)
    vectors, norms = masked_power_iteration(*map(torch.from_numpy, (gram, probe, mask)), 2000)
    values, directions = np.linalg.eigh(gram)
    np.testing.assert_allclose(norms[:, 0].numpy(), values[:, -1], rtol=1e-8)
    overlap = np.abs(np.sum(vectors[:, :, 0].numpy() * directions[:, :, -1], axis=1))
    np.testing.assert_allclose(overlap, 1.0, atol=1e-7)


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("iterations", [1, 3])
def test_a_vanishing_column_gives_zeros_and_no_nan(iterations, impl):
    gram = torch.zeros(2, 4, 4, dtype=torch.float64, requires_grad=True)
    probe = torch.ones(2, 4, 2, dtype=torch.float64)
    outputs = masked_power_iteration(gram, probe, probe[0], iterations, impl=impl)
    assert all(torch.equal(x, torch.zeros_like(x)) for x in outputs)
    (grad,) = torch.autograd.grad(outputs[1].sum(), gram, retain_graph=True)
    assert torch.equal(grad, torch.zeros_like(grad))
    (grad,) = torch.autograd.grad(outputs[0].sum(), gram)
    # V = W / (|W| + eps) has the derivative 1 / eps there; through V_{T-1} = 0 it vanishes.
    expected = torch.full_like(grad, 2 / EPS) if iterations == 1 else torch.zeros_like(grad)
    torch.testing.assert_close(grad, expected)


def test_mask_gets_no_gradient_and_may_be_boolean():
    gram, probe, mask = map(torch.from_numpy, problem(2, 5, 3))
    wanted = masked_power_iteration(gram, probe, mask, 2)
    for got, want in zip(masked_power_iteration(gram, probe, mask.bool(), 2), wanted):
        assert torch.equal(got, want)
    gram.requires_grad_()
    mask.requires_grad_()
    for impl in ("auto", "reference"):
        vectors, _ = masked_power_iteration(gram, probe, mask, 2, impl=impl)
        _, grad = torch.autograd.grad(vectors.sum(), (gram, mask), allow_unused=True)
        assert grad is None


def test_third_derivative_is_not_lost():
    """Through the adjoint, the adjoint's reference, and that again."""
    gram, probe, mask = map(torch.from_numpy, problem(1, 3, 2))
    direction = torch.randn_like(gram)
    x = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)

    def value(x, impl):
        vectors, norms = masked_power_iteration(gram + x * direction, probe, mask, 2, impl=impl)
        return (vectors**3).sum() + (norms**2).sum()

    results = []
    for impl in ("auto", "reference"):
        y = value(x, impl)
        for _ in range(3):
            (y,) = torch.autograd.grad(y, x, create_graph=True)
        results.append(y.detach())
    assert results[0].abs() > 1e-3
    torch.testing.assert_close(results[0], results[1])


def test_large_offsets():
    """A sample that lies more than 2^31 elements into its storage, which is never written whole."""
    m, far = 4, 2**31 + 12345
    try:
        storage = torch.empty(far + m * m, dtype=torch.bfloat16)
    except RuntimeError:
        pytest.skip("4 GiB of address space are not to be had")
    gram = storage.as_strided((2, m, m), (far, m, 1))
    near = torch.randn(2, m, m).bfloat16()
    gram.copy_(near)
    probe, mask = torch.ones(2, m, 1).bfloat16(), torch.ones(m, 1).bfloat16()
    got = masked_power_iteration(gram, probe, mask, 2)
    for a, b in zip(got, masked_power_iteration(near, probe, mask, 2)):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"gram": torch.ones(2, 3, 4)}, ValueError, r"gram must have shape .*got \(2, 3, 4\)"),
        (
            {"gram": torch.ones(2, 3, 3, dtype=torch.int64)},
            TypeError,
            "gram must .*got torch.int64",
        ),
        ({"gram": [[1.0]]}, TypeError, "gram must .*got list"),
        ({"probe": torch.ones(2, 4, 1)}, ValueError, r"probe must have shape .*got \(2, 4, 1\)"),
        ({"probe": torch.ones(2, 3, 1).double()}, TypeError, "probe must .*got torch.float64"),
        ({"mask": torch.ones(3, 2)}, ValueError, r"mask must have shape .*got \(3, 2\)"),
        ({"iterations": 0}, ValueError, "iterations must .*got 0"),
        ({"eps": 0.0}, ValueError, "eps must .*got 0.0"),
        ({"probe": torch.ones(2, 3, 1, device="meta")}, ValueError, "probe must .*got meta"),
    ],
)
def test_bad_arguments_are_named(change, error, message):
    arguments = {
        "gram": torch.ones(2, 3, 3),
        "probe": torch.ones(2, 3, 1),
        "mask": torch.ones(3, 1),
        "iterations": 2,
        "eps": EPS,
    }
    with pytest.raises(error, match=message):
        masked_power_iteration(**(arguments | change))


def test_one_adjoint_pass_does_not_run_the_forward_again():
    """The saved iterates are those of the forward op: the adjoint has no use for the probe."""
    names = REGISTRY["masked_power_iteration_backward"].spec.inputs
    assert "probe" not in names
    assert {"iterates", "iterate_norms"} <= set(names)
