import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from pydisent.systems._rmsprop import RMSprop, TensorFlowRMSprop, _is_plain

SETTINGS = {"lr": 0.01, "alpha": 0.9, "momentum": 0.8, "eps": 1e-6}


def _network():
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 2), nn.Linear(2, 2)
    return nn.Sequential(*layers).double().to(memory_format=torch.channels_last)


def _train(network, optimizer, steps=10):
    x = torch.arange(64, dtype=torch.double).view(2, 2, 4, 4).sin()
    for _ in range(steps):
        optimizer.zero_grad()
        network[:3](x).square().sum().backward()  # of the last layer there is no gradient
        optimizer.step()


@pytest.mark.parametrize(
    "more",
    [{}, {"momentum": 0.0}, {"weight_decay": 0.1}, {"centered": True}, {"maximize": True}],
    ids=str,
)
def test_steps_and_state_are_those_of_torchs(more):
    (ours, plain), made = (_network(), _network()), []
    for kind, network in ((RMSprop, ours), (torch.optim.RMSprop, plain)):
        made.append(kind(network.parameters(), **SETTINGS | more))
        _train(network, made[-1])
        assert _is_plain(made[0].param_groups[0]) == (not more)
    torch.testing.assert_close(ours.state_dict(), plain.state_dict(), rtol=1e-12, atol=1e-14)
    states = [optimizer.state_dict()["state"] for optimizer in made]
    torch.testing.assert_close(*states, rtol=1e-12, atol=1e-14)


def test_it_goes_on_from_torchs_state_and_from_copies():
    network, plain = _network(), _network()
    before = torch.optim.RMSprop(plain.parameters(), **SETTINGS)
    _train(plain, before)
    network.load_state_dict(plain.state_dict())
    ours = RMSprop(network.parameters(), **SETTINGS)
    ours.load_state_dict(copy.deepcopy(before.state_dict()))
    copied = copy.deepcopy((network, ours))
    pickled = pickle.loads(pickle.dumps((network, ours)))
    _train(plain, before)
    for trained in ((network, ours), copied, pickled):
        _train(*trained)
        torch.testing.assert_close(
            trained[0].state_dict(), plain.state_dict(), rtol=1e-12, atol=1e-14
        )


def test_a_closure_is_called():
    network = _network()
    optimizer, calls = RMSprop(network.parameters(), **SETTINGS), []
    assert optimizer.step(lambda: calls.append(1) or 5) == 5
    assert calls == [1]


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_tensorflows_steps_equal_its_formula(momentum):
    """ms ← ρ ms + (1 − ρ) g² from 1, mom ← μ mom + η g / √(ms + ε), θ ← θ − mom, of each number."""
    rng = np.random.default_rng(0)
    theta = rng.standard_normal((3, 4))
    parameter = nn.Parameter(torch.from_numpy(theta.copy()))
    unused = nn.Parameter(torch.ones(2))
    optimizer = TensorFlowRMSprop([parameter, unused], 0.01, 0.9, 1e-6, momentum)
    square, moment = np.ones_like(theta), np.zeros_like(theta)
    for step in range(6):
        # Gradients of which ε is the larger part, in turn with large ones.
        gradient = rng.standard_normal((3, 4)) * 10.0 ** -(step % 4)
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        square = 0.9 * square + 0.1 * gradient**2
        moment = momentum * moment + 0.01 * gradient / np.sqrt(square + 1e-6)
        theta = theta - moment
        np.testing.assert_allclose(parameter.detach().numpy(), theta, rtol=1e-12, atol=1e-14)
    assert torch.equal(unused.detach(), torch.ones(2))


def test_tensorflows_first_steps_are_smaller():
    """√(0.9 + 0.1 g²) against √(0.1 g²): the ratio for g = 1 and for g = 1e-3."""
    moved = {}
    for kind in (TensorFlowRMSprop, RMSprop):
        parameter = nn.Parameter(torch.zeros(2, dtype=torch.double))
        optimizer = kind([parameter], lr=1e-4, alpha=0.9, eps=1e-6)
        parameter.grad = torch.tensor([1.0, 1e-3], dtype=torch.double)
        optimizer.step()
        moved[kind] = -parameter.detach()
    expected = [(0.9 + 0.1) ** 0.5 / 0.1**0.5, (0.9 + 1e-7) ** 0.5 / 1e-7**0.5]
    ratio = (moved[RMSprop] / moved[TensorFlowRMSprop]).tolist()
    assert ratio == pytest.approx(expected, rel=0.01)


def test_tensorflows_goes_on_from_its_state_and_from_copies():
    network = _network()
    optimizer = TensorFlowRMSprop(network.parameters(), 0.01, 0.9, 1e-6, 0.8)
    _train(network, optimizer, 4)
    other = _network()
    other.load_state_dict(network.state_dict())
    restored = TensorFlowRMSprop(other.parameters(), 0.01, 0.9, 1e-6, 0.8)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    resumed = [(other, restored), copy.deepcopy((network, optimizer))]
    _train(network, optimizer, 4)
    for trained in resumed:
        _train(*trained, 4)
        torch.testing.assert_close(trained[0].state_dict(), network.state_dict(), rtol=0, atol=0)


def test_tensorflows_calls_a_closure():
    network = _network()
    optimizer, calls = TensorFlowRMSprop(network.parameters(), 0.01), []
    assert optimizer.step(lambda: calls.append(torch.is_grad_enabled()) or 5) == 5
    assert calls == [True]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tensorflows_step_in_a_cuda_graph():
    parameter = nn.Parameter(torch.ones(3, device="cuda"))
    plain = nn.Parameter(torch.ones(3, device="cuda"))
    optimizers = [TensorFlowRMSprop([p], 0.01, 0.9, 1e-6, 0.8) for p in (parameter, plain)]
    for p, optimizer in zip((parameter, plain), optimizers):
        optimizer.param_groups[0]["capturable"] = True
        p.grad = torch.full_like(p, 0.3)
        optimizer.step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizers[0].step()
    for _ in range(3):
        graph.replay()
        optimizers[1].step()
    torch.testing.assert_close(parameter, plain)
