"""Random programs (``_programs.py``): second derivatives right, or refused in words."""

import random

import pytest
import torch
from _judge import WRONG
from _judge_second import Curve, verdict
from _probe import central_difference
from _programs import KINDS, assembled
from torch import nn

import pydisent

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*cannot be traced.*", "ignore:Converting a tensor with requires_grad"
)


def drawn(seed):
    choose = random.Random(seed)
    count = choose.randrange(2, 8)
    choices = [
        (choose.choice(KINDS), choose.randrange(4), choose.randrange(4)) for _ in range(count)
    ]
    return assembled(choices, seed)


@pytest.mark.in_turn
@pytest.mark.parametrize("block", range(12))
def test_random_programs(block):
    for seed in range(10 * block, 10 * block + 10):
        program = drawn(seed)
        outcome = verdict(program.build(), program.definition, broken=program.broken)
        assert not outcome.startswith(WRONG), f"{outcome}\n{program!r}"


@pytest.mark.in_turn
@pytest.mark.parametrize("block", range(24))
def test_steps_alone(block):
    for kind in KINDS[block::96]:
        program = assembled([(kind, 0, 0)], 0)
        outcome = verdict(program.build(), program.definition, broken=program.broken)
        assert not outcome.startswith(WRONG), f"{outcome}\n{program!r}"


def test_a_wrong_second_derivative_is_seen(monkeypatch):
    program = assembled([("sin", 0, 0)], 0)
    right = pydisent.second_directional_derivative
    assert verdict(program.build(), program.definition) == "right"

    def bent(*args):
        value, first, second = right(*args)
        return value, first, 1.001 * second

    monkeypatch.setattr(pydisent, "second_directional_derivative", bent)
    assert "v'H v is off by 1.0e-03" in verdict(program.build(), program.definition)


@pytest.mark.parametrize("vectorized", [False, True])
def test_tangents_that_depend_on_a_hidden_operations_input(vectorized):
    """As they do where that is a quotient: the second derivative must not go through them."""
    torch.manual_seed(0)
    layer, weight = nn.Linear(6, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    if vectorized:
        hidden = lambda x: torch.vmap(lambda row: row.sin() * row.exp())(x)
    else:
        layer.register_full_backward_hook(lambda module, to_input, to_output: None)
        hidden = layer

    def fn(z):
        h = z @ weight
        return hidden(h / (1.5 + h**2)).tanh()

    z, v = torch.randn(2, 3, 4, dtype=torch.float64).unbind(0)

    def along(t):
        with torch.no_grad():
            return pydisent.directional_derivative(fn, z + t * v, v)[1]

    _, _, second = pydisent.second_directional_derivative(fn, z, v[None])
    torch.testing.assert_close(second[0], central_difference(along, 1e-3), rtol=1e-7, atol=1e-9)


def test_the_judge_measures_what_it_says():
    curve = Curve({"fn": lambda z: torch.stack([z[:, 0] ** 2 * z[:, 1], z[:, 1].exp()], 1),
                   "z": torch.tensor([[2.0, 1.0]], dtype=torch.float64)})  # fmt: skip
    for v, bent in zip(curve.probe[0].mT, curve.bent(3e-3)):
        expected = torch.stack([2 * v[0] ** 2 + 8 * v[0] * v[1], v[1] ** 2 * torch.e])
        torch.testing.assert_close(bent[0], expected, rtol=1e-6, atol=1e-6)
