import copy
import pickle

import pytest
import torch
from torch import nn

from pydisent.systems._rmsprop import RMSprop, _is_plain

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
