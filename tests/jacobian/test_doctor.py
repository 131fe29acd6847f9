"""``doctor``: finds what is wrong, and nothing else, and leaves no trace."""

import copy
import json
import os

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pydisent
from pydisent import correct_derivatives, doctor
from pydisent.jacobian.diagnosis import Diagnosis, Verdict, catalogue
from pydisent.jacobian.diagnosis._differences import reference
from pydisent.jacobian.diagnosis._probe import Probes
from pydisent.jacobian.diagnosis._routes import KINDS

MEASURED_ON = "2.13"
SECOND_FORWARD = {"reverse_over_forward", "forward_over_forward", "vmapped_forward"}

as_measured = pytest.mark.skipif(
    not torch.__version__.startswith(MEASURED_ON),
    reason=f"what PyTorch has wrong was measured on torch {MEASURED_ON}",
)


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def outcomes(diagnosis, operation):
    (row,) = (row for row in diagnosis.table() if row.operation == operation)
    return {verdict.outcome for verdict in row.native.values()}


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
    assert layer.place.startswith("layer (LayerNorm), test_doctor.py:")
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
    assert found.remarks == ["operations inside torch.func transforms of fn were not looked into"]
    assert outcomes(found, found.model.operation) == {"right"}


@as_measured
def test_a_scripted_norm_is_found_in_the_whole():
    norm = torch.jit.script(nn.LayerNorm(4).double())
    found = doctor(lambda z: torch.tanh(norm(z)), draw(3, 4, dtype=torch.float64))
    assert not any(row.wrong for row in found.rows)
    assert set(found.model.wrong) >= {"penalty", "third"}
    assert found.model.engine.outcome == "raises"  # refused
    assert found.model.remedy.startswith("refused; ")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((3, torch.ones(2, 3)), "fn must be callable, got int"),
        ((torch.sin, torch.ones(2, 3).long()), "z must be a floating-point tensor"),
        ((torch.sin, torch.full((2, 3), torch.nan)), "z must be finite, got NaN or infinity"),
        ((torch.sin, torch.ones(3)), r"z must have shape \(B, m\)"),
        ((lambda z: torch.ones(2), torch.ones(2, 3)), "fn must depend on z"),
    ],
)
def test_bad_arguments(arguments, named):
    with pytest.raises((TypeError, ValueError), match=named):
        doctor(*arguments)
    with pytest.raises(ValueError, match=r"names must be of layer_norm, .* got norm_layer"):
        catalogue(["norm_layer"])


def test_the_forms_of_a_diagnosis():
    found = catalogue(["linear", "glu", "logcumsumexp"])
    assert isinstance(found, Diagnosis)
    said = json.loads(found.to_json())
    assert [row["operation"] for row in said["rows"]] == ["linear", "glu", "logcumsumexp"]
    assert said["rows"][0]["native"].keys() == Diagnosis.KINDS.keys()
    lines = str(found).splitlines()
    assert lines[0].split()[:2] == ["operation", "calls"]
    assert lines[2].startswith("linear")
    assert sum(found.by_outcome().values()) == 3
    page = found._repr_html_()
    assert page.count("<tr") == 4
    assert "∇‖Jq‖²" in page
    assert str(Verdict("wrong", float("nan"))) == "NaN"
    assert str(Verdict("wrong", 0.123)) == "1.2e-01"


def test_references_are_exact_on_polynomials():
    """D f[v], D²f[v, w] and 3 D³f[v, v, w] + D³f[w, w, w] of x³ y, by hand."""
    x, y = torch.tensor([1.5, -0.5]).double(), torch.tensor([2.0, 0.7]).double()
    (a, b), (c, d) = (draw(2, 2, seed=s, dtype=torch.float64).unbind() for s in (1, 2))
    found = reference(lambda t: t[0] ** 3 * t[1], [x, y], [a, b], [c, d], 3)
    assert found.count == 2
    first = 3 * x**2 * y * a + x**3 * b
    mixed = 6 * x * y * a * c + 3 * x**2 * (a * d + b * c)
    third = 3 * (6 * y * a * a * c + 6 * x * (a * a * d + 2 * a * b * c))
    third = third + 6 * y * c**3 + 18 * x * c * c * d
    torch.testing.assert_close(found.first[0], first, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.mixed, mixed, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found.third, third, rtol=1e-6, atol=1e-6)


def test_each_kind_of_error_is_seen_by_its_route():
    """An operation that is right in value and off by a per cent in one derivative alone."""

    class Off(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x, forward, reverse):
            return torch.sin(x)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(inputs[0])
            ctx.save_for_forward(inputs[0])
            ctx.factors = inputs[1:]

        @staticmethod
        def jvp(ctx, tangent, *_):
            return ctx.factors[0] * tangent * ctx.saved_tensors[0].cos()

        @staticmethod
        def backward(ctx, cotangent):
            return ctx.factors[1] * cotangent * ctx.saved_tensors[0].cos(), None, None

    def wrong(forward, reverse):
        probes = Probes(lambda x: Off.apply(x[0], forward, reverse), [draw(8).double()])
        found = probes.verdicts(KINDS)
        return {name for name, verdict in found.items() if verdict.outcome == "wrong"}

    # torch 2.13 drops what forward mode over a custom jvp reads of its saved tensors.
    assert wrong(1.0, 1.0) <= {"forward_over_forward"}
    assert {"forward", "vmap"} <= wrong(1.01, 1.0)
    assert "reverse" not in wrong(1.01, 1.0)
    assert {"reverse", "vmap", "double_backward", "penalty"} <= wrong(1.0, 1.01)
    assert "forward" not in wrong(1.0, 1.01)


def test_the_catalogue_is_as_committed(bench):
    """Of what is not right all; of what is, each tenth, and all with PYDISENT_WHOLE=1."""
    derivatives = bench("derivatives")
    committed = {r["torch"].partition("+")[0]: r for r in derivatives.committed()}
    version = torch.__version__.partition("+")[0]
    if version not in committed:
        pytest.skip(f"python bench/derivatives.py was not run on torch {version}")
    rows = committed[version]["operations"]
    assert not derivatives.failures(rows)
    off = [name for name, row in rows.items() if set(row["native"].values()) != {"right"}]
    share = 1 if os.environ.get("PYDISENT_WHOLE") == "1" else 10
    chosen = {*off, *list(rows)[::share]}
    found = derivatives.measured(catalogue([name for name in rows if name in chosen]))

    def outcomes(row):
        return {
            part: {
                k: "wrong" if derivatives.is_wrong(told) else told for k, told in row[part].items()
            }
            for part in ("native", "left")
        } | {"engine": row["engine"], "means": row["means"], "reports": row["reports"]}

    for name, row in found.items():
        assert outcomes(row) == outcomes(rows[name]), (
            f"{name}: PyTorch has changed, or pydisent; run python bench/derivatives.py"
        )


def test_failures_are_told(bench):
    derivatives = bench("derivatives")
    good = {"left": {}, "engine": "right"}
    assert derivatives.failures({"sin": good}) == []
    assert len(derivatives.failures({"sin": good | {"left": {"forward": 0.1}}})) == 1
    assert len(derivatives.failures({"sin": good | {"engine": "wrong"}})) == 1


def test_the_package_offers_it():
    assert pydisent.doctor is doctor
    assert {"doctor", "Diagnosis", "correct_derivatives"} <= set(pydisent.__all__)
