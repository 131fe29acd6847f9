"""Calls that skip the dispatcher's Autograd kernel give what it gives, and hide from no one."""

import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pydisent.ops import (
    _direct,
    band_gate,
    band_mask,
    cumax,
    gaussian_kl,
    registry,
    spatial_constriction,
)

OVERLOAD = torch.ops.pydisent.band_mask.default
ADJOINT = torch.ops.pydisent.band_mask_backward.default
LEADING = [(), (3,), (2, 3), (2, 1, 3), (0, 2)]


def logits_of(*leading, dtype=torch.float64, grad=True):
    generator = torch.Generator().manual_seed(0)
    shapes = [(*leading, 2, n) for n in (4, 4, 5, 5)]
    tensors = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return [x.to(dtype).requires_grad_(grad) for x in tensors]


def calls():
    """Ops with one output each and their inputs."""
    x, styles = torch.randn(2, 3, 4, 5), [torch.randn(2, 2, 3) for _ in range(2)]
    masks = torch.rand(2, 2, 4, 5)
    rows = logits_of(2, 3, dtype=torch.float32)
    return {
        "cumax": (cumax, rows[:1]),
        "band_gate": (band_gate, rows[:2]),
        "band_mask": (band_mask, rows),
        "gaussian_kl": (gaussian_kl, [torch.randn(4, 3).requires_grad_() for _ in range(2)]),
        "spatial_constriction": (
            spatial_constriction,
            [t.requires_grad_() for t in (x, masks, *styles)],
        ),
    }


class SeesFunctions(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


class SeesDispatch(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


class Subclass(torch.Tensor):
    seen = ()

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        Subclass.seen = (*Subclass.seen, func)
        return super().__torch_function__(func, types, args, kwargs)


@pytest.fixture
def direct(monkeypatch):
    """The verdict on each call, in turn."""
    verdicts, ask = [], registry.is_ordinary
    for module in (registry, _direct):
        monkeypatch.setattr(
            module, "is_ordinary", lambda args: verdicts.append(ask(args)) or verdicts[-1]
        )
    return verdicts


def gradients(function, inputs):
    out = function(*inputs)
    return out, *torch.autograd.grad(out.sin().sum(), inputs)


@pytest.mark.parametrize("name", calls())
def test_both_roads_agree_to_the_bit(name, monkeypatch, direct):
    function, inputs = calls()[name]
    got = gradients(function, inputs)
    assert direct == [True, True]  # forward and backward
    for module in (registry, _direct):
        monkeypatch.setattr(module, "is_ordinary", lambda args: False)
    for a, b in zip(got, gradients(function, inputs), strict=True):
        assert a.shape == b.shape
        assert a.stride() == b.stride()
        assert torch.equal(a, b)


def test_a_function_mode_sees_the_op(direct):
    with SeesFunctions() as recorder:
        mask = band_mask(*logits_of(2, 3))
    assert OVERLOAD in recorder.seen
    assert direct == [False]
    assert torch.equal(mask, band_mask(*logits_of(2, 3)))


def test_a_dispatch_mode_sees_the_op_and_its_adjoint(direct):
    with SeesDispatch() as recorder:
        band_mask(*logits_of(2, 3)).sum().backward()
    assert OVERLOAD in recorder.seen
    assert ADJOINT in recorder.seen
    assert direct == [False, False]


def test_a_mode_of_the_backward_pass_sees_the_adjoint():
    mask = band_mask(*logits_of(2, 3))
    with SeesDispatch() as recorder:
        mask.sum().backward()
    assert ADJOINT in recorder.seen


def test_subclasses_see_the_op():
    Subclass.seen = ()
    first, *others = logits_of(2, 3, grad=False)
    mask = band_mask(first.as_subclass(Subclass), *others)
    assert isinstance(mask, Subclass)
    assert OVERLOAD in Subclass.seen


def test_a_trace_records_the_op():
    logits = tuple(logits_of(3, grad=False))
    graph = torch.jit.trace(lambda *a: band_mask(*a), logits, check_trace=False).graph
    assert [n.kind() for n in graph.nodes()].count("pydisent::band_mask") == 1


def test_only_ordinary_calls_are_direct():
    x = torch.ones(2)
    ordinary = registry.is_ordinary
    assert ordinary((x, torch.nn.Parameter(x), 1.0, 2, None, "paper", True))
    assert not ordinary((x.as_subclass(Subclass),))
    contexts = [SeesFunctions(), SeesDispatch(), torch.inference_mode(), forward_ad.dual_level()]
    contexts += [torch.autocast("cpu"), torch._C._AutoDispatchBelowAutograd()]
    for context in contexts:
        with context:
            assert not ordinary((x,)), context
    seen = []
    torch.func.vmap(lambda t: seen.append(ordinary((t,))) or t)(x)
    torch.func.grad(lambda t: seen.append(ordinary((x,))) or t.sum())(x)
    assert seen == [False, False]
    assert ordinary((x,))


@pytest.mark.parametrize("leading", LEADING)
def test_transforms_with_any_leading_axes(leading):
    logits = tuple(logits_of(*leading, grad=False))
    directions = tuple(torch.randn_like(x) for x in logits)

    def plain(*xs):
        return band_mask(*xs, impl="reference")

    for transform in (
        lambda f: torch.func.jvp(f, logits, directions),
        lambda f: torch.func.grad(lambda *xs: f(*xs).sin().sum(), argnums=(0, 1, 2, 3))(*logits),
        lambda f: torch.func.vmap(f)(*(torch.stack([x, 2 * x]) for x in logits)),
    ):
        torch.testing.assert_close(transform(band_mask), transform(plain))


def test_batched_gradients():
    logits = logits_of(2, 3)
    mask = band_mask(*logits)
    cotangents = torch.randn(3, *mask.shape, dtype=mask.dtype)
    got = torch.autograd.grad(mask, logits, cotangents, is_grads_batched=True, retain_graph=True)
    rows = [torch.autograd.grad(mask, logits, c, retain_graph=True) for c in cotangents]
    for g, want in zip(got, zip(*rows)):
        torch.testing.assert_close(g, torch.stack(want))


@pytest.mark.parametrize("leading", LEADING[:4])
def test_gradients_to_second_order_with_any_leading_axes(leading, direct):
    logits = logits_of(*leading)
    rows = [x[..., 0, :].detach().requires_grad_() for x in logits[:2]]
    for function, inputs in ((band_mask, logits), (band_gate, rows), (cumax, rows[:1])):
        assert gradcheck(function, inputs, fast_mode=True)
        assert gradgradcheck(function, inputs, fast_mode=True)
    assert all(direct)


@pytest.mark.parametrize("leading", LEADING)
def test_compiles_whole_with_any_leading_axes(leading):
    torch._dynamo.reset()
    compiled = torch.compile(lambda *a: band_mask(*a), fullgraph=True, backend="aot_eager")
    logits = logits_of(*leading)
    torch.testing.assert_close(gradients(compiled, logits), gradients(band_mask, logits))


@pytest.mark.parametrize("leading", LEADING)
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_a_graph(leading, context):
    logits = logits_of(*leading)
    with context():
        mask = band_mask(*logits)
    assert mask.grad_fn is None
    assert not mask.requires_grad
    assert mask.is_inference() == (context is torch.inference_mode)
    assert torch.equal(mask, band_mask(*logits))


@pytest.mark.parametrize("leading", LEADING)
def test_the_result_may_be_written_to(leading):
    logits = logits_of(*leading)
    mask = band_mask(*logits)
    assert {type(node).__name__ for node, _ in mask.grad_fn.next_functions} <= {
        "AccumulateGrad", "NoneType",
    }  # fmt: skip
    got = torch.autograd.grad(mask.mul_(3).sum(), logits)
    want = torch.autograd.grad(3 * band_mask(*logits).sum(), logits)
    torch.testing.assert_close(got, want)


def test_writing_to_an_input_is_noticed():
    logits = [x * 1 for x in logits_of(2, 3)]
    mask = band_mask(*logits)
    logits[0].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        mask.sum().backward()


def test_the_dispatcher_takes_one_leading_axis_as_ever():
    with pytest.raises((RuntimeError, IndexError)):
        OVERLOAD(*logits_of(2, 3))
