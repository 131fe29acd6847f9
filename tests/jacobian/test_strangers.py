"""What people whom nobody here has met will do with the penalty."""

import copy
import os
import pickle
import socket
import warnings

import pytest
import torch
from _architectures import ARCHITECTURES, Cube
from _oracle import unrolled
from torch import nn

import pydisent

METHODS = ["gram", "matrix_free", "autograd"]
ROUTES = ["gram", "matrix_free"]


def _generator(dtype=torch.float64, m=5):
    torch.manual_seed(0)
    layers = [nn.Linear(m, 12), nn.SiLU(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 9)]
    return nn.Sequential(*layers).to(dtype)


def _z(batch=3, m=5, dtype=torch.float64):
    return torch.randn(batch, m, generator=torch.Generator().manual_seed(1)).to(dtype)


def _probe(z, k):
    drawn = torch.randint(0, 2, (*z.shape, k), generator=torch.Generator().manual_seed(2))
    return (drawn * 2 - 1).to(z.dtype)


def _gradients(value, parameters):
    return torch.autograd.grad(value, list(parameters), materialize_grads=True)


def _close(got, expected, bound):
    for a, b in zip(got, expected, strict=True):
        assert (a.double() - b.double()).norm() <= bound * b.double().norm().clamp_min(1e-3)


def _oracle(net, z, k=2, iterations=2):
    return unrolled(net, net.parameters(), z, iterations=iterations, probe=_probe(z, k))


# Ways of running


@pytest.mark.parametrize("method", METHODS)
def test_under_autocast(method):
    net, z = _generator(torch.float32), _z(dtype=torch.float32)
    expected = _oracle(copy.deepcopy(net).double(), z.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = pydisent.alignment_penalty(
            net, z, k=2, iterations=2, probe=_probe(z, 2), method=method, tolerance=0
        )
    assert value.dtype == torch.float32
    gradients = _gradients(value, net.parameters())
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)
    # bfloat16 primals: eight bits of mantissa through five layers.
    assert abs(value.item() - expected.value) <= 0.1
    flat = torch.cat([g.flatten() for g in gradients]).double()
    exact = torch.cat([g.flatten() for g in expected.parameters])
    assert (flat - exact).norm() <= 0.25 * exact.norm()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_generator(backend):
    net, z = _generator(), _z()
    expected = _oracle(net, z)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend=backend)
    value = pydisent.alignment_penalty(
        compiled, z, k=2, iterations=2, probe=_probe(z, 2), tolerance=0
    )
    assert abs(value.item() - expected.value) <= 1e-12
    _close(_gradients(value, net.parameters()), expected.parameters, 1e-10)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_function_with_a_norm_is_right_or_refused(backend):
    sample = ARCHITECTURES["resnet_instance_norm_and_bias"](torch.float64)
    (net,) = sample.modules
    expected = _oracle(net, sample.z)
    torch._dynamo.reset()

    @torch.compile(backend=backend)
    def fn(z):
        return net(z)

    try:
        value = pydisent.alignment_penalty(
            fn, sample.z, k=2, iterations=2, probe=_probe(sample.z, 2), tolerance=0
        )
        gradients = _gradients(value, net.parameters())
    except RuntimeError as error:
        if "norm" not in str(error) and "compile" not in str(error):
            raise
        return
    assert abs(value.item() - expected.value) <= 1e-10
    _close(gradients, expected.parameters, 1e-9)


@pytest.mark.filterwarnings("ignore")
def test_a_scripted_generator_with_a_norm_is_right_or_refused():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 6)).double()
    z = _z()
    expected = _oracle(net, z)
    scripted = torch.jit.script(net)
    for method in METHODS:
        try:
            value = pydisent.alignment_penalty(
                scripted, z, k=2, iterations=2, probe=_probe(z, 2), method=method, tolerance=0
            )
            gradients = _gradients(value, net.parameters())
        except RuntimeError as error:
            if "layer_norm" not in str(error):
                raise
            continue
        assert abs(value.item() - expected.value) <= 1e-10
        _close(gradients, expected.parameters, 1e-9)


@pytest.mark.filterwarnings("ignore")
def test_inside_a_compiled_training_step():
    net, z = _generator(), _z()
    expected = _oracle(net, z)
    probe = _probe(z, 2)
    torch._dynamo.reset()

    @torch.compile(backend="eager")
    def loss(z):
        penalty = pydisent.alignment_penalty(net, z, k=2, iterations=2, probe=probe, tolerance=0)
        return net(z).square().mean() + 0.1 * penalty

    total = loss(z)
    plain = net(z).square().mean()
    assert abs((total - plain).item() - 0.1 * expected.value) <= 1e-12
    _close(_gradients((total - plain) * 10, net.parameters()), expected.parameters, 1e-9)


def test_a_ddp_wrapped_generator():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT")}
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    try:
        net, z = _generator(), _z()
        expected = _oracle(net, z)
        wrapped = nn.parallel.DistributedDataParallel(net)
        for _ in range(2):  # DDP notices in the second turn what the first left unfinished
            net.zero_grad()
            value = pydisent.alignment_penalty(
                wrapped, z, k=2, iterations=2, probe=_probe(z, 2), tolerance=0
            )
            (value + 0 * wrapped(z).sum()).backward()
            assert abs(value.item() - expected.value) <= 1e-12
            _close([p.grad for p in net.parameters()], expected.parameters, 1e-10)
    finally:
        torch.distributed.destroy_process_group()
        for name, old in kept.items():
            os.environ.pop(name) if old is None else os.environ.update({name: old})


def test_the_module_survives_deepcopy_and_pickle():
    penalty = pydisent.AlignmentPenalty(2, 3, reweight=False, method="gram", tolerance=0)
    net, z = _generator(), _z()
    expected = penalty(net, z, probe=_probe(z, 2))
    for copied in (copy.deepcopy(penalty), pickle.loads(pickle.dumps(penalty))):
        assert torch.equal(copied(net, z, probe=_probe(z, 2)), expected)
    assert list(penalty.parameters()) == []
    assert penalty.state_dict() == {}
    assert "k=2" in repr(penalty)


@pytest.mark.parametrize("method", METHODS)
def test_under_no_grad_and_inference_mode_there_is_a_value_and_no_graph(method):
    net, z = _generator(), _z()
    expected = _oracle(net, z)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            value = pydisent.alignment_penalty(
                net, z, k=2, iterations=2, probe=_probe(z, 2), method=method
            )
        assert not value.requires_grad
        assert value.grad_fn is None
        assert abs(value.item() - expected.value) <= 1e-10


# Latent codes and options


@pytest.mark.parametrize("method", METHODS)
def test_z_gets_a_gradient_only_if_it_asks_and_may_be_an_inner_node(method):
    net, z = _generator(), _z()
    options = {"k": 2, "iterations": 2, "probe": _probe(z, 2), "method": method, "tolerance": 0}
    expected = _oracle(net, z)
    value = pydisent.alignment_penalty(net, z, **options)
    value.backward()
    assert z.grad is None
    mapping = nn.Linear(5, 5).double()
    w = _z(m=5) * 0.3
    inner = mapping(w)
    value = pydisent.alignment_penalty(net, inner, **options)
    (got,) = torch.autograd.grad(value, mapping.weight)
    exact = _oracle(net, inner.detach())
    _close([got], [exact.z.T @ w], 1e-10)
    assert expected.value != exact.value


@pytest.mark.parametrize("method", METHODS)
def test_z_need_not_be_contiguous(method):
    net = _generator()
    wide = torch.randn(5, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for z in (wide.t()[::2], wide[:, :3].t(), wide[:1, :5].expand(3, 5)):
        probe = _probe(z, 2)
        options = {"k": 2, "iterations": 2, "probe": probe, "method": method, "tolerance": 0}
        value = pydisent.alignment_penalty(net, z, **options)
        expected = _oracle(net, z.contiguous())
        assert abs(value.item() - expected.value) <= 1e-12
        _close(_gradients(value, net.parameters()), expected.parameters, 1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("k", "iterations"), [(5, 3), (5, 1), (1, 1), (1, 4)])
def test_extreme_k_and_iterations(method, k, iterations):
    net, z = _generator(), _z()
    expected = _oracle(net, z, k, iterations)
    value = pydisent.alignment_penalty(
        net, z, k=k, iterations=iterations, probe=_probe(z, k), method=method, tolerance=0
    )
    assert abs(value.item() - expected.value) <= 1e-12
    _close(_gradients(value, net.parameters()), expected.parameters, 1e-10)


@pytest.mark.parametrize("method", ROUTES)
def test_chunk_changes_only_rounding(method):
    net, z = _generator(), _z()
    options = {"k": 3, "iterations": 3, "probe": _probe(z, 3), "method": method, "tolerance": 0}
    results = []
    for chunk in (None, 1, 2, 10**6):
        value = pydisent.alignment_penalty(net, z, chunk=chunk, **options)
        results.append([value, *_gradients(value, net.parameters())])
    for other in results[1:]:
        _close(other, results[0], 1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_the_default_probe_is_reproducible_random_signs(method):
    net, z = _generator(), _z()
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(pydisent.alignment_penalty(net, z, k=3, iterations=1, method=method).item())
    assert values[0] == values[1]
    assert values[0] != values[2]
    # With one iteration the value takes few values over all signs: try them, m = k = 2, B = 1.
    net, z = _generator(m=2), _z(1, 2)
    signs = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0])]).double()
    possible = set()
    for a, b, c in signs.tolist():
        probe = torch.tensor([[[a, 1.0], [b, c]]], dtype=torch.float64)
        v = pydisent.alignment_penalty(net, z, k=2, iterations=1, probe=probe, method=method)
        possible.add(round(v.item(), 9))
    drawn = {
        round(pydisent.alignment_penalty(net, z, k=2, iterations=1, method=method).item(), 9)
        for _ in range(20)
    }
    assert drawn <= possible


def test_the_probe_may_be_of_another_dtype():
    net, z = _generator(torch.float32), _z(dtype=torch.float32)
    options = {"k": 2, "iterations": 2, "tolerance": 0}
    probe = _probe(z, 2)
    narrow = pydisent.alignment_penalty(net, z, probe=probe, **options)
    wide = pydisent.alignment_penalty(net, z, probe=probe.double(), **options)
    assert abs(narrow.item() - wide.item()) <= 1e-6


# What must stay as it was


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("training", [True, False])
def test_the_generator_is_left_as_one_forward_call_leaves_it(method, training):
    name = "dcgan_batch_norm_training" if training else "dcgan_batch_norm_eval"
    sample = ARCHITECTURES[name](torch.float64)
    (net,) = sample.modules
    net[2].weight.requires_grad_(False)
    net[-2].bias.grad = torch.ones_like(net[-2].bias)
    once = copy.deepcopy(net)
    once(sample.z)
    hooks = [dict(m._forward_hooks) for m in net.modules()]
    weights = {n: p.detach().clone() for n, p in net.named_parameters()}
    flags = [p.requires_grad for p in net.parameters()]
    grads = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    modes = [m.training for m in net.modules()]
    value = pydisent.alignment_penalty(net, sample.z, k=2, iterations=2, method=method)
    assert modes == [m.training for m in net.modules()]
    assert flags == [p.requires_grad for p in net.parameters()]
    assert hooks == [dict(m._forward_hooks) for m in net.modules()]
    for p, old in zip(net.parameters(), grads, strict=True):
        assert (p.grad is None and old is None) or torch.equal(p.grad, old)
    for n, p in net.named_parameters():
        assert torch.equal(p, weights[n])
    assert not sample.z.requires_grad
    assert sample.z.grad is None
    assert value.requires_grad
    for (n, buffer), other in zip(net.named_buffers(), once.buffers(), strict=True):
        torch.testing.assert_close(buffer, other, msg=f"{n} under {method}")


@pytest.mark.parametrize("method", METHODS)
def test_random_numbers_are_consumed_as_by_one_call_and_one_probe(method):
    sample = ARCHITECTURES["dropout_in_training_mode"](torch.float64)
    torch.manual_seed(3)
    pydisent.alignment_penalty(
        sample.fn, sample.z, k=2, iterations=2, method=method, probe=_probe(sample.z, 2)
    ).backward()
    after = torch.get_rng_state()
    torch.manual_seed(3)
    sample.fn(sample.z)
    assert torch.equal(after, torch.get_rng_state())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("whole", [False, True], ids=["traced", "whole"])
@pytest.mark.filterwarnings("ignore:.*cannot be traced.*")
def test_backward_twice_through_the_penalty_is_right_or_an_error(method, whole):
    net, z = _generator(), _z().requires_grad_()
    last = Cube.apply if whole else torch.sin
    value = pydisent.alignment_penalty(
        lambda z: last(net(z)), z, k=2, iterations=2, probe=_probe(z, 2), method=method, tolerance=0
    )
    weight = net[0].weight
    try:
        (gradient,) = torch.autograd.grad(value, weight, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), weight)
    except RuntimeError:
        assert method != "autograd"
        return

    def norm(step):
        moved = copy.deepcopy(net)
        with torch.no_grad():
            moved[0].weight.add_(step * direction)
        answer = unrolled(
            lambda z: last(moved(z)), moved.parameters(), z, iterations=2, probe=_probe(z, 2)
        )
        return answer.parameters[0].square().sum()

    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(4)).double()
    slope = (norm(1e-5) - norm(-1e-5)) / 2e-5
    assert abs((second * direction).sum() - slope) <= 1e-5 * slope.abs()


def test_retained_graph_can_be_walked_again_and_gradients_accumulate():
    net, z = _generator(), _z()
    for method in METHODS:
        value = pydisent.alignment_penalty(
            net, z, k=2, iterations=2, probe=_probe(z, 2), method=method
        )
        net.zero_grad()
        value.backward(retain_graph=True)
        once = [p.grad.clone() for p in net.parameters() if p.grad is not None]
        value.backward()
        twice = [p.grad for p in net.parameters() if p.grad is not None]
        _close(twice, [2 * g for g in once], 1e-12)


def test_scaling_the_loss_scales_the_gradient():
    net, z = _generator(), _z()
    for method in METHODS:
        value = pydisent.alignment_penalty(
            net, z, k=2, iterations=2, probe=_probe(z, 2), method=method, tolerance=0
        )
        scaled = _gradients(-3.5 * value + 2 * net(z).sum() * 0, net.parameters())
        _close(scaled, [-3.5 * g for g in _oracle(net, z).parameters], 1e-10)


# Errors

_BAD = [
    ("k", {"k": 6}),
    ("k", {"k": 0}),
    ("k", {"k": 2.0}),
    ("k", {"k": True}),
    ("iterations", {"iterations": 0}),
    ("iterations", {"iterations": 1.5}),
    ("tolerance", {"tolerance": 1.0}),
    ("tolerance", {"tolerance": -0.1}),
    ("tolerance", {"tolerance": float("nan")}),
    ("method", {"method": "magic"}),
    ("probe", {"probe": torch.ones(3, 5, 3)}),
    ("probe", {"probe": torch.ones(5, 2)}),
    ("probe", {"probe": [1.0]}),
    ("chunk", {"chunk": 0}),
    ("compute_dtype", {"compute_dtype": torch.int8}),
]


@pytest.mark.parametrize(("name", "given"), _BAD, ids=[f"{n}-{i}" for i, (n, _) in enumerate(_BAD)])
def test_bad_options_are_named(name, given):
    called = []

    def fn(z):
        called.append(1)
        return z

    with pytest.raises((ValueError, TypeError), match=name):
        pydisent.alignment_penalty(fn, _z(), **{"k": 2, "iterations": 2, **given})
    assert not called, "an error must come before any work"


@pytest.mark.parametrize(
    "z",
    [
        torch.zeros(0, 5),
        torch.zeros(3, 0),
        torch.ones(3, 5, dtype=torch.long),
        torch.ones(3, 5, dtype=torch.complex64),
        torch.ones(5),
        torch.ones(3, 5, 0),
        [[0.0] * 5],
    ],
    ids=["empty batch", "empty code", "integer", "complex", "1-d", "3-d and empty", "list"],
)
def test_bad_latent_codes_are_named(z):
    with pytest.raises((ValueError, TypeError), match=r"\bz\b"):
        pydisent.alignment_penalty(lambda z: z, z, k=1, iterations=1)
    with pytest.raises((ValueError, TypeError), match=r"\bz\b"):
        pydisent.linearize(lambda z: z, z)


_BAD_FUNCTIONS = {
    "nan": lambda z: z * float("nan"),
    "inf": lambda z: z / 0.0,
    "constant": lambda z: torch.ones(len(z), 3),
    "detached": lambda z: z.detach() * 2,
    "no batch": lambda z: z.sum(0),
    "scalar": lambda z: z.sum(),
    "integer": lambda z: z.long(),
    "none": lambda z: None,
    "numpy": lambda z: z.detach().numpy(),
    "empty list": lambda z: [],
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", _BAD_FUNCTIONS)
@pytest.mark.filterwarnings("ignore:.*cannot be traced.*")
def test_bad_functions_are_named(kind, method):
    with pytest.raises((ValueError, TypeError), match="fn"):
        pydisent.alignment_penalty(_BAD_FUNCTIONS[kind], _z(), k=2, iterations=2, method=method)


def test_fn_must_be_callable():
    with pytest.raises(TypeError, match="fn"):
        pydisent.alignment_penalty(torch.ones(3, 3), _z(), k=2, iterations=2)


def test_an_error_of_the_function_itself_comes_through():
    def fn(z):
        raise KeyError("theirs")

    for method in METHODS:
        with pytest.raises(KeyError, match="theirs"):
            pydisent.alignment_penalty(fn, _z(), k=2, iterations=2, method=method)


def test_what_torch_functions_do_not_show_is_announced_once_a_function_at_the_callers_line():
    layer = nn.Linear(5, 4).double()

    def about(fn):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                pydisent.alignment_penalty(fn, _z(), k=2, iterations=2, method="gram")
        return [w for w in caught if "cannot be traced" in str(w.message)]

    def inside(z):
        return torch.func.jvp(lambda x: torch.sin(layer(x)), (z,), (torch.ones_like(z),))[1]

    for fn in (inside, lambda z: inside(z), lambda z: 2 * inside(z)):
        (warning,) = about(fn)
        assert fn.__qualname__ in str(warning.message)
        assert warning.filename == __file__
    assert not about(lambda z: Cube.apply(layer(z)))  # one operation, by its own backward


@pytest.mark.parametrize("method", METHODS)
def test_a_functional_transform_around_the_penalty_is_refused_in_words(method):
    net, z = _generator(), _z()

    def loss(z):
        return pydisent.alignment_penalty(net, z, k=2, iterations=2, method=method)

    with pytest.raises(RuntimeError, match=r"torch\.func transform"):
        torch.func.grad(loss)(z)
    with pytest.raises(RuntimeError, match=r"torch\.func transform"):
        torch.vmap(loss, randomness="same")(z.expand(2, -1, -1))


def test_real_values_times_complex_constants():
    torch.manual_seed(0)
    net = torch.nn.Linear(5, 4).double()
    phase = torch.randn(4, dtype=torch.complex128)

    def fn(z):
        turned = (net(z) * phase) * 1j + (net(z) * 2j).sin()
        return torch.cat([turned.real, turned.imag], 1)

    z = torch.randn(3, 5, dtype=torch.float64)
    expected = torch.stack([torch.func.jacrev(lambda x: fn(x[None])[0])(x) for x in z])
    torch.testing.assert_close(pydisent.linearize(fn, z).jacobian(), expected.detach())
