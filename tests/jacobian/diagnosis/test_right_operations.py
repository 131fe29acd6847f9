"""``doctor`` calls nothing wrong that is right, whatever the program."""

import pytest
import torch
import torch.nn.functional as F
from _diagnosed import draw, outcomes
from torch import nn

from pydisent import doctor


def test_kinks_are_not_wrong():
    kinks = doctor(lambda z: torch.relu(z) + z.abs(), torch.zeros(2, 3))
    assert outcomes(kinks, "relu") == {"not differentiable here"}
    assert outcomes(kinks, "abs") == {"not differentiable here"}
    assert not kinks.wrong
    one = torch.ones(2, 3)
    one[0, 0] = 0.0  # one output of six
    for fn in (torch.relu, lambda z: F.hardtanh(z * 0.5) + z.clamp_min(0) ** 2):
        found = doctor(fn, one)
        assert not found.wrong
        assert outcomes(found, found.rows[0].operation) == {"right"}


@pytest.mark.parametrize("seed", range(4))
def test_piecewise_functions_are_right_at_random_points(seed):
    def fn(z):
        h = F.max_pool1d(F.leaky_relu(z.unsqueeze(1)), 2) + torch.round(z[:, None, ::2])
        values, _ = torch.sort(F.hardtanh(h, -0.5, 0.5), dim=-1)
        return values + torch.remainder(h, 0.7) + torch.where(h > 0, h * h, -h)

    found = doctor(fn, draw(40, 16, seed=seed))
    assert not found.wrong, str(found)
    assert not any(row.raises for row in found.rows)
    assert outcomes(found, "max_pool1d") == outcomes(found, "round") == {"right"}


def test_writes_views_tuples_integers_complex_numbers_and_draws():
    index = torch.tensor([2, 0, 1])

    def fn(z, scale, *, shift):
        h = F.dropout(z * scale, 0.4) + shift
        h[:, 0] = h[:, 1] * 2
        h.mul_(2.0)
        first, second = h.chunk(2, 1)
        best, _ = torch.max(torch.cat([first, second], 1), 1)
        spectrum = torch.fft.rfft(h.T[index].T)
        spectrum = spectrum * spectrum.conj()
        noisy = first + torch.rand_like(first)
        return [spectrum.abs(), best[:, None], noisy, second.mT.reshape(len(z), -1)]

    z = draw(3, 6)
    state = torch.random.get_rng_state()
    found = doctor(fn, z, 1.5, fn_kwargs={"shift": 0.1})
    after = torch.random.get_rng_state()
    assert not found.wrong, str(found)
    assert not any(row.raises for row in found.rows), str(found)
    names = {row.operation for row in found.rows}
    assert {"dropout", "__setitem__", "mul_", "chunk", "max", "rfft", "mT"} <= names
    assert all(v.outcome == "right" for v in found.model.native.values())
    torch.random.set_rng_state(state)  # it has drawn what one call draws
    fn(z, 1.5, shift=0.1)
    assert torch.equal(after, torch.random.get_rng_state())


def test_a_compiled_module_is_measured_uncompiled():
    net = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.SiLU())
    compiled = []

    def backend(graph, examples):
        compiled.append(graph)
        return graph.forward

    found = doctor(torch.compile(net, backend=backend), draw(2, 4))
    assert [row.operation for row in found.rows] == ["linear", "layer_norm", "silu"]
    assert not compiled


def test_half_precision_models_and_equal_calls():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh()).to(torch.bfloat16)
    found = doctor(net, draw(2, 4, dtype=torch.bfloat16))
    assert [(row.operation, row.count) for row in found.rows] == [("linear", 2), ("tanh", 2)]
    assert not found.wrong
    assert outcomes(found, "Sequential as a whole") == {"right"}


def test_what_computes_in_float32_is_not_measured():
    def fn(z):
        return torch.asinh(torch.ops.aten._to_copy(z, dtype=torch.float32).sin())

    class InSingle(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.float().sin()

        @staticmethod
        def backward(ctx, cotangent):
            return cotangent

    assert not doctor(fn, draw(2, 3)).wrong
    found = doctor(InSingle.apply, draw(2, 3), whole=False)
    assert found.model is None
    verdict = found.rows[0].native["reverse"]
    assert verdict.outcome == "not measured"
    assert "computes in torch.float32 whatever it is given" in verdict.message


def test_what_a_transform_hides_is_told():
    def fn(z):
        return torch.func.vmap(torch.sin)(z) + z

    found = doctor(fn, draw(2, 3))
    assert found.remarks == ["operations inside torch.func transforms of fn were not examined"]
    assert outcomes(found, found.model.operation) == {"right"}
