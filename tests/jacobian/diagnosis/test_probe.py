"""The measure itself: central differences against closed forms, and errors made on purpose."""

import torch
from _diagnosed import draw

from pydisent.jacobian.diagnosis._differences import reference
from pydisent.jacobian.diagnosis._probe import Probes
from pydisent.jacobian.diagnosis._routes import KINDS


def test_references_are_exact_on_polynomials():
    """D f[v], D²f[v, w] and 3 D³f[v, v, w] + D³f[w, w, w] of x³ y, by hand."""
    x, y = torch.tensor([1.5, -0.5]).double(), torch.tensor([2.0, 0.7]).double()
    (a, b), (c, d) = (draw(2, 2, seed=s, dtype=torch.float64).unbind() for s in (1, 2))
    found = reference(lambda t: t[0] ** 3 * t[1], [x, y], [a, b], [c, d], 3)
    assert found.count == 2
    first = 3 * x**2 * y * a + x**3 * b
    mixed = 6 * x * y * a * c + 3 * x**2 * (a * d + b * c)
    third = 3 * (6 * y * a * a * c + 6 * x * (a * a * d + 2 * a * b * c))
    third = third + 6 * y * c**3 + 18 * x * c * c * d
    torch.testing.assert_close(found.first[0], first, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.mixed, mixed, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found.third, third, rtol=1e-6, atol=1e-6)


def test_each_kind_of_error_is_seen_by_its_route():
    """An operation that is right in value and off by a per cent in one derivative alone."""

    class Off(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x, forward, reverse):
            return torch.sin(x)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(inputs[0])
            ctx.save_for_forward(inputs[0])
            ctx.factors = inputs[1:]

        @staticmethod
        def jvp(ctx, tangent, *_):
            return ctx.factors[0] * tangent * ctx.saved_tensors[0].cos()

        @staticmethod
        def backward(ctx, cotangent):
            return ctx.factors[1] * cotangent * ctx.saved_tensors[0].cos(), None, None

    def wrong(forward, reverse):
        probes = Probes(lambda x: Off.apply(x[0], forward, reverse), [draw(8).double()])
        found = probes.verdicts(KINDS)
        return {name for name, verdict in found.items() if verdict.outcome == "wrong"}

    # torch 2.13 drops what forward mode over a custom jvp reads of its saved tensors.
    assert wrong(1.0, 1.0) <= {"forward_over_forward"}
    assert {"forward", "vmap"} <= wrong(1.01, 1.0)
    assert "reverse" not in wrong(1.01, 1.0)
    assert {"reverse", "vmap", "double_backward", "penalty"} <= wrong(1.0, 1.01)
    assert "forward" not in wrong(1.0, 1.01)
