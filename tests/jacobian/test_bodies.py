"""Functions of PyTorch's that are written in Python: they are traced through their bodies."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from _functions import assert_right, draw_codes
from torch.overrides import TorchFunctionMode

from pydisent.jacobian import linearize
from pydisent.jacobian._bodies import body_of

WEIGHT = draw_codes(4, 24) / 2
IMAGES = (-1, 2, 4, 3)
TARGET = draw_codes(3, 24)


class Seen(TorchFunctionMode):
    """Notes the names of the calls that it sees."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


def _functions():
    for module in (F, torch.functional):
        for name, function in vars(module).items():
            if inspect.isfunction(function) and body_of(function) is not None:
                yield name, function


def test_a_body_is_the_function_without_its_check():
    found = dict(_functions())
    assert len(found) > 100
    for name, function in found.items():
        body = body_of(function)
        for part in ("__code__", "__defaults__", "__kwdefaults__", "__closure__"):
            assert getattr(body, part) == getattr(function, part), name
        known = function.__globals__.keys() - {"__warningregistry__"}  # made by a warning
        changed = {n for n in known if body.__globals__[n] is not function.__globals__[n]}
        assert changed, name
        assert all(n.startswith("has_torch_function") for n in changed), name


@pytest.mark.parametrize("function", [torch.sin, F.avg_pool2d, torch.Tensor.add, lambda x: x])
def test_other_functions_have_none(function):
    assert body_of(function) is None


def test_a_mode_sees_the_calls_of_the_body():
    x = torch.rand(2, 3, 4, 4)
    with Seen() as whole:
        expected = F.lp_pool2d(x, 2.0, 2)
    with Seen() as parts:
        got = body_of(F.lp_pool2d)(x, 2.0, 2)
    assert "lp_pool2d" in whole.names
    assert "avg_pool2d" in parts.names
    assert "lp_pool2d" not in parts.names
    assert torch.equal(got, expected)


def seeded_gumbel(x):
    torch.manual_seed(3)
    return F.gumbel_softmax(x, tau=0.7)


PROGRAMS = {
    "local_response_norm": lambda x: F.local_response_norm(x.reshape(IMAGES), 3, alpha=0.5),
    "lp_pool2d": lambda x: F.lp_pool2d(x.reshape(IMAGES).exp(), 3.0, 2),
    "gaussian_nll_loss": lambda x: F.gaussian_nll_loss(x, TARGET, x.exp(), reduction="none"),
    "soft_margin_loss": lambda x: F.soft_margin_loss(x, TARGET.sign(), reduction="none"),
    "huber_loss": lambda x: F.huber_loss(x, TARGET, reduction="none"),
    "triplet_margin_loss": lambda x: F.triplet_margin_loss(
        x, TARGET, -x, margin=9.0, reduction="none"
    ).unsqueeze(1),
    "gumbel_softmax": seeded_gumbel,
    "broadcast_tensors": lambda x: torch.broadcast_tensors(x.sin(), TARGET)[0],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_such_functions_is_right(name):
    assert_right(lambda z: PROGRAMS[name](z @ WEIGHT), draw_codes(3, 4))


@pytest.mark.parametrize("name", ["local_response_norm", "lp_pool2d", "gumbel_softmax"])
def test_none_of_its_steps_lacks_a_rule(name):
    linear = linearize(lambda z: PROGRAMS[name](z @ WEIGHT), draw_codes(3, 4))
    assert linear.program.general == []
    assert linear.samples_are_apart
