"""v'H v and its gradients, for every architecture and a slice of PyTorch's operators."""

import functools

import pytest
import torch
from _architectures import ARCHITECTURES
from _oracle import FixedBatchStatistics, Repeatable
from _probe import central_difference
from torch import nn

import pydisent
from pydisent.jacobian.decompositions import DecomposedFunctions

pytestmark = pytest.mark.filterwarnings("ignore:.*cannot be traced.*", "ignore:.*jit.script.*")
D = torch.float64


def listed(outputs):
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def directions_for(z, count=2):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, *z.shape, generator=generator, dtype=z.dtype)


def by_reverse_mode(outputs, z, directions):
    """v'H v (K, B, ...) of each output: <J'u, v> differentiated along v, and that by u."""
    found = []
    for y in outputs:
        u = torch.zeros_like(y, requires_grad=True)
        rows = []
        for v in directions:
            term = y
            for seed, tangent in ((u, v), (None, v)):
                if term.requires_grad:
                    (pulled,) = torch.autograd.grad(
                        term, z, seed, create_graph=True, materialize_grads=True
                    )
                    term = (pulled * tangent).sum()
            bent = torch.zeros_like(y)
            if term.requires_grad and term.dim() == 0:
                (bent,) = torch.autograd.grad(term, u, create_graph=True, materialize_grads=True)
            rows.append(bent)
        found.append(torch.stack(rows))
    return found


def penalty(seconds):
    """A function of all second derivatives, which weighs them differently."""
    return sum((s.square() * torch.linspace(1, 2, s[0].numel()).reshape(s[0].shape)).mean()
               for s in seconds)  # fmt: skip


def gradients(value, wanted):
    if not value.requires_grad:
        return [torch.zeros_like(w) for w in wanted]
    return torch.autograd.grad(value, wanted, materialize_grads=True)


def relative(got, expected):
    flat = [torch.cat([t.detach().flatten() for t in side]) for side in (got, expected)]
    return ((flat[0] - flat[1]).norm() / flat[1].norm().clamp_min(1e-6)).item()


@pytest.mark.in_turn
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_values_and_gradients_equal_reverse_mode_through_decomposed_norms(name):
    sample = ARCHITECTURES[name](D)
    z = sample.z.requires_grad_()
    wanted = [z, *(p for p in sample.parameters if p.requires_grad)]
    directions = directions_for(z)
    torch.manual_seed(5)
    with DecomposedFunctions():
        outputs = listed(Repeatable(sample.fn, sample.modules)(z))
    expected = by_reverse_mode(outputs, z, directions)
    slopes = gradients(penalty(expected), wanted)
    torch.manual_seed(5)
    value, _, second = pydisent.second_directional_derivative(sample.fn, z, directions)
    for got, output in zip(listed(value), outputs, strict=True):
        torch.testing.assert_close(got, output, rtol=1e-9, atol=1e-10)
    assert relative(listed(second), expected) <= 1e-10
    assert relative(gradients(penalty(listed(second)), wanted), slopes) <= 1e-9


@pytest.mark.parametrize(
    "name",
    ["batch_norm_of_vectors_without_affine", "transformer_encoder", "resnet_instance_norm_and_bias",
     "spatially_constricted", "modulated_convolution", "custom_autograd_function",
     "dropout_in_training_mode", "in_place_operations"],
)  # fmt: skip
def test_values_and_gradients_equal_differences(name):
    """Values of the function alone: no derivative of PyTorch's is trusted."""
    sample = ARCHITECTURES[name](D)
    torch.manual_seed(5)
    fn, statistics = Repeatable(sample.fn, sample.modules), FixedBatchStatistics()
    directions = directions_for(sample.z)

    def at(z):
        with torch.no_grad(), statistics:
            outputs = listed(fn(z))
        statistics.position = 0
        return torch.cat([output.flatten(1) for output in outputs], 1)

    at(sample.z)  # whose statistics are kept

    def bent(h=4e-4):
        f = {k: torch.stack([at(sample.z + k * h * v) for v in directions]) for k in range(-2, 3)}
        return (16 * (f[1] + f[-1]) - f[2] - f[-2] - 30 * f[0]) / (12 * h * h)

    def value():
        _, _, second = pydisent.second_directional_derivative(fn, sample.z, directions)
        return torch.cat([part.flatten(2) for part in listed(second)], 2)

    second, weights = value(), directions_for(bent()[0])
    assert relative([second], [bent()]) <= 1e-5
    wanted = [p for p in sample.parameters if p.requires_grad]
    moves = [torch.randn_like(p) for p in wanted]
    slope = sum((g * m).sum() for g, m in zip(gradients((weights * second).sum(), wanted), moves))

    def moved(h):
        with torch.no_grad():
            for p, m in zip(wanted, moves):
                p.add_(h * m)
            found = (weights * bent()).sum()
            for p, m in zip(wanted, moves):
                p.sub_(h * m)
        return found

    torch.testing.assert_close(slope, central_difference(moved, 2e-4), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "activation",
    [nn.Tanh(), nn.Sigmoid(), nn.SiLU(), nn.Softplus(), nn.Softplus(3.0, 1.0), nn.LeakyReLU()],
    ids=str,
)
def test_large_activations_pass_both_derivatives_in_one_tensor(activation):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(4, 8 * 36), nn.Unflatten(1, (8, 6, 6)), activation,
        nn.Conv2d(8, 16, 3, padding=1), activation, nn.Conv2d(16, 2, 3),
    ).double()  # fmt: skip
    z = torch.randn(8, 4, dtype=D, requires_grad=True)
    wanted, directions = [z, *net.parameters()], directions_for(z)
    expected = by_reverse_mode([net(z)], z, directions)
    _, _, second = pydisent.second_directional_derivative(net, z, directions)
    assert relative([second], expected) <= 1e-12
    slopes = gradients(penalty(expected), wanted)
    assert relative(gradients(penalty([second]), wanted), slopes) <= 1e-12


def test_first_derivatives_and_the_value_have_graphs_too():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    z, v = torch.randn(2, 3, dtype=D, requires_grad=True), torch.randn(1, 2, 3, dtype=D)
    value, first, _ = pydisent.second_directional_derivative(net, z, v)
    _, derivative = pydisent.directional_derivative(net, z, v[0])
    torch.testing.assert_close(first[0], derivative)
    for got, wanted in ((value, net(z)), (first[0], derivative)):
        slopes = [
            torch.autograd.grad(x.square().sum(), z, retain_graph=True)[0] for x in (got, wanted)
        ]
        torch.testing.assert_close(*slopes)
    with torch.no_grad():
        found = pydisent.second_directional_derivative(net, z, v)
    assert not any(part.requires_grad for part in found)


def test_outputs_that_do_not_move_have_zeros():
    z = torch.randn(2, 3)
    fixed = torch.ones(2, 4)
    found = pydisent.second_directional_derivative(lambda z: [fixed, z * z], z, z[None])
    assert [part.shape for part in found[2]] == [(1, 2, 4), (1, 2, 3)]
    assert not found[2][0].any()
    torch.testing.assert_close(found[2][1], 2 * z[None] ** 2)


class Detached(torch.autograd.Function):
    """A square whose backward has no derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, cotangent):
        return 2 * ctx.saved_tensors[0] * cotangent


def test_what_has_no_second_derivative_is_refused_by_name():
    z = torch.randn(2, 3)
    with pytest.raises(pydisent.DerivativeError, match="Detached"):
        pydisent.second_directional_derivative(Detached.apply, z, z[None])


# -- PyTorch's operator database --------------------------------------------------------------


@functools.cache
def operators():
    pytest.importorskip("expecttest", reason="PyTorch's operator database needs expecttest")
    import _second_derivatives as cases

    try:
        return cases, cases.operators()
    except ImportError as error:
        pytest.skip(f"this torch has no database of operators: {error}")


@pytest.mark.in_turn
@pytest.mark.parametrize("place", range(12))
def test_operators_are_right_or_refused(place):
    """Every 72nd operator, 12 times; ``_second_derivatives.verdicts`` judges any of them."""
    cases, table = operators()
    for name in list(table)[6 * place :: 72]:
        for where, verdict in cases.verdicts(name, count=1):
            assert verdict.outcome != cases.WRONG, (name, where, verdict)


def test_a_wrong_second_derivative_is_seen(monkeypatch):
    cases, _ = operators()
    ((_, verdict),) = cases.verdicts("exp", count=1)
    assert verdict.outcome == cases.RIGHT
    right = pydisent.second_directional_derivative

    def bent(*args):
        value, first, second = right(*args)
        return value, first, 1.01 * second

    monkeypatch.setattr(pydisent, "second_directional_derivative", bent)
    ((_, verdict),) = cases.verdicts("exp", count=1)
    assert "off by 1.0e-02" in verdict.detail
