"""Few directions, which are pushed once with their graph, against the way in chunks."""

import pytest
import torch
from torch import nn

import pydisent
from pydisent.jacobian import objectives
from pydisent.jacobian._program import Program


def _generator():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 9), nn.SiLU(), nn.Linear(9, 12), nn.Tanh()).double()
    return net, torch.randn(3, 5, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def pushes(monkeypatch):
    """The number of directions of each pass through a program."""
    seen, push = [], Program.push

    def noted(self, tangents, *args, **options):
        seen.append(len(tangents))
        return push(self, tangents, *args, **options)

    monkeypatch.setattr(Program, "push", noted)
    return seen


OUTPUTS = {
    "one": lambda net, z: net(z),
    "two": lambda net, z: [net[:2](z), net(z)],
    "two and a constant": lambda net, z: [net[:2](z), net[0].weight.expand(3, 9, 5), net(z)],
}


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("exact", [False, True])
def test_value_and_gradients_are_those_in_chunks(pushes, outputs, each, exact):
    net, z = _generator()
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    options = {"tolerance": 0.0} if exact else {"directions": torch.randn(3, *z.shape).double()}

    def found(**more):
        pushes.clear()
        value = pydisent.gram_penalty(
            lambda z: OUTPUTS[outputs](net, z), z, lambda m: scale * objectives.isometry(m),
            each=each, **options, **more,
        )  # fmt: skip
        wanted = [*net.parameters(), z, scale]
        return value.item(), torch.autograd.grad(value, wanted, materialize_grads=True)

    whole, gradients = found()
    assert pushes == [5 if exact else 3]
    parts, expected = found(chunk=1)
    assert set(pushes) == {1}
    assert whole == pytest.approx(parts, rel=1e-12)
    for got, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(got, other, rtol=1e-9, atol=1e-12)
    assert all(gradient.norm() > 0 for gradient in gradients[:1])


def test_errors_come_at_the_call_and_the_gradient_is_of_first_order():
    net, z = _generator()
    with pytest.raises(ValueError, match="objective must be differentiable"):
        pydisent.gram_penalty(net, z, lambda m: (m - m.detach()).sum((1, 2)).sqrt(), directions=2)
    value = pydisent.gram_penalty(net, z, objectives.isometry, directions=2)
    with pytest.raises(RuntimeError, match="differentiated again"):
        torch.autograd.grad(value, net[0].weight, create_graph=True)
    with torch.no_grad():
        assert not pydisent.gram_penalty(net, z, objectives.isometry, directions=2).requires_grad


def test_a_constant_jacobian_still_has_a_backward():
    z = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    pydisent.gram_penalty(lambda z: 2 * z, z, objectives.isometry, directions=2).backward()
    assert torch.equal(z.grad, torch.zeros_like(z))
