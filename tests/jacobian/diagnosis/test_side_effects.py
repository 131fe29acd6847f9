"""``doctor`` leaves buffers and weights as one call of the function does."""

import copy

import pytest
import torch
from _diagnosed import draw
from torch import nn

from pydisent import doctor


def test_buffers_are_left_as_by_one_call_and_weights_as_they_are():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.SiLU())
    twin = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.SiLU())
    twin.load_state_dict(net.state_dict())
    z = draw(5, 4)
    twin(z)
    found = doctor(net, z)
    for name, value in twin.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name
    (batch,) = (row for row in found.rows if row.operation == "batch_norm")
    assert batch.means == "batch statistics held constant"
    assert batch.corrected is None or all(v.outcome == "right" for v in batch.corrected.values())
    assert all(parameter.grad is None for parameter in net.parameters())


class Averaging(nn.Module):
    """Its buffers change in every way that those of published models do."""

    def __init__(self):
        super().__init__()
        self.enter = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6))
        self.batch, self.instance = (
            nn.BatchNorm1d(6),
            nn.InstanceNorm1d(2, track_running_stats=True),
        )
        for name in ("written", "replaced", "behind"):
            self.register_buffer(name, torch.zeros(6))
        self.behind_too = self.behind  # one tensor of two names

    def forward(self, z):
        h = self.enter(z)
        now = h.detach().mean(0)
        self.written.lerp_(now, 0.1)
        self.replaced = 0.9 * self.replaced + 0.1 * now
        self.behind.data.mul_(0.9).add_(now)
        self.behind.copy_(self.behind * 0.5)
        return torch.sin(self.instance(self.batch(h).view(-1, 2, 3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("wrapped", [False, True])
def test_buffers_of_any_kind_are_left_as_by_one_call(dtype, wrapped):
    torch.manual_seed(0)
    net = Averaging().to(dtype)
    twin = copy.deepcopy(net)
    z = draw(5, 4, dtype=dtype)
    twin(z)
    held = {name: buffer for name, buffer in net.named_buffers() if name != "replaced"}
    doctor(net.forward if wrapped else net, z)
    torch.testing.assert_close(net.state_dict(), twin.state_dict(), rtol=0, atol=0)
    assert all(buffer is held[name] for name, buffer in net.named_buffers() if name in held)


def test_statistics_of_a_module_that_a_function_hides():
    norm = nn.BatchNorm1d(4).double()
    z = draw(5, 4, dtype=torch.float64)
    doctor(lambda z: torch.sin(norm(z)), z)
    torch.testing.assert_close(norm.running_mean, 0.1 * z.mean(0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * z.var(0))
