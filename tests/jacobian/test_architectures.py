"""The penalty and its gradients, for every architecture and method, against the unrolled oracle."""

import functools
import warnings

import numpy as np
import pytest
import torch
from _architectures import ARCHITECTURES
from _oracle import random_signs, unrolled
from torch.func import functional_call

from pydisent.jacobian.decompositions import DecomposedFunctions

METHODS = ["gram", "matrix_free", "autograd", "auto"]
ITERATIONS = 3
# What the tracer cannot see is differentiated by reverse mode twice, with a warning.
pytestmark = pytest.mark.filterwarnings("ignore:.*cannot be traced.*", "ignore:.*jit.script.*")


@functools.cache
def _oracle(name, reweight):
    sample = ARCHITECTURES[name](torch.float64)
    torch.manual_seed(5)
    return unrolled(
        sample.fn, sample.parameters, sample.z,
        iterations=ITERATIONS, probe=random_signs(sample.z), reweight=reweight,
    )  # fmt: skip


def _relative(got, expected, floor=1e-6):
    """Norm of the difference over the norm, of all tensors together."""
    flat = [torch.cat([t.detach().double().flatten() for t in side]) for side in (got, expected)]
    return ((flat[0] - flat[1]).norm() / flat[1].norm().clamp_min(floor)).item()


def _gradients(sample):
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in sample.parameters]


def _penalty(sample, **options):
    import pydisent

    probe = random_signs(sample.z)
    torch.manual_seed(5)
    return pydisent.alignment_penalty(
        sample.fn, sample.z, k=probe.shape[-1], iterations=ITERATIONS, probe=probe, **options
    )


@pytest.mark.in_turn
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_value_and_gradients_equal_the_oracle(name, method, dtype):
    reweight = method != "matrix_free"
    expected = _oracle(name, reweight)
    sample = ARCHITECTURES[name](dtype)
    sample.z.requires_grad_()
    value = _penalty(sample, method=method, reweight=reweight, tolerance=0)
    assert value.shape == ()
    assert value.dtype == dtype
    value.backward()
    bound = 1e-10 if dtype == torch.float64 else 1e-4
    # One latent has nowhere to turn: terms of order one cancel, and only their rounding is left.
    floor = 1.0 if name == "mlp_single_sample_single_latent" else 1e-6
    assert abs(value.item() - expected.value) <= bound * max(1, abs(expected.value))
    frozen = [p for p in sample.parameters if not p.requires_grad]
    assert all(p.grad is None for p in frozen)
    assert _relative(_gradients(sample), expected.parameters, floor) <= bound
    assert _relative([sample.z.grad], [expected.z], floor) <= bound


@pytest.mark.parametrize("chunk", [1, 2])
@pytest.mark.parametrize("method", ["gram", "matrix_free"])
@pytest.mark.parametrize("name", ["dcgan_batch_norm_training", "modulated_convolution",
                                  "transformer_encoder", "custom_autograd_function",
                                  "list_of_activations", "dropout_in_training_mode"])  # fmt: skip
def test_chunks_change_nothing(name, method, chunk):
    expected = _oracle(name, True)
    sample = ARCHITECTURES[name](torch.float64)
    sample.z.requires_grad_()
    value = _penalty(sample, method=method, tolerance=0, chunk=chunk)
    value.backward()
    assert abs(value.item() - expected.value) <= 1e-10
    assert _relative(_gradients(sample), expected.parameters) <= 1e-10
    assert _relative([sample.z.grad], [expected.z]) <= 1e-10


def _listed(outputs):
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


@functools.cache
def _jacobian(name):
    """(value parts, J of each (B, n, m)) by reverse mode, a row at a time, norms decomposed."""
    sample = ARCHITECTURES[name](torch.float64)
    z = sample.z.detach().clone().requires_grad_()
    torch.manual_seed(5)
    with DecomposedFunctions():
        outputs = _listed(sample.fn(z))
    parts = []
    for output in outputs:
        rows = [
            torch.autograd.grad(column.sum(), z, retain_graph=True, materialize_grads=True)[0]
            for column in output.flatten(1).unbind(1)
        ]
        parts.append(torch.stack(rows, 1))
    return [output.detach() for output in outputs], parts


@pytest.mark.in_turn
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_linearization_products_equal_the_explicit_jacobian(name):
    import pydisent

    values, jacobians = _jacobian(name)
    sample = ARCHITECTURES[name](torch.float64)
    torch.manual_seed(5)
    linear = pydisent.linearize(sample.fn, sample.z)
    close = functools.partial(torch.testing.assert_close, rtol=1e-9, atol=1e-10)
    for got, expected in zip(_listed(linear.value), values, strict=True):
        close(got, expected)
    generator = torch.Generator().manual_seed(3)
    tangents = torch.randn(4, *sample.z.shape, generator=generator, dtype=torch.float64)
    moved = _listed(linear.jvp(tangents))
    for got, j, value in zip(moved, jacobians, values, strict=True):
        close(got, torch.einsum("bnm,kbm->kbn", j, tangents).reshape(4, *value.shape))
    cotangents = [torch.randn(4, *v.shape, generator=generator, dtype=v.dtype) for v in values]
    given = cotangents if isinstance(linear.value, list) else cotangents[0]
    pulled = sum(
        torch.einsum("bnm,kbn->kbm", j, u.flatten(2)) for j, u in zip(jacobians, cotangents)
    )
    close(linear.vjp(given), pulled)
    whole = torch.cat(jacobians, 1)
    close(linear.jacobian(), whole)
    close(linear.gram_matrix(), whole.mT @ whole)
    product = torch.einsum("bij,kbj->kbi", whole.mT @ whole, tangents)
    close(linear.gram_product(tangents), product)


def test_extra_arguments_are_passed_through_and_not_differentiated():
    import pydisent

    torch.manual_seed(0)
    first, table = torch.nn.Linear(5, 7).double(), torch.nn.Embedding(3, 7).double()
    noise = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)

    def fn(z, labels, *, noise, scale=1.0):
        return torch.tanh(first(z) * scale + table(labels) + noise).cumsum(1)

    z = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 2, 1, 1])
    probe = random_signs(z)
    parameters = [*first.parameters(), *table.parameters()]
    closed = lambda z: fn(z, labels, noise=noise.detach(), scale=0.7)
    expected = unrolled(closed, parameters, z, iterations=2, probe=probe)
    for method in METHODS:
        penalty = pydisent.AlignmentPenalty(3, 2, method=method, tolerance=0)
        value = penalty(fn, z, labels, noise=noise.detach(), scale=0.7, probe=probe)
        gradients = torch.autograd.grad(value, [*parameters, z], materialize_grads=True)
        assert abs(value.item() - expected.value) <= 1e-12
        assert _relative(gradients[:-1], expected.parameters) <= 1e-10
        assert _relative(gradients[-1:], [expected.z]) <= 1e-10


def test_functional_call_reaches_the_given_parameters():
    import pydisent

    sample = ARCHITECTURES["mlp_silu"](torch.float64)
    (module,) = sample.modules
    given = {n: (p.detach() * 1.1).requires_grad_() for n, p in module.named_parameters()}
    probe = random_signs(sample.z)
    fn = lambda z: functional_call(module, given, (z,))
    expected = unrolled(fn, given.values(), sample.z, iterations=2, probe=probe)
    value = pydisent.alignment_penalty(fn, sample.z, k=3, iterations=2, probe=probe, tolerance=0)
    gradients = torch.autograd.grad(value, list(given.values()), materialize_grads=True)
    assert _relative(gradients, expected.parameters) <= 1e-10


@pytest.mark.parametrize("tolerance", [1e-3, 1e-2, 0.1])
@pytest.mark.parametrize("method", ["gram", "matrix_free"])
def test_tolerance_bounds_the_error_of_the_gradient_and_leaves_the_value(method, tolerance):
    sample = ARCHITECTURES["dcgan_batch_norm_eval"](torch.float64)
    expected = _oracle("dcgan_batch_norm_eval", True)
    value = _penalty(sample, method=method, tolerance=tolerance)
    value.backward()
    assert abs(value.item() - expected.value) <= 1e-10
    # What is left out is that fraction of J C; dJ may amplify it, but not by orders.
    assert _relative(_gradients(sample), expected.parameters) <= 10 * tolerance


def test_bfloat16_tangents_are_close():
    sample = ARCHITECTURES["mlp_silu"](torch.float32)
    expected = _oracle("mlp_silu", True)
    value = _penalty(sample, method="gram", tolerance=0, compute_dtype=torch.bfloat16)
    assert value.dtype == torch.float32
    value.backward()
    # 8 bits of mantissa: a rounding error of 2^-9 in each product, and the condition of M.
    assert abs(value.item() - expected.value) <= 0.05
    assert _relative(_gradients(sample), expected.parameters) <= 0.15


# Algorithm 1 and Equation 6, in NumPy, one sample and one step at a time


def _eigenvectors(fn, z):
    """Columns by descending eigenvalue, from an explicit Jacobian of one sample."""
    jacobian = torch.autograd.functional.jacobian(lambda x: fn(x[None])[0].flatten(), z).numpy()
    return np.linalg.eigh(jacobian.T @ jacobian)[1][:, ::-1]


def _slow_path(fn, z, ordinal, step_size, decay, steps):
    path, previous = [z.numpy()], None
    for _ in range(steps):
        w = _eigenvectors(fn, torch.from_numpy(path[-1]))[:, ordinal - 1]
        if previous is None:
            w = w * np.sign(w[np.abs(w).argmax()])
        else:
            w = -w if previous @ w < 0 else w
            w = decay * previous + (1 - decay) * w
        path.append(path[-1] - step_size * w)
        previous = w
    return np.stack(path)


@pytest.mark.parametrize("name", ["mlp_silu", "dcgan_batch_norm_eval", "lambda_over_modules"])
@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_trace_eigenpath_follows_algorithm_1(name, decay):
    import pydisent

    sample = ARCHITECTURES[name](torch.float64)
    ordinals = [1, 3, 2]
    path = pydisent.trace_eigenpath(
        sample.fn, sample.z, ordinals=ordinals, step_size=0.05, decay=decay, steps=6
    )
    assert path.shape == (3, len(sample.z), 7, sample.z.shape[1])
    for i, ordinal in enumerate(ordinals):
        for b, z in enumerate(sample.z):
            slow = _slow_path(sample.fn, z, ordinal, 0.05, decay, 6)
            np.testing.assert_allclose(path[i, b].numpy(), slow, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("name", ["mlp_silu", "transformer_encoder", "dcgan_batch_norm_eval"])
def test_eigenvector_heatmap_is_equation_6(name, chunk):
    import pydisent

    sample = ARCHITECTURES[name](torch.float64)
    heatmap = pydisent.eigenvector_heatmap(sample.fn, sample.z, chunk=chunk)
    expected = np.mean([_eigenvectors(sample.fn, z) ** 2 for z in sample.z], 0)
    np.testing.assert_allclose(heatmap.numpy(), expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(heatmap.sum(0).numpy(), 1, rtol=1e-9)


def test_no_warning_for_functions_that_can_be_traced():
    import pydisent

    untraceable = {"custom_autograd_function", "scripted_function", "energy_gradient",
                   "custom_autograd_function_in_a_traced_module"}  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*cannot be traced.*")
        for name in set(ARCHITECTURES) - untraceable:
            sample = ARCHITECTURES[name](torch.float64)
            pydisent.linearize(sample.fn, sample.z)
