"""Custom ``autograd.Function``s inside a generator: right, or refused in words."""

import pytest
import torch
from _functions import (
    METHODS,
    Square,
    draw_codes,
    exact_penalty,
)
from torch import nn
from torch.autograd.function import once_differentiable

import pydisent
from pydisent import DerivativeError


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
    weight = draw_codes(4, 4).requires_grad_()

    def custom(z):
        h = z @ weight
        return z + square.apply(h) * h + square.apply(square.apply(z) + h.sin())

    def plain(z):
        h = z @ weight
        return z + h**3 + (z**2 + h.sin()) ** 2

    results = []
    for fn in (custom, plain):
        z = draw_codes().requires_grad_()
        value = exact_penalty(fn, z, method)
        results.append([value, *torch.autograd.grad(value, [weight, z])])
    torch.testing.assert_close(*results)


def test_a_custom_function_has_the_derivative_that_its_backward_says():
    jacobian = pydisent.linearize(lambda z: Reversal.apply(z.sin()), draw_codes()).jacobian()
    torch.testing.assert_close(jacobian, torch.diag_embed(-draw_codes().cos()))


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
            exact_penalty(fn, draw_codes(), method).backward()
    else:
        with pytest.raises(DerivativeError, match=function.__name__):
            exact_penalty(fn, draw_codes(), method)


def test_a_right_function_vouches_for_no_other_of_its_name():
    other = type("Square", (SineInNumPy,), {})
    layer = nn.Linear(4, 6).double()
    for square in (Square, other):
        assert square.apply(layer(draw_codes())).grad_fn.name() == "SquareBackward"
    exact_penalty(lambda z: Square.apply(layer(z)), draw_codes())
    with pytest.raises(DerivativeError, match="Square"):
        exact_penalty(lambda z: other.apply(layer(z)), draw_codes())


def test_codes_that_depend_on_what_a_custom_function_reads():
    """The gradient through the codes is not counted twice."""
    weight = (0.3 * draw_codes(4, 4)).requires_grad_()

    def loss(function):
        z = torch.tanh(draw_codes() @ weight)
        return exact_penalty(lambda z: function(z @ weight) * z, z)

    (got,) = torch.autograd.grad(loss(Square.apply), weight)
    (expected,) = torch.autograd.grad(loss(torch.square), weight)
    torch.testing.assert_close(got, expected)


class SineByMode(torch.autograd.Function):
    """Differentiable twice in one mode alone."""

    @staticmethod
    def forward(ctx, x, mode):
        ctx.mode = mode
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, cotangent):
        slope = ctx.saved_tensors[0].cos()
        return (cotangent if ctx.mode == "right" else cotangent.detach()) * slope, None


class ClippedOnce(torch.autograd.Function):
    """max(x, 0), whose backward hides its cotangent."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx, cotangent):
        return cotangent.detach() * (ctx.saved_tensors[0] > 0)


def test_a_function_that_was_found_right_is_checked_again_where_it_may_differ():
    layer = nn.Linear(4, 6).double()
    for _ in range(2):
        exact_penalty(lambda z: SineByMode.apply(layer(z), "right"), draw_codes())
    with pytest.raises(DerivativeError, match="SineByMode"):
        exact_penalty(lambda z: SineByMode.apply(layer(z), "wrong"), draw_codes())


def test_a_derivative_of_zero_says_nothing_about_a_function():
    layer = nn.Linear(4, 4).double()
    far = torch.full((4,), 1e3, dtype=torch.float64)
    exact_penalty(lambda z: z.sin() + ClippedOnce.apply(layer(z) - far), draw_codes())
    with pytest.raises(DerivativeError, match="ClippedOnce"):
        exact_penalty(lambda z: z.sin() + ClippedOnce.apply(layer(z) + far), draw_codes())


@pytest.mark.parametrize("method", METHODS)
def test_a_backward_that_loses_its_cotangent_is_refused(method):
    """Sampling by implicit derivatives: its backward is not a function of torch operations."""

    def fn(z):
        torch.manual_seed(0)
        return torch.distributions.Dirichlet((z @ weight).exp()).rsample() + z.sum(1, keepdim=True)

    weight = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with pytest.raises(DerivativeError, match="cotangent"):
        pydisent.alignment_penalty(fn, draw_codes(), k=2, iterations=2, method=method)


@pytest.mark.parametrize("method", ["gram", "matrix_free", "auto"])
def test_a_missing_higher_derivative_names_the_operation(method):
    weight = torch.eye(4, dtype=torch.float64, requires_grad=True)

    def fn(z):
        torch.manual_seed(0)
        return torch.distributions.Gamma((z @ weight).exp(), 1.0).rsample()

    value = pydisent.alignment_penalty(fn, draw_codes(), k=2, iterations=2, method=method)
    with pytest.raises(DerivativeError, match=r"fn \(_standard_gamma\) has no derivative"):
        torch.autograd.grad(value, weight)


class Bounded(torch.autograd.Function):
    """max(x, b) whose gradient passes where it would raise x, as in learned image compression."""

    @staticmethod
    def forward(ctx, x, bound):
        ctx.save_for_backward(x, bound)
        return torch.maximum(x, bound)

    @staticmethod
    def backward(ctx, cotangent):
        x, bound = ctx.saved_tensors
        return ((x >= bound) | (cotangent < 0)) * cotangent, None


@pytest.mark.parametrize("method", METHODS)
def test_a_backward_that_is_not_linear_in_its_cotangent_is_refused(method):
    layer = nn.Linear(4, 6).double()
    bound = torch.zeros(6, dtype=torch.float64)
    with pytest.raises(DerivativeError, match="cotangent"):
        exact_penalty(lambda z: Bounded.apply(layer(z), bound).sin(), draw_codes(), method)
