"""Gradients where tangents are recombined from those of the basis, against double backward."""

import pytest
import torch
from _functions import D, draw_codes
from torch import nn

import pydisent
from pydisent.jacobian import _gram, _kept
from pydisent.jacobian._budget import Budget


class Skip(nn.Module):
    """Two outputs, one of them around a layer, and a tangent that several steps read."""

    def __init__(self):
        super().__init__()
        self.first, self.middle = nn.Linear(3, 16), nn.Linear(16, 16, bias=False)
        self.last = nn.Linear(16, 16)

    def forward(self, z):
        h = self.first(z)
        middle = self.middle(h.tanh())
        return [h + self.last(torch.nn.functional.silu(middle)), middle[:, :5].sigmoid()]


def images():
    return nn.Sequential(
        nn.Linear(3, 32), nn.PReLU(32), nn.Unflatten(1, (8, 2, 2)),
        nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.PReLU(6),
        nn.Conv2d(6, 6, 3, (2, 1), 1, groups=2), nn.Tanh(),
        nn.ConvTranspose2d(6, 3, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


def lines():
    return nn.Sequential(
        nn.Linear(3, 32), nn.Unflatten(1, (4, 8)), nn.Conv1d(4, 6, 3, padding=2, dilation=2),
        nn.SiLU(), nn.ConvTranspose1d(6, 4, 3, 2, 1, output_padding=1, groups=2), nn.Tanh(),
    )  # fmt: skip


def volumes():
    return nn.Sequential(
        nn.Linear(3, 32), nn.Unflatten(1, (4, 2, 2, 2)), nn.Conv3d(4, 6, 3, padding=1), nn.Tanh(),
        nn.Flatten(), nn.Linear(48, 7),
    )  # fmt: skip


def gradient(net, z, method="gram", **options):
    probe = torch.ones(len(z), 3, 2, dtype=z.dtype)
    value = pydisent.alignment_penalty(
        net, z, k=2, iterations=2, probe=probe, method=method, **options
    )
    parts = torch.autograd.grad(value, [*net.parameters(), z], materialize_grads=True)
    return torch.cat([part.flatten() for part in parts])


@pytest.fixture
def count_known(monkeypatch):
    """The number of slots whose tangents were recombined, at each call."""
    counts = []

    def spied(kept, directions):
        found = _kept.recombined(kept, directions)
        assert not any(kept.values())  # the basis' tangents are let go
        counts.append(len(found))
        return found

    monkeypatch.setattr(_gram, "recombined", spied)
    return counts


@pytest.mark.parametrize(("make", "kept"), [(Skip, 2), (images, 3), (lines, 1), (volumes, 2)])
@pytest.mark.parametrize("options", [{"tolerance": 0}, {"tolerance": 1e-9, "chunk": 2}])
def test_the_gradient_is_that_of_double_backward(make, kept, options, count_known):
    torch.manual_seed(0)
    net, z = make().to(D), draw_codes(4, 3).requires_grad_()
    torch.testing.assert_close(
        gradient(net, z, **options), gradient(net, z, "autograd"), rtol=1e-10, atol=1e-12
    )
    assert count_known == [kept]


def test_what_does_not_fit_into_the_budget_is_pushed(count_known, monkeypatch):
    torch.manual_seed(0)
    net, z = images().to(D), draw_codes(4, 3).requires_grad_()
    expected = gradient(net, z, tolerance=0)
    monkeypatch.setattr(
        _gram, "budget_of", lambda _: Budget(256, 8 * 3 * 4 * 96)
    )  # the first convolution's images
    torch.testing.assert_close(gradient(net, z, tolerance=0), expected, rtol=1e-10, atol=1e-12)
    monkeypatch.setattr(_gram, "budget_of", lambda _: Budget(256, 0))
    torch.testing.assert_close(gradient(net, z, tolerance=0), expected, rtol=1e-10, atol=1e-12)
    assert count_known == [3, 1, 0]


def test_a_tangent_of_the_whole_batch_is_not_kept(count_known):
    """Columns of a matrix (out, B) are not rows: a sample's own direction does not give them."""
    torch.manual_seed(0)
    first, last, z = nn.Linear(3, 16).to(D), nn.Linear(16, 4).to(D), draw_codes(3, 3)
    net = lambda z: last((first(z).T.tanh()).T)
    found = pydisent.alignment_penalty(net, z, k=1, iterations=2, method="gram", tolerance=0)
    assert count_known == [0]
    assert found.isfinite()


def test_nothing_is_kept_for_the_value_alone(monkeypatch):
    net, z = images().to(D), draw_codes(4, 3)
    monkeypatch.setattr(_gram, "slots_to_keep", lambda *_: pytest.fail("tangents were kept"))
    with torch.no_grad():
        pydisent.alignment_penalty(net, z, k=1, iterations=2, method="gram")


def test_half_precision_is_as_near_as_where_all_is_pushed(count_known, monkeypatch):
    torch.manual_seed(0)
    net, z = images(), draw_codes(4, 3, dtype=torch.float32).requires_grad_()
    exact = gradient(net.double(), z.detach().double().requires_grad_(), "autograd")
    net, errors = net.float(), []
    monkeypatch.setattr(_kept, "_WORTH_IN_HALF", 2)  # the net is too small to be worth it
    for budget in (2**28, 0):
        monkeypatch.setattr(_gram, "budget_of", lambda _, b=budget: Budget(256, b))
        found = gradient(net, z, tolerance=0, compute_dtype=torch.bfloat16)
        errors.append((found.double() - exact).norm() / exact.norm())
    assert count_known == [3, 0]
    assert errors[0] <= 1.5 * errors[1] <= 0.1


def test_a_frozen_weight_has_no_gradient(count_known):
    net, z = images(), draw_codes(4, 3, dtype=torch.float32)
    net[3].weight.requires_grad_(False)
    pydisent.alignment_penalty(net, z, k=2, iterations=2, method="gram").backward()
    assert net[3].weight.grad is None
    assert net[0].weight.grad.any()
    assert count_known == [3]
