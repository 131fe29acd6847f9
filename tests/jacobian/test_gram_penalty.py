"""Functions of the Gram matrix, and path lengths, against double backward and closed forms."""

import functools

import pytest
import torch
from _architectures import ARCHITECTURES
from _oracle import gram_products
from torch import nn

import pydisent
from pydisent.jacobian import objectives
from pydisent.jacobian.decompositions import DecomposedFunctions
from pydisent.jacobian.path_length import PathLengthPenalty, path_length_penalty

pytestmark = pytest.mark.filterwarnings("ignore:.*cannot be traced.*", "ignore:.*jit.script.*")
EXACT = [n for n in objectives.__all__ if not n.endswith("_estimate")]
ESTIMATES = [n for n in objectives.__all__ if n.endswith("_estimate")]
# The other objectives of singular values have no derivative where J lacks a rank.
SMOOTH = ["orthogonal_jacobian", "isometry", "scaled_isometry", "path_length", "spectral_norm"]


@functools.cache
def _gram(name):
    """A sample, its z, and M with its graph, by reverse mode twice, norms decomposed."""
    sample = ARCHITECTURES[name](torch.float64)
    z = sample.z.detach().clone().requires_grad_()
    torch.manual_seed(5)
    with DecomposedFunctions(), torch.enable_grad():
        product = gram_products(sample.fn, z)
        eye = torch.eye(z.shape[1], dtype=z.dtype).expand(len(z), -1, -1)
        return sample, z, product(eye)


def _close(got, expected, bound=1e-9):
    flat = [torch.cat([t.flatten() for t in side]) for side in (got, expected)]
    assert (flat[0] - flat[1]).norm() <= bound * flat[1].norm().clamp_min(1e-3)


def _gradients(value, sample, z, **options):
    wanted = [p for p in sample.parameters if p.requires_grad] + [z]
    return torch.autograd.grad(value, wanted, materialize_grads=True, **options)


@pytest.mark.in_turn
@pytest.mark.parametrize("objective", SMOOTH)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_value_and_gradients_on_every_architecture(name, objective):
    function = getattr(objectives, objective)
    sample, z, gram = _gram(name)
    if objective == "spectral_norm" and not gram.flatten(1).any(1).all():
        pytest.skip("a sample's J is zero, where the norm has no derivative")
    value = function(gram).mean()
    expected = _gradients(value, sample, z, retain_graph=True)
    ours = ARCHITECTURES[name](torch.float64)
    ours.z.requires_grad_()
    torch.manual_seed(5)
    got = pydisent.gram_penalty(ours.fn, ours.z, function, tolerance=0)
    torch.testing.assert_close(got, value.detach(), rtol=1e-9, atol=1e-9)
    _close(_gradients(got, ours, ours.z), expected)


def _generator():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 9), nn.SiLU(), nn.Linear(9, 12), nn.Tanh()).double()
    return net, torch.randn(3, 5, dtype=torch.float64, requires_grad=True)


def _jacobian(net, z):
    return torch.func.vmap(torch.func.jacrev(lambda x: net(x[None])[0]))(z)


@pytest.mark.parametrize("tolerance", [0, 1e-8])
@pytest.mark.parametrize("name", objectives.__all__)
def test_every_objective_on_a_generator(name, tolerance):
    function = getattr(objectives, name)
    net, z = _generator()
    directions = torch.randn(4, *z.shape, dtype=z.dtype) if name in ESTIMATES else None
    jacobian = _jacobian(net, z)
    if directions is not None:
        jacobian = torch.einsum("bnm,kbm->bnk", jacobian, directions)
    value = function(jacobian.mT @ jacobian).mean()
    wanted = [*net.parameters(), z]
    expected = torch.autograd.grad(value, wanted, materialize_grads=True)
    got = pydisent.gram_penalty(net, z, function, directions=directions, tolerance=tolerance)
    assert got.item() == pytest.approx(value.item(), rel=1e-10)
    _close(torch.autograd.grad(got, wanted, materialize_grads=True), expected)


def test_objectives_of_a_known_matrix():
    # Singular values 1, 2 and 4, in axes that are turned.
    torch.manual_seed(0)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    values = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    gram = (turn * values.square() @ turn.mT)[None]
    expected = {
        "isometry": 0 + 3**2 + 15**2,
        "scaled_isometry": (1 + 16 + 256) / 21**2,
        "jacobian_clamping": 0.0,
        "log_determinant": torch.tensor(8.0).log().item(),
        "path_length": 21.0,
        "spectral_norm": 4.0,
        "nuclear_norm": 7.0,
        "condition_number": 4.0,
    }
    for name, value in expected.items():
        assert getattr(objectives, name)(gram).item() == pytest.approx(value, abs=1e-6), name
    clamped = objectives.jacobian_clamping(gram, 1.5, 3.0)
    assert clamped.item() == pytest.approx((0.5**2 + 1.0) / 3)
    assert objectives.path_length(gram, 4.0).item() == pytest.approx((21**0.5 - 4) ** 2)
    off = gram[0] - gram[0].diag().diag()
    assert objectives.orthogonal_jacobian(gram).item() == pytest.approx(off.square().sum().item())


def test_the_orthogonal_estimate_has_twice_the_exact_expectation():
    torch.manual_seed(0)
    factor = torch.randn(1, 6, 4, dtype=torch.float64)
    gram = factor.mT @ factor
    signs = torch.tensor(
        [[1.0 if n >> i & 1 else -1.0 for i in range(4)] for n in range(16)], dtype=torch.float64
    )  # all of them: their variance is the expectation, but for the correction
    along = (signs @ gram @ signs.mT).diagonal(dim1=-2, dim2=-1)
    expected = 2 * objectives.orthogonal_jacobian(gram).item()
    assert along.var(correction=0).item() == pytest.approx(expected)
    assert objectives.orthogonal_jacobian_estimate(signs @ gram @ signs.mT).item() == pytest.approx(
        expected * 16 / 15
    )


def test_directions_are_drawn_from_the_global_generator():
    net, z = _generator()
    estimate = objectives.orthogonal_jacobian_estimate
    torch.manual_seed(3)
    got = pydisent.gram_penalty(net, z, estimate, directions=2)
    torch.manual_seed(3)
    signs = (torch.randint(0, 2, (3, 2, 5)) * 2.0 - 1).transpose(0, 1).double()
    moved = torch.einsum("bnm,kbm->bkn", _jacobian(net, z), signs)
    assert got.item() == pytest.approx(moved.square().sum(-1).var(1).mean().item())


def test_each_output_has_its_own_matrix():
    net, z = _generator()
    first, second = net[:2], net[2:]

    def both(z):
        hidden = first(z)
        return [hidden, second(hidden)]

    function = objectives.orthogonal_jacobian
    value = sum(function(j.mT @ j).mean() for j in (_jacobian(first, z), _jacobian(net, z)))
    wanted = [*net.parameters(), z]
    expected = torch.autograd.grad(value, wanted, materialize_grads=True)
    got = pydisent.gram_penalty(both, z, function, each=True, tolerance=1e-9)
    assert got.item() == pytest.approx(value.item(), rel=1e-10)
    _close(torch.autograd.grad(got, wanted, materialize_grads=True), expected)
    whole = pydisent.gram_penalty(both, z, function)
    assert whole.item() > 1.01 * got.item()


def test_gradients_flow_to_what_the_objective_reads():
    net, z = _generator()
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    value = pydisent.gram_penalty(net, z, lambda gram: scale**2 * objectives.isometry(gram))
    value.backward()
    jacobian = _jacobian(net, z)
    plain = objectives.isometry(jacobian.mT @ jacobian).mean()
    assert scale.grad.item() == pytest.approx(4 * plain.item())
    assert net[0].weight.grad is not None
    with torch.no_grad():
        assert not pydisent.gram_penalty(net, z, objectives.isometry).requires_grad


def test_an_objective_may_write_to_its_matrix():
    net, z = _generator()

    def off_diagonal(gram):
        gram.diagonal(dim1=1, dim2=2).zero_()
        return gram.square().sum((1, 2))

    values = [
        pydisent.gram_penalty(net, z, f) for f in (off_diagonal, objectives.orthogonal_jacobian)
    ]
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-10)
    _close(*(torch.autograd.grad(value, list(net.parameters())[:1]) for value in values))


def test_a_jacobian_beyond_the_budget(monkeypatch):
    net, z = _generator()
    wanted = [*net.parameters(), z]

    def gradients():
        value = pydisent.gram_penalty(net, z, objectives.isometry, tolerance=0)
        return torch.autograd.grad(value, wanted, materialize_grads=True)

    expected = gradients()
    tight = property(lambda linear: False)
    monkeypatch.setattr(pydisent.Linearization, "jacobian_fits", tight)
    _close(gradients(), expected)


@pytest.mark.parametrize("each", [False, True])
def test_a_fixed_number_of_directions(each):
    net, z = _generator()
    both = lambda z: [net[:2](z), net(z)]

    def gradients(**options):
        value = pydisent.gram_penalty(both, z, objectives.isometry, each=each, **options)
        return torch.autograd.grad(value, [*net.parameters(), z], materialize_grads=True)

    exact = gradients(tolerance=0)
    _close(gradients(rank=5), exact)
    few = gradients(rank=3)
    errors = [(a - b).norm() / b.norm() for a, b in zip(few, exact) if b.norm() > 0]
    assert 1e-6 < max(errors) < 0.5


@pytest.mark.parametrize(
    ("objective", "scale"),
    [("orthogonal_jacobian", 1e-8), ("orthogonal_jacobian", 1e8), ("scaled_isometry", 1e12)],
)
def test_the_directions_kept_do_not_depend_on_the_scale_of_the_jacobian(objective, scale):
    """Powers of M, which leave float32's range where M does not, choose them."""
    net, z = _generator()
    scaled, found = (lambda z: scale * net(z)), []
    for dtype, tolerance in ((torch.float64, 0), (torch.float32, None)):
        net.to(dtype)
        value = pydisent.gram_penalty(
            scaled, z.detach().to(dtype), getattr(objectives, objective), tolerance=tolerance
        )
        parts = torch.autograd.grad(value, list(net.parameters()), materialize_grads=True)
        found.append(torch.cat([part.flatten() for part in parts]).double())
    expected, got = found
    assert (got / expected.norm() - expected / expected.norm()).norm() <= 2e-3


def test_bad_arguments():
    net, z = _generator()
    cases = [
        ("objective must be callable", TypeError, {"objective": 3}),
        (r"objective must return \(B,\) = \(3,\)", ValueError, {"objective": lambda gram: gram}),
        ("objective must return", ValueError, {"objective": lambda gram: 1.0}),
        ("objective must return floating-point numbers with a derivative", ValueError,
         {"objective": lambda gram: gram.detach().sum((1, 2))}),
        ("objective must return floating-point", ValueError,
         {"objective": lambda gram: torch.zeros(3, dtype=torch.int64)}),
        ("objective must be finite", ValueError, {"objective": lambda m: m.sum() * torch.inf}),
        ("objective must be differentiable", ValueError,
         {"objective": lambda m: (m - m.detach()).sum((1, 2)).sqrt()}),
        (r"directions must be \(K, 3, 5\)", ValueError, {"directions": torch.zeros(2, 5)}),
        ("directions must be an integer >= 1", ValueError, {"directions": 0}),
        ("directions must be at least 2", ValueError,
         {"directions": 1, "objective": objectives.orthogonal_jacobian_estimate}),
        ("tolerance must be", ValueError, {"tolerance": 1.0}),
        ("tolerance must be None where rank", ValueError, {"tolerance": 0.1, "rank": 2}),
        ("rank must be at most m = 5", ValueError, {"rank": 6}),
        ("did you mean 'directions'", TypeError, {"direction": 3}),
    ]  # fmt: skip
    for message, error, options in cases:
        options = {"objective": objectives.isometry, **options}
        with pytest.raises(error, match=message):
            pydisent.gram_penalty(net, z, options.pop("objective"), **options)
    singular = nn.Linear(5, 2).double()  # rank 2 of 5
    with pytest.raises(ValueError, match="objective must be"):
        pydisent.gram_penalty(singular, z, objectives.log_determinant)
    value = pydisent.gram_penalty(net, z, objectives.isometry)
    with pytest.raises(RuntimeError, match="differentiated again"):
        torch.autograd.grad(value, net[0].weight, create_graph=True)


def test_path_length_and_its_gradients():
    net, z = _generator()
    y = torch.randn(3, 12, dtype=torch.float64)
    pulled = torch.einsum("bnm,bn->bm", _jacobian(net, z), y)
    lengths = pulled.norm(dim=1)
    wanted = [*net.parameters(), z]
    for target in (0.5, torch.tensor(0.5), lambda lengths: lengths.mean() / 3):
        a = target(lengths) if callable(target) else target
        value = (lengths - a).square().mean()
        expected = torch.autograd.grad(value, wanted, retain_graph=True, materialize_grads=True)
        got = path_length_penalty(net, z, target, cotangents=[y])
        assert got.item() == pytest.approx(value.item(), rel=1e-10)
        _close(torch.autograd.grad(got, wanted, materialize_grads=True), expected)
    with torch.no_grad():
        assert not path_length_penalty(net, z, 1.0).requires_grad


def test_path_length_of_images_has_the_mean_square_of_the_trace():
    net = nn.Sequential(nn.Linear(4, 18), nn.Unflatten(1, (2, 3, 3))).double()
    z = torch.randn(20_000, 4, dtype=torch.float64)
    torch.manual_seed(0)
    got = path_length_penalty(net, z, 0.0, chunk=1)
    expected = net[0].weight.square().sum().item() / 9  # E ‖J'y‖² = tr M, y over √(H W)
    assert got.item() == pytest.approx(expected, rel=0.05)


def test_the_running_mean_of_path_lengths():
    net, z = _generator()
    penalty = PathLengthPenalty(decay=0.25)
    y = [torch.randn(3, 12, dtype=torch.float64)]
    lengths = torch.einsum("bnm,bn->bm", _jacobian(net, z), y[0]).norm(dim=1)
    penalty(net, z)
    first = penalty.mean.item()
    assert first > 0
    penalty.mean.fill_(8.0)
    penalty.options["cotangents"] = y
    value = penalty(net, z)
    mean = 6.0 + 0.25 * lengths.mean().item()
    assert penalty.mean.item() == pytest.approx(mean, rel=1e-6)
    assert value.item() == pytest.approx((lengths - mean).square().mean().item(), rel=1e-6)
    penalty.eval()(net, z)
    assert penalty.mean.item() == pytest.approx(mean, rel=1e-6)


def test_a_target_that_is_learned_or_wrong():
    net, z = _generator()
    y = [torch.randn(3, 12, dtype=torch.float64)]
    lengths = torch.einsum("bnm,bn->bm", _jacobian(net, z), y[0]).norm(dim=1).detach()
    for learned in (lambda a: a, lambda a: lambda lengths: a):
        a = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
        path_length_penalty(net, z, learned(a), cotangents=y).backward()
        assert a.grad.item() == pytest.approx(2 * (1.5 - lengths.mean().item()), rel=1e-6)
    wrong = [lambda lengths: lengths, lambda lengths: lengths[:1] / 0, torch.tensor(-1.0), -1.0]
    for target in (*wrong, torch.tensor(float("nan"))):
        with pytest.raises(ValueError, match="target must be"):
            path_length_penalty(net, z, target, cotangents=y)
    with pytest.raises(ValueError, match="cotangents must be"):
        path_length_penalty(net, z, 1.0, cotangents=[1])
