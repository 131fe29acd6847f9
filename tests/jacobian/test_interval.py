"""The penalty in some calls, or for some codes, alone; and what torch.compile makes of it."""

import copy

import pytest
import torch
from _small_generator import assert_near, draw_codes, draw_signs, gradients_of, small_generator
from torch import nn

from pydisent import AlignmentPenalty, alignment_penalty

K, STEPS = 2, 3


def _values(penalty, net, z, calls):
    """The values of some calls, each with its gradient in one vector."""
    found = []
    for _ in range(calls):
        value = penalty(net, z, probe=draw_signs(z, K))
        found.append([value.detach()])
        if value.requires_grad:
            found[-1] += gradients_of(value, net.parameters())
    return found


def test_calls_between_are_zero_and_the_others_make_up_for_them():
    net, z, called = small_generator(), draw_codes(), []
    net.register_forward_hook(lambda *_: called.append(True))
    (plain,) = _values(AlignmentPenalty(K, STEPS), net, z, 1)
    called.clear()
    found = _values(AlignmentPenalty(K, STEPS, interval=3), net, z, 7)
    assert len(called) == 3
    for number, (value, *gradients) in enumerate(found):
        if number % 3:
            assert value == 0
            assert not any(g.any() for g in gradients)
        else:
            assert_near([value, *gradients], [3 * x for x in plain], 1e-12)


@pytest.mark.parametrize("done", [0, 1, 2, 4])
def test_a_resumed_module_goes_on_in_step(done):
    net, z = small_generator(), draw_codes()
    whole = nn.Sequential(AlignmentPenalty(K, STEPS, interval=3))
    expected = _values(whole[0], net, z, done + 4)[done:]
    begun, resumed = copy.deepcopy(whole), copy.deepcopy(whole)
    begun[0].calls = 0
    _values(begun[0], net, z, done)
    resumed.load_state_dict(begun.state_dict())
    got = _values(resumed[0], net, z, 4)
    assert all(len(a) == len(b) and all(map(torch.equal, a, b)) for a, b in zip(got, expected))


def test_without_an_interval_there_is_no_state():
    assert not AlignmentPenalty(K, STEPS).state_dict()


def test_in_eval_mode_each_call_is_the_penalty_and_not_counted():
    net, z = small_generator(), draw_codes()
    penalty = AlignmentPenalty(K, STEPS, interval=3).eval()
    plain = alignment_penalty(net, z, k=K, iterations=STEPS, probe=draw_signs(z, K))
    for value, *_ in _values(penalty, net, z, 2):
        assert value == plain
    assert penalty.calls == 0


def test_a_part_of_the_batch_is_its_first_codes():
    net, z = small_generator(), draw_codes(4)
    for size, first in ((2, 2), (9, 4)):
        got = _values(AlignmentPenalty(K, STEPS, sub_batch=size), net, z[:first], 1)
        part = _values(AlignmentPenalty(K, STEPS), net, z[:first], 1)
        assert all(map(torch.equal, got[0], part[0]))
    torch.manual_seed(0)
    drawn = AlignmentPenalty(K, STEPS, sub_batch=2)(net, z)
    torch.manual_seed(0)
    assert drawn == AlignmentPenalty(K, STEPS)(net, z[:2])


@pytest.mark.parametrize("name", ["interval", "sub_batch"])
def test_they_are_integers_from_one(name):
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1, got 0"):
        AlignmentPenalty(K, STEPS, **{name: 0})


def test_a_captured_graph_has_no_interval(monkeypatch):
    monkeypatch.setattr("pydisent.jacobian.alignment.penalty.is_capturing", lambda: True)
    with pytest.raises(ValueError, match=r"interval must be 1 while a CUDA graph .*, got 3"):
        AlignmentPenalty(K, STEPS, interval=3)(small_generator(), draw_codes())


def test_compile_says_what_it_cannot_do():
    net, z = small_generator(), draw_codes()
    module = AlignmentPenalty(K, STEPS)
    for penalty in (module, lambda *args: alignment_penalty(*args, k=K, iterations=STEPS)):
        step = torch.compile(
            lambda z, penalty=penalty: net(z).sum() + penalty(net, z),
            fullgraph=True, backend="eager",
        )  # fmt: skip
        words = r"torch\.compile cannot trace .* leave out fullgraph=True"
        with pytest.raises(torch._dynamo.exc.Unsupported, match=words):
            step(z)
