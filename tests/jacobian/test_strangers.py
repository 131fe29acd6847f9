"""What people whom nobody here has met will do with the penalty."""

import copy
import os
import pickle
import socket
import threading
import warnings

import pytest
import torch
from _architectures import ARCHITECTURES, Cube
from _oracle import unrolled
from _small_generator import (
    METHODS,
    assert_near,
    by_unrolling,
    draw_codes,
    draw_signs,
    gradients_of,
    small_generator,
)
from torch import nn

import pydisent

# Ways of running


@pytest.mark.parametrize("method", METHODS)
def test_under_autocast(method):
    net, z = small_generator(torch.float32), draw_codes(dtype=torch.float32)
    expected = by_unrolling(copy.deepcopy(net).double(), z.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = pydisent.alignment_penalty(
            net, z, k=2, iterations=2, probe=draw_signs(z, 2), method=method, tolerance=0
        )
    assert value.dtype == torch.float32
    gradients = gradients_of(value, net.parameters())
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)
    # bfloat16 primals: eight bits of mantissa through five layers.
    assert abs(value.item() - expected.value) <= 0.1
    flat = torch.cat([g.flatten() for g in gradients]).double()
    exact = torch.cat([g.flatten() for g in expected.parameters])
    assert (flat - exact).norm() <= 0.25 * exact.norm()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_generator(backend):
    net, z = small_generator(), draw_codes()
    expected = by_unrolling(net, z)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend=backend)
    value = pydisent.alignment_penalty(
        compiled, z, k=2, iterations=2, probe=draw_signs(z, 2), tolerance=0
    )
    assert abs(value.item() - expected.value) <= 1e-12
    assert_near(gradients_of(value, net.parameters()), expected.parameters, 1e-10)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_function_with_a_norm_is_right_or_refused(backend):
    sample = ARCHITECTURES["resnet_instance_norm_and_bias"](torch.float64)
    (net,) = sample.modules
    expected = by_unrolling(net, sample.z)
    torch._dynamo.reset()

    @torch.compile(backend=backend)
    def fn(z):
        return net(z)

    try:
        value = pydisent.alignment_penalty(
            fn, sample.z, k=2, iterations=2, probe=draw_signs(sample.z, 2), tolerance=0
        )
        gradients = gradients_of(value, net.parameters())
    except RuntimeError as error:
        if "norm" not in str(error) and "compile" not in str(error):
            raise
        return
    assert abs(value.item() - expected.value) <= 1e-10
    assert_near(gradients, expected.parameters, 1e-9)


@pytest.mark.filterwarnings("ignore")
def test_a_scripted_generator_with_a_norm_is_right_or_refused():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 6)).double()
    z = draw_codes()
    expected = by_unrolling(net, z)
    scripted = torch.jit.script(net)
    for method in METHODS:
        try:
            value = pydisent.alignment_penalty(
                scripted, z, k=2, iterations=2, probe=draw_signs(z, 2), method=method, tolerance=0
            )
            gradients = gradients_of(value, net.parameters())
        except RuntimeError as error:
            if "layer_norm" not in str(error):
                raise
            continue
        assert abs(value.item() - expected.value) <= 1e-10
        assert_near(gradients, expected.parameters, 1e-9)


@pytest.mark.filterwarnings("ignore")
def test_inside_a_compiled_training_step():
    net, z = small_generator(), draw_codes()
    expected = by_unrolling(net, z)
    probe = draw_signs(z, 2)
    torch._dynamo.reset()

    @torch.compile(backend="eager")
    def loss(z):
        penalty = pydisent.alignment_penalty(net, z, k=2, iterations=2, probe=probe, tolerance=0)
        return net(z).square().mean() + 0.1 * penalty

    total = loss(z)
    plain = net(z).square().mean()
    assert abs((total - plain).item() - 0.1 * expected.value) <= 1e-12
    assert_near(gradients_of((total - plain) * 10, net.parameters()), expected.parameters, 1e-9)


@pytest.fixture
def process_group():
    """One process that is a group of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT")}
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()
        for name, old in kept.items():
            os.environ.pop(name) if old is None else os.environ.update({name: old})


def test_a_ddp_wrapped_generator(process_group):
    net, z = small_generator(), draw_codes()
    expected = by_unrolling(net, z)
    wrapped = nn.parallel.DistributedDataParallel(net)
    for _ in range(2):  # DDP notices in the second turn what the first left unfinished
        net.zero_grad()
        value = pydisent.alignment_penalty(
            wrapped, z, k=2, iterations=2, probe=draw_signs(z, 2), tolerance=0
        )
        (value + 0 * wrapped(z).sum()).backward()
        assert abs(value.item() - expected.value) <= 1e-12
        assert_near([p.grad for p in net.parameters()], expected.parameters, 1e-10)


@pytest.mark.parametrize("method", ["gram", "matrix_free", "autograd"])
def test_a_generator_sharded_by_fsdp_is_refused(process_group, method):
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    if not hasattr(fsdp, "fully_shard"):
        pytest.skip("fully_shard is newer than this torch")
    net = small_generator()
    for part in (net[0], net):
        fsdp.fully_shard(part)
    with pytest.raises(pydisent.DerivativeError, match="sharded by FSDP"):
        pydisent.alignment_penalty(net, draw_codes(), k=2, iterations=2, method=method)


def test_the_module_survives_deepcopy_and_pickle():
    penalty = pydisent.AlignmentPenalty(2, 3, reweight=False, method="gram", tolerance=0)
    net, z = small_generator(), draw_codes()
    expected = penalty(net, z, probe=draw_signs(z, 2))
    for copied in (copy.deepcopy(penalty), pickle.loads(pickle.dumps(penalty))):
        assert torch.equal(copied(net, z, probe=draw_signs(z, 2)), expected)
    assert list(penalty.parameters()) == []
    assert penalty.state_dict() == {}
    assert "k=2" in repr(penalty)


@pytest.mark.parametrize("method", METHODS)
def test_under_no_grad_and_inference_mode_there_is_a_value_and_no_graph(method):
    net, z = small_generator(), draw_codes()
    expected = by_unrolling(net, z)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            value = pydisent.alignment_penalty(
                net, z, k=2, iterations=2, probe=draw_signs(z, 2), method=method
            )
        assert not value.requires_grad
        assert value.grad_fn is None
        assert abs(value.item() - expected.value) <= 1e-10


# Latent codes and options


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
        sample.fn, sample.z, k=2, iterations=2, method=method, probe=draw_signs(sample.z, 2)
    ).backward()
    after = torch.get_rng_state()
    torch.manual_seed(3)
    sample.fn(sample.z)
    assert torch.equal(after, torch.get_rng_state())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("whole", [False, True], ids=["traced", "whole"])
@pytest.mark.filterwarnings("ignore:.*cannot be traced.*")
def test_backward_twice_through_the_penalty_is_right_or_an_error(method, whole):
    net, z = small_generator(), draw_codes().requires_grad_()
    last = Cube.apply if whole else torch.sin
    value = pydisent.alignment_penalty(
        lambda z: last(net(z)),
        z,
        k=2,
        iterations=2,
        probe=draw_signs(z, 2),
        method=method,
        tolerance=0,
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
            lambda z: last(moved(z)), moved.parameters(), z, iterations=2, probe=draw_signs(z, 2)
        )
        return answer.parameters[0].square().sum()

    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(4)).double()
    slope = (norm(1e-5) - norm(-1e-5)) / 2e-5
    assert abs((second * direction).sum() - slope) <= 1e-5 * slope.abs()


def test_retained_graph_can_be_walked_again_and_gradients_accumulate():
    net, z = small_generator(), draw_codes()
    for method in METHODS:
        value = pydisent.alignment_penalty(
            net, z, k=2, iterations=2, probe=draw_signs(z, 2), method=method
        )
        net.zero_grad()
        value.backward(retain_graph=True)
        once = [p.grad.clone() for p in net.parameters() if p.grad is not None]
        value.backward()
        twice = [p.grad for p in net.parameters() if p.grad is not None]
        assert_near(twice, [2 * g for g in once], 1e-12)


def test_scaling_the_loss_scales_the_gradient():
    net, z = small_generator(), draw_codes()
    for method in METHODS:
        value = pydisent.alignment_penalty(
            net, z, k=2, iterations=2, probe=draw_signs(z, 2), method=method, tolerance=0
        )
        scaled = gradients_of(-3.5 * value + 2 * net(z).sum() * 0, net.parameters())
        assert_near(scaled, [-3.5 * g for g in by_unrolling(net, z).parameters], 1e-10)


# Errors


def test_what_torch_functions_do_not_show_is_announced_once_a_function_at_the_callers_line():
    layer = nn.Linear(5, 4).double()

    def about(fn):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                pydisent.alignment_penalty(fn, draw_codes(), k=2, iterations=2, method="gram")
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
    net, z = small_generator(), draw_codes()

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


def in_a_thread(fn):
    """``fn`` as run by another thread, as the replicas of ``nn.DataParallel`` are."""

    def run(z):
        found, grad = [], torch.is_grad_enabled()

        def work():
            with torch.set_grad_enabled(grad):
                found.append(fn(z))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return found[0]

    return run


@pytest.mark.parametrize("method", ["gram", "matrix_free", "auto", "autograd"])
def test_what_runs_in_a_thread_is_right_or_refused(method):
    """Modes do not reach other threads."""
    z = draw_codes()
    layer = nn.Linear(z.shape[1], 6).double()
    exact = {} if method == "autograd" else {"tolerance": 0}

    def results_of(fn):
        probe = draw_signs(z, 2)
        value = pydisent.alignment_penalty(
            fn, z, k=2, iterations=2, probe=probe, method=method, **exact
        )
        return value, *torch.autograd.grad(value, layer.weight)

    right = nn.Sequential(layer, nn.GroupNorm(2, 6).double(), nn.Tanh())
    torch.testing.assert_close(results_of(in_a_thread(right)), results_of(right))
    wrong = {
        "layer_norm": nn.LayerNorm(6).double(),
        "batch_norm": nn.BatchNorm1d(6).double(),
        "normal": lambda x: torch.normal(x, 1.0),
        "as_strided_scatter": lambda x: torch.as_strided_scatter(
            x, x[:, :2].sin(), (len(x), 2), (6, 3)
        ),
    }
    for name, part in wrong.items():
        with pytest.raises(pydisent.DerivativeError, match=name):
            results_of(in_a_thread(lambda z, part=part: part(layer(z)).tanh()))
