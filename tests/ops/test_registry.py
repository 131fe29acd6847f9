"""Walks the registry: what must hold for every op, whatever it computes."""

import pytest
import torch
from _accuracy import breaches, is_floating, run, samples
from torch.autograd import forward_ad, gradcheck, gradgradcheck

import pydisent
from pydisent.ops.registry import REGISTRY
from pydisent.ops.spec import Draw, tuple_of

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ],
    ),
]


def differentiable_ops():
    return [name for name, op in REGISTRY.items() if not op.spec.written]


def leaves(name, args):
    """Fresh leaves for the tensors that get a gradient; the other arguments as they are."""
    spec = REGISTRY[name].spec
    return tuple(
        x.detach().clone().requires_grad_()
        if isinstance(x, torch.Tensor) and n not in spec.constants
        else x
        for n, x in zip(spec.inputs, args)
    )


def split(name, args):
    """Return the differentiable tensors, and a function of them alone."""
    spec = REGISTRY[name].spec
    places = [
        i
        for i, (n, x) in enumerate(zip(spec.inputs, args))
        if isinstance(x, torch.Tensor) and n not in spec.constants
    ]

    def call(*tensors):
        full = list(args)
        for i, x in zip(places, tensors):
            full[i] = x
        return tuple_of(REGISTRY[name].overload(*full))

    return [args[i] for i in places], call


def with_nonfinite(x):
    x = x.clone()
    flat = x.reshape(-1)
    values = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0], dtype=x.dtype)
    flat[: min(4, flat.numel())] = values[: flat.numel()].to(x.device)
    return flat.reshape(x.shape)


def strided(x):
    """The same values in memory with gaps, an offset and reversed order of dimensions."""
    sizes = [2 * s + 1 for s in reversed(x.shape)]
    unread = float("nan") if x.is_floating_point() else -1
    big = torch.full(sizes, unread, dtype=x.dtype, device=x.device)
    view = big.permute(tuple(reversed(range(x.dim()))))[tuple(slice(1, None, 2) for _ in x.shape)]
    return view.copy_(x)


def assert_same(name, device, got, want):
    """Equal to the bit from our kernels; PyTorch's own products depend on the strides."""
    if REGISTRY[name].implementation(device) == "native":
        assert torch.equal(got, want)
    else:
        torch.testing.assert_close(got, want)


@pytest.mark.in_turn
@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("device", DEVICES)
def test_opcheck(name, device):
    chosen = samples(name, torch.float32, device)
    adjoint = name.endswith("_backward")  # tracing goes through it in the op that it serves
    utilities = ["test_schema", "test_autograd_registration", "test_faketensor"]
    utilities += [] if adjoint else ["test_aot_dispatch_dynamic"]
    for args in (chosen[0], chosen[-1]):
        args = args if REGISTRY[name].spec.written else leaves(name, args)
        torch.library.opcheck(REGISTRY[name].overload, args, test_utils=utilities)


@pytest.mark.in_turn
@pytest.mark.parametrize("name", differentiable_ops())
def test_gradients_to_second_order(name):
    for place, args in enumerate(samples(name, torch.float64)):
        inputs = leaves(name, args)
        # All of the Jacobian for a small sample, products with random vectors for the others.
        fast = place > 0 or max(x.numel() for x in args if isinstance(x, torch.Tensor)) > 50
        assert gradcheck(REGISTRY[name].overload, inputs, fast_mode=fast)
        assert gradgradcheck(REGISTRY[name].overload, inputs, fast_mode=fast)


@pytest.mark.in_turn
@pytest.mark.parametrize("entry", ["op", "dispatcher"])
@pytest.mark.parametrize("name", differentiable_ops())
def test_forward_mode_is_never_zero(name, entry):
    """Central differences against torch.func.jvp and against a dual level."""
    op = REGISTRY[name] if entry == "op" else REGISTRY[name].overload
    step = 1e-6
    for args in samples(name, torch.float64)[:9]:
        tensors, _ = split(name, args)

        def call(*xs, args=args, tensors=tensors):
            table = {id(t): x for t, x in zip(tensors, xs)}
            return tuple_of(op(*(table.get(id(a), a) for a in args)))

        directions = tuple(torch.randn_like(x) for x in tensors)
        plus = call(*(x + step * d for x, d in zip(tensors, directions)))
        minus = call(*(x - step * d for x, d in zip(tensors, directions)))
        expected = [(a - b) / (2 * step) for a, b in zip(plus, minus)]
        _, by_func = torch.func.jvp(call, tuple(tensors), directions)
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(x, d) for x, d in zip(tensors, directions)]
            by_dual = [forward_ad.unpack_dual(y).tangent for y in call(*duals)]
        for want, got, dual in zip(expected, by_func, by_dual):
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
            dual = torch.zeros_like(want) if dual is None else dual
            torch.testing.assert_close(dual, want, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", differentiable_ops())
def test_vmap_equals_a_loop(name):
    for args in samples(name, torch.float64)[:6]:
        tensors, call = split(name, args)
        batches = [torch.stack([x, 1.5 * x, x + 0.5]) for x in tensors]
        looped = [call(*(b[i] for b in batches)) for i in range(3)]
        for j, got in enumerate(torch.func.vmap(call)(*batches)):
            torch.testing.assert_close(got, torch.stack([out[j] for out in looped]))


@pytest.mark.parametrize("name", differentiable_ops())
def test_hessian_equals_that_of_double_backward(name):
    """jacfwd(jacrev), all transforms, against autograd on the op's own backward formula."""
    chosen = samples(name, torch.float64)
    for args in (chosen[0], chosen[6 % len(chosen)]):
        tensors, call = split(name, args)
        if any(x.numel() > 200 for x in tensors):
            continue
        weights = [torch.randn_like(y) for y in call(*tensors)]

        def scalar(x, call=call, tensors=tensors, weights=weights):
            return sum((w * y**2).sum() for w, y in zip(weights, call(x, *tensors[1:])))

        by_transforms = torch.func.hessian(scalar)(tensors[0])
        by_autograd = torch.autograd.functional.hessian(scalar, tensors[0])
        torch.testing.assert_close(by_transforms, by_autograd)


@pytest.mark.in_turn
@pytest.mark.parametrize("name", REGISTRY)
def test_compiles_whole(name):
    torch._dynamo.reset()  # each op compiles the one lambda below anew
    op, args = REGISTRY[name], samples(name, torch.float32)[0]
    compiled = torch.compile(lambda *a: op(*a), fullgraph=True, backend="aot_eager")
    if op.spec.written:
        written = args[1].clone()
        compiled(args[0], written, *args[2:])
        torch.testing.assert_close((written,), run(name, args))
        return

    def gradients(function):
        inputs = leaves(name, args)
        outputs = tuple_of(function(*inputs))
        loss = sum((y**2).sum() for y in outputs)
        wanted = [x for x in inputs if isinstance(x, torch.Tensor) and x.requires_grad]
        return torch.autograd.grad(loss, wanted, allow_unused=True)

    torch.testing.assert_close(gradients(compiled), gradients(op))


@pytest.mark.slow
def test_compiles_with_inductor():
    gram, probe, mask = samples("masked_power_iteration", torch.float32)[0][:3]

    def loss(gram):
        return pydisent.ops.masked_power_iteration(gram, probe, mask, 3)[0].pow(4).sum()

    expected, got = gram.clone().requires_grad_(), gram.clone().requires_grad_()
    loss(expected).backward()
    torch.compile(loss, fullgraph=True)(got).backward()
    torch.testing.assert_close(got.grad, expected.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("device", DEVICES)
def test_accuracy(name, dtype, device):
    """The one rule, for whatever implementation runs by default."""
    assert not breaches(name, dtype, device)


@pytest.mark.parametrize("name", REGISTRY)
def test_half_precision_where_subnormals_are_zero(name):
    """As in training: numbers that are subnormal in float16 are none in the float of arithmetic."""
    if not torch.set_flush_denormal(True):
        pytest.skip("the processor cannot")
    try:
        assert not breaches(name, torch.float16)
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("device", DEVICES)
def test_strided_inputs_give_the_same(name, dtype, device):
    for args in samples(name, dtype, device):
        moved = [strided(x) if isinstance(x, torch.Tensor) else x for x in args]
        for got, want in zip(run(name, moved), run(name, args)):
            assert_same(name, device, got, want)


@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("device", DEVICES)
def test_expanded_inputs(name, device):
    """Stride 0 along the first dimension, one operand at a time and all together."""
    for args in samples(name, torch.float32, device):
        places = [i for i, x in enumerate(args) if isinstance(x, torch.Tensor) and x.dim() > 1]
        for chosen in [*([i] for i in places), places]:
            views = [
                x[:1].expand(x.shape) if i in chosen and x.shape[0] > 0 else x
                for i, x in enumerate(args)
            ]
            copies = [x.contiguous() if isinstance(x, torch.Tensor) else x for x in views]
            for got, want in zip(run(name, views), run(name, copies)):
                assert_same(name, device, got, want)


@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("device", DEVICES)
def test_nonfinite_values_propagate_as_in_the_reference(name, device):
    for args in samples(name, torch.float32, device):
        for i, x in enumerate(args):
            if not is_floating(x) or x.numel() == 0:
                continue
            changed = [with_nonfinite(x) if j == i else y for j, y in enumerate(args)]
            got, want = run(name, changed), run(name, changed, impl="reference")
            for a, b in zip(got, want):
                assert torch.equal(a.isnan(), b.isnan()), (REGISTRY[name].spec.inputs[i], a, b)
                assert torch.equal(a.isinf(), b.isinf()), (REGISTRY[name].spec.inputs[i], a, b)


@pytest.mark.parametrize("name", REGISTRY)
def test_threads_and_repetition_do_not_change_a_bit(name):
    before = torch.get_num_threads()
    try:
        for args in enlarged(name, 64):
            torch.set_num_threads(1)
            first = run(name, args)
            torch.set_num_threads(2)
            for again in (run(name, args), run(name, args)):
                for a, b in zip(first, again):
                    assert_same(name, "cpu", a, b)
    finally:
        torch.set_num_threads(before)


def enlarged(name, times):
    """The samples with larger batches, such that the work is shared among threads."""
    spec, draw = REGISTRY[name].spec, Draw(torch.float32)
    return [spec.problem(draw, spec.sizes.enlarged(size, times)) for size in spec.sizes.samples]


@pytest.mark.parametrize("name", REGISTRY)
def test_costs_grow_with_the_batch(name):
    spec = REGISTRY[name].spec
    args = samples(name, torch.float32)[0]
    more = enlarged(name, 3)[0]
    # The work is linear in the batch, or quadratic where every pair of samples meets.
    assert spec.flops(*more) in (3 * spec.flops(*args), 9 * spec.flops(*args))
    assert spec.flops(*args) > 0
    assert spec.bytes(*args) < spec.bytes(*more) <= 3 * spec.bytes(*args)
