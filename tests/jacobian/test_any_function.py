"""Ordinary programs around networks: right as central differences say, or refused in words.

``test_programs`` composes such programs at random and ``test_operators`` goes through PyTorch's
own operators; here is what a user meets by name: options, errors, side effects, devices, dtypes.
"""

import random
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _oracle import power_iterations
from _probe import central_difference
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

import pydisent
from pydisent import DerivativeError
from pydisent.jacobian import cost
from pydisent.jacobian.alignment import routes
from pydisent.jacobian.cost import Machine

torch.manual_seed(0)  # the networks below
D = torch.float64
ROUTES = ["gram", "matrix_free", "auto"]
METHODS = [*ROUTES, "autograd"]


def _z(*shape, dtype=D):
    return torch.randn(*(shape or (3, 4)), generator=torch.Generator().manual_seed(1), dtype=dtype)


def _differences(fn, z, seed=lambda: torch.manual_seed(3)):
    """J (B, n, m) by central differences, each call from the same random state."""

    def flat(codes):
        seed()
        with torch.no_grad():
            return fn(codes).flatten(1)

    axes = torch.eye(z[0].numel(), dtype=z.dtype).reshape(-1, *z.shape[1:])
    columns = [central_difference(lambda h, e=e: flat(z + h * e), 3e-4) for e in axes]
    return torch.stack(columns, -1)


def _penalty(fn, z, method="gram", k=2, **options):
    probe = torch.ones(len(z), z[0].numel(), k, dtype=z.dtype)
    exact = {} if method == "autograd" else {"tolerance": 0}
    return pydisent.alignment_penalty(
        fn, z, k=k, iterations=2, probe=probe, method=method, **exact, **options
    )


# -- side effects are those of one call -----------------------------------------------------------


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, cotangent):
        return 2 * cotangent


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("hidden", [False, True])
def test_a_function_is_called_once_whatever_it_holds(method, hidden):
    layer, norm = nn.Linear(4, 6).double(), nn.BatchNorm1d(6).double()
    spectral = nn.utils.spectral_norm(nn.Linear(6, 5)).double()
    given, calls = torch.Generator(), []

    def fn(z):
        calls.append(random.random() + np.random.rand())  # noqa: NPY002
        h = norm(layer(z)) + 0.1 * torch.randn(3, 6, dtype=D, generator=given)
        return spectral(Doubled.apply(h) if hidden else 2 * h)

    def states():
        numbers = random.getstate(), np.random.get_state()[2]  # noqa: NPY002
        buffers = [*norm.buffers(), spectral.weight_u.clone()]
        return *numbers, torch.get_rng_state(), given.get_state(), *(b.clone() for b in buffers)

    def restart():
        for draw in (torch.manual_seed, given.manual_seed, random.seed, np.random.seed):
            draw(5)
        norm.reset_running_stats()
        with torch.no_grad():
            spectral.weight_u.copy_(torch.ones(5) / 5**0.5)
            spectral.weight_v.copy_(torch.ones(6) / 6**0.5)

    restart()
    fn(_z())
    once = states()
    restart()
    calls.clear()
    _penalty(fn, _z(), method).backward()
    assert len(calls) == 1
    for got, expected in zip(states(), once, strict=True):
        equal = torch.allclose(got, expected) if isinstance(got, torch.Tensor) else got == expected
        assert equal


def test_products_are_those_of_the_call_that_was_traced():
    given = torch.Generator()
    weight = _z(4, 6)

    def fn(z):
        h = z @ weight * (1 + random.random())
        if np.random.rand() < 0.5:  # noqa: NPY002
            h = Doubled.apply(h)
        return F.dropout(h + torch.randn(3, 6, dtype=D, generator=given), 0.3).sin()

    def seed():
        for draw in (torch.manual_seed, given.manual_seed, random.seed, np.random.seed):
            draw(5)

    seed()
    linear = pydisent.linearize(fn, _z())
    first = linear.jacobian()
    assert torch.equal(first, linear.jacobian())
    torch.testing.assert_close(first, _differences(fn, _z(), seed))


# -- custom functions -----------------------------------------------------------------------------


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, cotangent):
        return 2 * ctx.saved_tensors[0] * cotangent


class Times(torch.autograd.Function):
    """A product whose backward looks at its numbers, so that it takes one cotangent at a time."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx, cotangent):
        a, b = ctx.saved_tensors
        if cotangent.abs().amax().item() == 0:
            return torch.zeros_like(a), torch.zeros_like(b)
        return Times.apply(cotangent, b), Times.apply(cotangent, a)


class SquareByTimes(Square):
    @staticmethod
    def backward(ctx, cotangent):
        return Times.apply(2 * ctx.saved_tensors[0], cotangent)


class SineOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        return cotangent * ctx.saved_tensors[0].cos()


class SineInNumPy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, cotangent):
        return torch.from_numpy(cotangent.detach().numpy() * ctx.saved_tensors[0].cos().numpy())


class Reversal(torch.autograd.Function):
    """Domain-adversarial training's: a view, whose derivative is not a view's."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, cotangent):
        return -cotangent


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("square", [Square, SquareByTimes])
def test_a_custom_function_beside_and_behind_other_paths(method, square):
    weight = _z(4, 4).requires_grad_()

    def custom(z):
        h = z @ weight
        return z + square.apply(h) * h + square.apply(square.apply(z) + h.sin())

    def plain(z):
        h = z @ weight
        return z + h**3 + (z**2 + h.sin()) ** 2

    results = []
    for fn in (custom, plain):
        z = _z().requires_grad_()
        value = _penalty(fn, z, method)
        results.append([value, *torch.autograd.grad(value, [weight, z])])
    torch.testing.assert_close(*results)


def test_a_custom_function_has_the_derivative_that_its_backward_says():
    jacobian = pydisent.linearize(lambda z: Reversal.apply(z.sin()), _z()).jacobian()
    torch.testing.assert_close(jacobian, torch.diag_embed(-_z().cos()))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("function", [SineOnce, SineInNumPy])
@pytest.mark.parametrize("beside", [False, True])
def test_a_function_that_cannot_be_differentiated_twice_is_refused(function, method, beside):
    layer = nn.Linear(4, 6).double()

    def fn(z):
        h = layer(z)
        return h + function.apply(h) if beside else function.apply(h)

    if method == "autograd":
        with pytest.raises((DerivativeError, RuntimeError)):
            _penalty(fn, _z(), method).backward()
    else:
        with pytest.raises(DerivativeError, match=function.__name__):
            _penalty(fn, _z(), method)


def test_a_right_function_vouches_for_no_other_of_its_name():
    other = type("Square", (SineInNumPy,), {})
    layer = nn.Linear(4, 6).double()
    for square in (Square, other):
        assert square.apply(layer(_z())).grad_fn.name() == "SquareBackward"
    _penalty(lambda z: Square.apply(layer(z)), _z())
    with pytest.raises(DerivativeError, match="Square"):
        _penalty(lambda z: other.apply(layer(z)), _z())


def test_codes_that_depend_on_what_a_custom_function_reads():
    """The gradient through the codes is not counted twice."""
    weight = (0.3 * _z(4, 4)).requires_grad_()

    def loss(function):
        z = torch.tanh(_z() @ weight)
        return _penalty(lambda z: function(z @ weight) * z, z)

    (got,) = torch.autograd.grad(loss(Square.apply), weight)
    (expected,) = torch.autograd.grad(loss(torch.square), weight)
    torch.testing.assert_close(got, expected)


# -- coupled samples ------------------------------------------------------------------------------


def _by_hand(x):
    return (x - x.mean(0)) * torch.rsqrt(x.var(0, correction=0) + 1e-5)


COUPLED = {
    "mean": lambda x: _by_hand(x),
    "matmul": lambda x: torch.ones(3, 3, dtype=D) @ x / 3,
    "a change of places": lambda x: x.roll(1, 0),
    "add": lambda x: x + x[:1].sin(),
    "cumsum": lambda x: x.cumsum(0),
    "softmax": lambda x: torch.softmax(x, 0),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", COUPLED)
def test_coupled_samples_are_refused_and_the_operation_named(name, method):
    layer = nn.Linear(4, 6).double()
    with pytest.raises(ValueError, match="mixes the samples") as error:
        _penalty(lambda z: COUPLED[name](layer(z)).tanh(), _z(), method)
    assert method == "autograd" or name in str(error.value)


@pytest.mark.parametrize("method", ROUTES)
def test_held_statistics_are_those_of_batch_norm(method):
    first, last, norm = nn.Linear(4, 8), nn.Linear(8, 5), nn.BatchNorm1d(8, affine=False)
    first, last, norm = first.double(), last.double(), norm.double()
    results = []
    for normalize in (norm, _by_hand):
        z = _z().requires_grad_()
        value = _penalty(lambda z, n=normalize: last(n(first(z)).tanh()), z, method, coupled="hold")
        wanted = [first.weight, last.weight, z]
        results.append([value, *torch.autograd.grad(value, wanted, materialize_grads=True)])
    torch.testing.assert_close(*results)


def test_samples_that_only_change_places_in_memory_are_apart():
    weight = _z(4, 6)

    def fn(z):  # as modulated convolutions have it, and sequences first
        h = (z @ weight).t().reshape(1, -1).sin()
        return h.reshape(6, 3).unsqueeze(1).permute(2, 0, 1)

    torch.testing.assert_close(pydisent.linearize(fn, _z()).jacobian(), _differences(fn, _z()))


# -- which way -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "size", "way"),
    [
        (Machine(step=1, reversed_step=1, product=0, number=0), 4, "unrolled"),
        (Machine(step=0, reversed_step=0, product=1, number=1), 4, "gram_route"),
        (Machine(step=0, reversed_step=0, product=1, number=1), 64, "matrix_free_route"),
    ],
)
def test_auto_goes_the_way_that_costs_least(machine, size, way, monkeypatch):
    first, last = nn.Linear(size, 4).double(), nn.Linear(4, 5).double()
    gone = []
    monkeypatch.setattr(routes, "machine", lambda device: machine)
    for name in ("unrolled", "gram_route", "matrix_free_route"):
        real = getattr(routes, name)
        monkeypatch.setattr(
            routes, name, lambda *args, n=name, r=real: (gone.append(n), r(*args))[1]
        )
    fn = nn.Sequential(first, nn.Tanh(), last)
    pydisent.alignment_penalty(fn, _z(3, size), k=1, iterations=2).backward()
    assert gone == [way]


def test_a_machine_is_measured_once_and_keeps_its_choices(monkeypatch, tmp_path):
    """Also from one process to the next; what is damaged is measured again."""
    monkeypatch.setenv("PYDISENT_CACHE", str(tmp_path / "cache"))
    measured = []

    def measure(device):
        measured.append(device)
        return Machine(step=len(measured), reversed_step=2, product=3, number=4)

    monkeypatch.setattr(cost, "measure", measure)

    def asked_by_a_new_process():
        cost.load_or_measure.cache_clear()
        return cost.machine(torch.device("cpu"))

    try:
        assert [asked_by_a_new_process().step for _ in range(2)] == [1, 1]
        (file,) = (tmp_path / "cache").iterdir()
        for text in ("", "[]", '{"step": 1}', file.read_text()[:-2]):
            file.write_text(text)
            before = len(measured)
            assert [asked_by_a_new_process().step for _ in range(2)] == [before + 1] * 2
        monkeypatch.setenv("PYDISENT_CACHE", "off")
        assert asked_by_a_new_process().step == len(measured)
    finally:
        cost.load_or_measure.cache_clear()


def test_what_this_machine_takes_is_positive():
    found = cost.measure(torch.device("cpu"))
    assert min(found.step, found.reversed_step, found.product, found.number) > 0


@pytest.mark.parametrize("method", ROUTES)
def test_a_gradient_is_not_differentiated_again(method):
    weight = _z(4, 6).requires_grad_()
    value = _penalty(lambda z: (z @ weight).tanh(), _z(), method)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(value, weight, create_graph=True)


@pytest.mark.parametrize("method", ROUTES)
@pytest.mark.parametrize("hidden", [False, True])
def test_a_jacobian_that_is_a_constant_has_a_penalty_with_a_backward(method, hidden):
    z, weight = _z().requires_grad_(), _z(4, 6)
    fn = lambda z: Doubled.apply(z @ weight) if hidden else 2 * (z @ weight)
    _penalty(fn, z, method).backward()
    assert z.grad is None or not z.grad.any()


# -- values and derivatives that are not there ----------------------------------------------------


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_a_jacobian_that_is_not_finite_is_named(method, grad):
    with torch.set_grad_enabled(grad):
        with pytest.raises(ValueError, match="Jacobian") as error:
            _penalty(lambda z: z.relu().sqrt() + z * 0, -_z().abs(), method)
        assert method == "autograd" or "sqrt" in str(error.value)
        with pytest.raises(ValueError, match="J'J"):
            _penalty(lambda z: 1e25 * z.tanh(), _z().float(), method)


def test_a_result_without_a_derivative_is_refused_where_it_is_read():
    with pytest.raises(DerivativeError, match="bessel_j0"):
        pydisent.linearize(lambda z: z + torch.special.bessel_j0(z), _z())
    with pytest.raises(DerivativeError, match="bessel_j0"):
        pydisent.linearize(lambda z: (z, torch.special.bessel_j0(z)), _z())
    torch.special.bessel_j0(_z())
    pydisent.linearize(lambda z: z * torch.special.bessel_j0(z).detach(), _z())


def test_a_step_is_a_constant():
    fn = lambda z: z * z.round() + z.sign() * z.heaviside(torch.zeros(1, dtype=D)) + (z > 0) * z
    torch.testing.assert_close(pydisent.linearize(fn, _z()).jacobian(), _differences(fn, _z()))


# -- arguments ------------------------------------------------------------------------------------


def test_a_functions_own_keywords():
    def fn(z, k=1.0, chunk=0.0, *, probe=0.0, method="cos"):
        return getattr(torch, method)(z * k + chunk + probe)

    own = {"k": 2.0, "chunk": 0.1, "probe": 0.2, "method": "sin"}
    expected = _penalty(lambda z: (z * 2 + 0.3).sin(), _z())
    torch.testing.assert_close(_penalty(fn, _z(), fn_kwargs=own), expected)
    module = pydisent.AlignmentPenalty(2, 2, tolerance=0)
    probe = torch.ones(3, 4, 2, dtype=D)
    torch.testing.assert_close(module(fn, _z(), probe=probe, fn_kwargs=own), expected)
    path = pydisent.trace_eigenpath(fn, _z(), steps=1, fn_kwargs=own)
    assert path.shape == (1, 3, 2, 4)
    with pytest.raises(TypeError, match="fn_kwargs"):
        pydisent.linearize(fn, _z(), fn_kwargs=["k"])
    with pytest.raises(TypeError, match="fn_kwargs"):
        pydisent.linearize(fn, _z(), scale=1, fn_kwargs={"scale": 2})


def test_numpys_integers_are_whole_numbers():
    value = pydisent.alignment_penalty(
        torch.sin, _z(), k=np.int64(2), iterations=np.int32(2), chunk=np.int16(1),
        tolerance=np.float32(0.5),
    )  # fmt: skip
    assert value.isfinite()
    assert pydisent.trace_eigenpath(
        torch.sin, _z(), ordinals=np.array([2, 1]), steps=np.int64(1)
    ).shape == (2, 3, 2, 4)
    with pytest.raises(TypeError, match="k must be a whole number"):
        pydisent.alignment_penalty(torch.sin, _z(), k=np.float64(2), iterations=1)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_among_the_outputs(method):
    layer = nn.Linear(4, 6).double()
    value = _penalty(lambda z: (layer(z), None, {"extra": None}), _z(), method)
    torch.testing.assert_close(value, _penalty(layer, _z(), method))
    if method != "autograd":
        linear = pydisent.linearize(lambda z: (layer(z), None), _z())
        moved = linear.jvp(_z()[None])
        assert moved[1] is None
        torch.testing.assert_close(linear.vjp((moved[0], None)), linear.gram_product(_z()[None]))


@pytest.mark.parametrize("method", METHODS)
def test_latent_codes_of_any_shape(method):
    """DCGAN's (B, m, 1, 1), and w+ codes (B, L, 512): as the same codes, flat."""
    deconvolution = nn.Sequential(nn.ConvTranspose2d(4, 3, 4), nn.Tanh()).double()
    mixing = lambda w: (w[:, 0] * w[:, 1].sin())[:, None] + w.cos()
    for fn, shape in ((deconvolution, (3, 4, 1, 1)), (mixing, (3, 2, 4))):
        flat = _z(*shape).flatten(1).requires_grad_()
        shaped = _z(*shape).requires_grad_()
        wide = _penalty(lambda z, fn=fn, s=shape: fn(z.reshape(s)), flat, method, k=3)
        value = _penalty(fn, shaped, method, k=3)
        torch.testing.assert_close(value, wide)
        expected = torch.autograd.grad(wide, flat)[0].reshape(shape)
        torch.testing.assert_close(torch.autograd.grad(value, shaped)[0], expected)


def test_products_of_codes_of_any_shape():
    z = _z(3, 2, 4)
    fn = lambda w: (w[:, 0] * w[:, 1].sin()).tanh()
    linear = pydisent.linearize(fn, z)
    jacobian = linear.jacobian()
    torch.testing.assert_close(jacobian, _differences(fn, z))
    tangents = _z(5, 3, 2, 4)
    moved = torch.einsum("bnm,kbm->kbn", jacobian, tangents.flatten(2))
    torch.testing.assert_close(linear.jvp(tangents), moved)
    pulled = torch.einsum("bnm,kbn->kbm", jacobian, moved).reshape(tangents.shape)
    torch.testing.assert_close(linear.vjp(moved), pulled)
    torch.testing.assert_close(linear.gram_product(tangents), pulled)
    torch.testing.assert_close(linear.gram_matrix(), jacobian.mT @ jacobian)
    assert pydisent.trace_eigenpath(fn, z, ordinals=(1, 3), steps=2).shape == (2, 3, 3, 2, 4)
    _, moved = pydisent.directional_derivative(fn, z, tangents[0])
    torch.testing.assert_close(moved, linear.jvp(tangents[:1])[0])
    with pytest.raises(ValueError, match=r"\(K, 3, 2, 4\)"):
        linear.jvp(tangents.flatten(2))


def test_an_eigenpath_leaves_arguments_as_they_are():
    """A matrix whose first size is the batch's is not a sample's."""
    weight = _z(3, 3)
    fn = lambda z, w: (z @ w).sin()
    for batch in (3, 4):
        both = pydisent.trace_eigenpath(fn, _z(batch, 3), weight, ordinals=(1, 2), steps=2)
        for i, ordinal in enumerate((1, 2)):
            one = pydisent.trace_eigenpath(fn, _z(batch, 3), weight, ordinals=ordinal, steps=2)
            assert torch.equal(both[i], one[0])


# -- devices and dtypes ---------------------------------------------------------------------------


def test_a_default_device_is_the_callers_own_affair():
    layer = nn.Linear(4, 8)
    z = _z(dtype=torch.float32)
    functions = [
        layer,
        lambda z: F.max_pool1d(layer(z)[:, None], 2),
        lambda z: layer(z).sort().values * F.dropout(layer(z), 0.2),
        lambda z: z @ layer.weight.t() + Square.apply(layer(z)).roll(1, 1),
        lambda z: torch.where(layer(z) > 0, layer(z), layer(z).exp()),
    ]
    probe = torch.ones(3, 4, 2)
    options = {"k": 2, "iterations": 2, "probe": probe}
    for fn in functions:
        torch.manual_seed(0)
        expected = pydisent.alignment_penalty(fn, z, **options)
        try:
            torch.set_default_device("meta")
            torch.manual_seed(0)
            value = pydisent.alignment_penalty(fn, z, **options)
        finally:
            torch.set_default_device(None)
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("z_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("compute_dtype", [None, torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_may_be_mixed(z_dtype, compute_dtype):
    """A buffer in float32 that is written into, a transform without a half kernel, wide codes."""
    layer, buffer = nn.Linear(4, 6), torch.zeros(2, 6)

    def fn(z):
        h = layer(z.float())
        canvas = buffer.unsqueeze(0).repeat(len(z), 1, 1)
        canvas[:, 0] = h
        canvas[:, 1, 2:] = h[:, :4].sin()
        return torch.cat([torch.fft.rfft(canvas.flatten(1)).abs(), h.cumsum(1)], 1)

    z = _z(dtype=z_dtype)
    exact = _penalty(fn, z)
    value = _penalty(fn, z, compute_dtype=compute_dtype)
    (gradient,) = torch.autograd.grad(value, layer.weight)
    (expected,) = torch.autograd.grad(exact, layer.weight)
    half = compute_dtype in (torch.bfloat16, torch.float16)
    torch.testing.assert_close(value.double(), exact.double(), atol=0.1 if half else 1e-5, rtol=0)
    assert (gradient - expected).norm() <= (0.3 if half else 1e-4) * expected.norm()


# -- what public generators do --------------------------------------------------------------------


class Positions(nn.Module):
    """A graph decoder: a sparse constant, positions by vmap, then writes in place."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 12).double()
        self.register_buffer("graph", torch.eye(6, dtype=D).roll(1, 0).to_sparse())

    def forward(self, z):
        grid = torch.vmap(lambda i: i.sin() + 1)(torch.arange(12.0, dtype=D))
        h = (self.layer(z) * grid).view(-1, 6, 2)
        return torch.stack([torch.sparse.mm(self.graph, x) for x in h]).relu_()


def _attention(h):
    return F.scaled_dot_product_attention(*h.view(-1, 1, 3, 4).expand(3, -1, -1, -1, -1)).flatten(1)


def _langevin(z):
    (score,) = torch.autograd.grad((z**3).sum(), z, create_graph=True)
    return (z - 0.1 * score).sin()


PUBLIC = {
    "BigGAN's dtype by its name": lambda z: (
        z.double().mean(1, keepdim=True).type(z.type()) + z
    ).sin(),
    "GPT-2's empty cache": lambda z: torch.cat([torch.tensor([]), z.sin().view(3, 1, 4)], -2),
    "a checkpointed block": lambda z: checkpoint(_attention, z.repeat(1, 3), use_reentrant=False),
    "Langevin's step": _langevin,
    "a determinant": lambda z: torch.det(z[:, :, None] * z[:, None].sin() + torch.eye(4)).view(
        3, 1
    ),
    "a flow's jvp": lambda z: torch.func.jvp(torch.sin, (z,), (torch.ones_like(z),))[1],
    "graph decoder": Positions(),
    "an LU solve": lambda z: torch.lu_unpack(
        *torch.linalg.lu_factor(z[:, :, None] * z[:, None].sin() + torch.eye(4))
    )[2].flatten(1),
}


PLAIN = {"Langevin's step": lambda z: (z - 0.3 * z**2).sin()}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.filterwarnings("ignore:.*cannot be traced.*")
def test_what_public_generators_do(name, method):
    fn = PUBLIC[name]
    torch.set_default_dtype(D)
    try:
        plain = PLAIN.get(name, fn)  # where differences need no gradient inside
        jacobian = _differences(plain, _z())
        value = _penalty(fn, _z().requires_grad_(), method)
        value.backward()
        gram = jacobian.mT @ jacobian
        expected = power_iterations(lambda v: gram @ v, torch.ones(3, 4, 2), 2, True)
        assert abs(value - expected) <= 1e-7
        if method != "autograd":
            got = pydisent.linearize(fn, _z()).jacobian()
            torch.testing.assert_close(got, jacobian, atol=1e-7, rtol=1e-7)
    finally:
        torch.set_default_dtype(torch.float32)


def test_an_announcement_is_of_what_only_the_graph_shows():
    fn = lambda z: Square.apply(z).sin() + F.dropout(z, 0.3, inplace=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pydisent.linearize(fn, _z())
