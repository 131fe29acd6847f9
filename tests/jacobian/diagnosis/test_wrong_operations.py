"""``doctor`` finds the operations whose derivatives are wrong."""

import torch
from _diagnosed import as_measured, draw, outcomes
from torch import nn

from pydisent import correct_derivatives, doctor

SECOND_FORWARD = {"reverse_over_forward", "forward_over_forward", "vmapped_forward"}


class Norms(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.enter = nn.Linear(4, 12)
        self.layer = nn.LayerNorm(12)
        self.group = nn.GroupNorm(2, 4)
        self.instance = nn.InstanceNorm1d(4, affine=True)

    def forward(self, z):
        h = torch.tanh(self.layer(self.enter(z)))
        return self.instance(self.group(h.unflatten(1, (4, 3))))


@as_measured
def test_layer_and_instance_norm_are_wrong_and_group_norm_is_right():
    found = doctor(Norms(), draw(3, 4))
    assert [row.operation for row in found.wrong] == [
        "layer_norm",
        "instance_norm",
        "Norms as a whole",
    ]
    for row in found.wrong:
        assert set(row.wrong) == SECOND_FORWARD | {"penalty", "third"}
        assert all(v.outcome == "right" for v in row.corrected.values())
        assert row.engine.outcome == "right"
    layer, instance, _ = found.wrong
    assert layer.reports == ("pytorch#175754", "pytorch#196700")
    assert instance.reports == ("pytorch#186256", "pytorch#196699")
    assert layer.place.startswith("layer (LayerNorm), test_wrong_operations.py:")
    assert layer.shapes == "3×12, 12, 12"
    assert layer.remedy == "own rule; corrected"
    names = ["linear", "layer_norm", "tanh", "unflatten", "group_norm", "instance_norm"]
    assert [row.operation for row in found.rows] == names
    assert outcomes(found, "group_norm") == {"right"}


def test_nothing_is_wrong_once_corrected():
    with correct_derivatives():
        found = doctor(Norms(), draw(3, 4))
    assert found.wrong == []
    assert {o for row in found.table() for o in outcomes(found, row.operation)} == {"right"}
    assert "nothing is silently wrong" in str(found)


class WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, cotangent):
        return 2.9 * ctx.saved_tensors[0] ** 2 * cotangent


class RightBackward(WrongBackward):
    @staticmethod
    def backward(ctx, cotangent):
        return 3 * ctx.saved_tensors[0] ** 2 * cotangent


def test_a_custom_function_with_a_wrong_backward_is_found():
    def fn(z):
        z = RightBackward.apply(torch.sin(z))
        return WrongBackward.apply(z)

    found = doctor(fn, draw(2, 3))
    assert [row.operation for row in found.rows] == ["sin", "RightBackward", "WrongBackward"]
    right, wrong = found.rows[1:]
    assert not right.wrong
    assert right.means == "reverse mode twice"
    assert right.engine.outcome == "right"
    assert 1e-3 < wrong.native["reverse"].error < 1
    assert {"reverse", "double_backward", "penalty", "third"} <= set(wrong.wrong)
    assert "return WrongBackward.apply(z)" in wrong.place
    assert found.model.wrong


@as_measured
def test_a_value_that_is_written_by_itself():
    """PyTorch's forward mode of h.mul_(h) reads the tangent that it has overwritten."""

    def fn(z):
        h = torch.sin(z)
        h.mul_(h)
        return h

    (row,) = doctor(fn, draw(2, 3), whole=False).wrong
    assert row.operation == "mul_"
    assert "forward" in row.wrong
    assert row.shapes == "2×3, 2×3"


def test_wrong_at_one_point_alone():
    """As PyTorch's sinc has no second derivative at 0, where there is one."""

    class Sinc(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.sin(x)

        @staticmethod
        def backward(ctx, cotangent):
            (x,) = ctx.saved_tensors
            return torch.where(x == 0, 0.0, x.cos()) * cotangent

    assert doctor(Sinc.apply, torch.zeros(2, 3), whole=False).wrong
    assert not doctor(Sinc.apply, torch.ones(2, 3), whole=False).wrong


@as_measured
def test_a_scripted_norm_is_found_in_the_whole():
    norm = torch.jit.script(nn.LayerNorm(4).double())
    found = doctor(lambda z: torch.tanh(norm(z)), draw(3, 4, dtype=torch.float64))
    assert not any(row.wrong for row in found.rows)
    assert set(found.model.wrong) >= {"penalty", "third"}
    assert found.model.engine.outcome == "raises"  # refused
    assert found.model.remedy.startswith("refused; ")
