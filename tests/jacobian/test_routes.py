"""Which route to the penalty is taken, and what a machine's constants are."""

import pytest
import torch
from _functions import ROUTES, Doubled, draw_codes, exact_penalty
from torch import nn

import pydisent
from pydisent.jacobian import cost
from pydisent.jacobian.alignment import routes
from pydisent.jacobian.cost import Machine


@pytest.mark.parametrize(
    ("machine", "size", "way"),
    [
        (Machine(step=1, reversed_step=1, product=0, number=0), 4, "unrolled"),
        (Machine(step=0, reversed_step=0, product=1, number=1), 4, "gram_route"),
        (Machine(step=0, reversed_step=0, product=1, number=1), 64, "matrix_free_route"),
    ],
)
def test_auto_goes_the_way_that_costs_least(machine, size, way, monkeypatch):
    first, last = nn.Linear(size, 4).double(), nn.Linear(4, 5).double()
    gone = []
    monkeypatch.setattr(routes, "machine", lambda device: machine)
    for name in ("unrolled", "gram_route", "matrix_free_route"):
        real = getattr(routes, name)
        monkeypatch.setattr(
            routes, name, lambda *args, n=name, r=real: (gone.append(n), r(*args))[1]
        )
    fn = nn.Sequential(first, nn.Tanh(), last)
    pydisent.alignment_penalty(fn, draw_codes(3, size), k=1, iterations=2).backward()
    assert gone == [way]


def test_a_machine_is_measured_once_and_keeps_its_choices(monkeypatch, tmp_path):
    """Also from one process to the next; what is damaged is measured again."""
    monkeypatch.setenv("PYDISENT_CACHE", str(tmp_path / "cache"))
    measured = []

    def measure(device):
        measured.append(device)
        return Machine(step=len(measured), reversed_step=2, product=3, number=4)

    monkeypatch.setattr(cost, "measure", measure)

    def asked_by_a_new_process():
        cost.load_or_measure.cache_clear()
        return cost.machine(torch.device("cpu"))

    try:
        assert [asked_by_a_new_process().step for _ in range(2)] == [1, 1]
        (file,) = (tmp_path / "cache").iterdir()
        for text in ("", "[]", '{"step": 1}', file.read_text()[:-2]):
            file.write_text(text)
            before = len(measured)
            assert [asked_by_a_new_process().step for _ in range(2)] == [before + 1] * 2
        monkeypatch.setenv("PYDISENT_CACHE", "off")
        assert asked_by_a_new_process().step == len(measured)
    finally:
        cost.load_or_measure.cache_clear()


def test_what_this_machine_takes_is_positive():
    found = cost.measure(torch.device("cpu"))
    assert min(found.step, found.reversed_step, found.product, found.number) > 0


@pytest.mark.parametrize("method", ROUTES)
def test_a_gradient_is_not_differentiated_again(method):
    weight = draw_codes(4, 6).requires_grad_()
    value = exact_penalty(lambda z: (z @ weight).tanh(), draw_codes(), method)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(value, weight, create_graph=True)


@pytest.mark.parametrize("method", ROUTES)
@pytest.mark.parametrize("hidden", [False, True])
def test_a_jacobian_that_is_a_constant_has_a_penalty_with_a_backward(method, hidden):
    z, weight = draw_codes().requires_grad_(), draw_codes(4, 6)
    fn = lambda z: Doubled.apply(z @ weight) if hidden else 2 * (z @ weight)
    exact_penalty(fn, z, method).backward()
    assert z.grad is None or not z.grad.any()
