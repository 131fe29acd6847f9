"""What autograd promises of an operation holds for the short way of ordinary calls, too."""

import pytest
import torch
from _accuracy import is_floating, samples
from _native import needs_native
from torch._subclasses import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck

from pydisent import _backends, ops
from pydisent.ops import (
    _zeros,
    aggregate_posterior,
    gaussian_kl,
    reparameterized_sample,
    spatial_constriction,
)
from pydisent.ops.registry import REGISTRY
from pydisent.ops.spec import tuple_of
from pydisent.reference.tangent import KINDS

DIFFERENTIABLE = [n for n, op in REGISTRY.items() if not op.spec.written]
#: Ops that save outputs which callers do not see.
HIDING = [n for n in DIFFERENTIABLE if len(REGISTRY[n].spec.returns) > REGISTRY[n].spec.outputs]


def leaves(name):
    spec = REGISTRY[name].spec
    place = KINDS.index("silu") if spec.family == "tangent" else 0  # depends on all inputs
    return [
        x.clone().requires_grad_() if is_floating(x) and n not in spec.constants else x
        for n, x in zip(spec.inputs, samples(name, torch.float64)[place])
    ]


def wanted(args):
    return [x for x in args if isinstance(x, torch.Tensor) and x.requires_grad]


def weighted(outputs):
    """A scalar that depends on every output, on each in another way."""
    return sum((i + 2) * y.sin().sum() for i, y in enumerate(tuple_of(outputs)))


def gradients(name, args, **keywords):
    loss = weighted(REGISTRY[name](*args, **keywords))
    return torch.autograd.grad(loss, wanted(args), materialize_grads=True)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_those_of_the_reference(name):
    args = leaves(name)
    got, want = gradients(name, args), gradients(name, args, impl="reference")
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_of_one_input_at_a_time(name):
    args = leaves(name)
    for i, x in enumerate(args):
        if not (isinstance(x, torch.Tensor) and x.requires_grad):
            continue
        alone = [y.detach() if isinstance(y, torch.Tensor) else y for y in args]
        alone[i].requires_grad_()
        torch.testing.assert_close(gradients(name, alone), gradients(name, alone, impl="reference"))


@pytest.mark.parametrize("name", HIDING)
def test_what_is_not_seen_is_differentiated_again(name):
    """Central differences; a constant in the place of a saved output would be noticed."""
    args = leaves(name)
    places = [i for i, x in enumerate(args) if isinstance(x, torch.Tensor) and x.requires_grad]

    def call(*tensors):
        given = list(args)
        for i, x in zip(places, tensors):
            given[i] = x
        return REGISTRY[name](*given)

    assert len(tuple_of(call(*wanted(args)))) == REGISTRY[name].spec.outputs
    assert gradcheck(call, wanted(args), fast_mode=True)
    assert gradgradcheck(call, wanted(args), fast_mode=True)


@pytest.mark.parametrize("used", [0, 1])
@pytest.mark.parametrize("function", [aggregate_posterior, reparameterized_sample])
def test_gradients_of_one_output_alone(function, used):
    args = [torch.randn(5, 3, dtype=torch.float64).requires_grad_() for _ in range(3)]
    size = (20,) if function is aggregate_posterior else ()
    got, want = (
        torch.autograd.grad(
            function(*args, *size, impl=impl)[used].sum(), args, materialize_grads=True
        )
        for impl in (None, "reference")
    )
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_hooks_see_what_is_saved_and_may_replace_it(name):
    args, packed = leaves(name), []
    want = gradients(name, args)

    def pack(x):
        packed.append(x)
        return x.detach().clone().numpy()

    with torch.autograd.graph.saved_tensors_hooks(pack, torch.from_numpy):
        outputs = tuple_of(REGISTRY[name](*args))
    assert len(packed) >= len(wanted(args))
    got = torch.autograd.grad(weighted(outputs), wanted(args), materialize_grads=True)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_a_freed_graph_raises_and_a_kept_one_gives_the_same_again(name):
    args = leaves(name)
    loss = weighted(REGISTRY[name](*args))
    first, again = (
        torch.autograd.grad(loss, wanted(args), retain_graph=keep, materialize_grads=True)
        for keep in (True, False)
    )
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(loss, wanted(args))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_writing_to_an_input_is_noticed(name):
    args = leaves(name)
    given = [x * 1 if isinstance(x, torch.Tensor) and x.requires_grad else x for x in args]
    loss = weighted(REGISTRY[name](*given))
    next(x for x in given if isinstance(x, torch.Tensor) and x.requires_grad).detach().mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_writing_to_a_saved_output_is_noticed():
    args = [torch.randn(4, 2).requires_grad_() for _ in range(3)]
    log_joint, log_marginals = aggregate_posterior(*args, 20)
    log_joint.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (log_joint.sum() + log_marginals.sum()).backward()


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_anomaly_mode_names_the_op():
    mu, logvar = (torch.zeros(2, 3).requires_grad_() for _ in range(2))
    with torch.autograd.detect_anomaly():
        kl = gaussian_kl(mu, logvar)
        with pytest.raises(RuntimeError, match="gaussian_kl_autogradBackward' returned nan"):
            kl.backward(torch.full_like(kl, float("nan")))


def test_tensors_that_negate_lazily():
    lazy = torch.view_as_complex(torch.randn(3, 4, 2)).conj().imag
    assert lazy.is_neg()
    logvar = torch.randn(3, 4).requires_grad_()
    got, want = gaussian_kl(lazy, logvar), gaussian_kl(lazy.clone(), logvar)
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    got, want = (torch.autograd.grad(kl.sum(), logvar) for kl in (got, want))
    torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_what_a_transform_left_behind():
    """Its tensors outlive torch.func.grad in a shell that autograd.Function takes off."""
    left = []
    x, logvar = torch.randn(4, 3), torch.randn(4, 3).requires_grad_()
    torch.func.grad(lambda t: left.append(t) or t.sum())(x)
    for mu in (left[0], x):
        torch.testing.assert_close(gaussian_kl(mu, logvar), gaussian_kl(x, logvar))
        assert torch.autograd.grad(gaussian_kl(mu, logvar).sum(), logvar)[0].shape == x.shape


def test_layouts_without_strides_are_refused_as_ever():
    x = torch.ones(2, 3)
    for other in (x.to_sparse(), x.to_mkldnn()):
        with pytest.raises(TypeError, match="must be a strided tensor"):
            gaussian_kl(other, other)
    assert gaussian_kl(x.to("meta"), x.to("meta")).is_meta


@needs_native
@pytest.mark.parametrize(
    ("pattern", "shapes", "answer"),
    [
        ("bd bd", [(2, 3), (2, 3)], True),
        ("bd bd", [(2, 3), (2, 4)], False),
        ("bd bd", [(2, 3)], False),
        ("bd", [(2, 3), (2, 3)], False),
        ("bd", [(2, 3, 4)], False),
        ("bD", [(2, 0)], False),
        ("bd", [(2, 0)], True),
        ("bCHW CD44", [(2, 3, 5, 5), (3, 1, 4, 4)], True),
        ("bCHW CD44", [(2, 3, 5, 5), (3, 1, 4, 5)], False),
        (".JH .JW", [(7, 2, 3), (7, 2, 4)], True),
        (".JH .JW", [(7, 2, 3), (8, 2, 4)], False),
        (". .", [(), ()], True),
        (". .", [(1,), ()], False),
    ],
)
def test_patterns_of_shapes(pattern, shapes, answer):
    tensors = [torch.empty(shape) for shape in shapes]
    assert _backends.fits(pattern, *tensors) is answer
    assert not _backends.fits(pattern, *(x.int() for x in tensors))
    assert not _backends.fits(pattern, *(x.to("meta") for x in tensors))
    assert not _backends.fits(pattern, *shapes)
    if len(tensors) > 1:
        assert not _backends.fits(pattern, tensors[0].double(), *tensors[1:])


@pytest.mark.parametrize("name", ["band_mask", "covariance_penalty", "spatial_constriction"])
def test_without_the_compiled_look_at_shapes_all_is_as_with_it(name, monkeypatch):
    given = samples(name, torch.float32)[0]
    if name == "covariance_penalty":
        given = *given[:2], {"lambda_od": given[2], "lambda_d": given[3]}
    keywords = given[-1] if isinstance(given[-1], dict) else {}
    args = given[:-1] if keywords else given
    want = getattr(ops, name)(*args, **keywords)
    monkeypatch.setattr(_backends, "fits", lambda *_: False)
    assert torch.equal(getattr(ops, name)(*args, **keywords), want)


@pytest.mark.parametrize("surroundings", ["grad", "functionalize", "fake"])
def test_zeros_for_missing_cotangents_do_not_outlive_what_made_them(surroundings, monkeypatch):
    """The gradient of a map by its one shift is the mask's sum; that of its statistics is none."""
    monkeypatch.setattr(_zeros, "_ZEROS", {})
    x, masks = torch.tensor([[[[1.0, 3.0]]], [[[0.25, 0.5]]]]).split(1)
    shift = torch.zeros(1, 1, 1).requires_grad_()
    y = spatial_constriction(x, masks, torch.ones(1, 1, 1), shift)

    def slope():
        return torch.autograd.grad(y, shift, torch.ones_like(y), retain_graph=True)[0].sum()

    if surroundings == "fake":
        with FakeTensorMode(allow_non_fake_inputs=True):
            slope()
    else:
        getattr(torch.func, surroundings)(lambda t: 0 * slope() + t)(torch.ones(()))
    assert slope().item() == 0.75
    for zero in _zeros._ZEROS.values():
        assert type(zero) is torch.Tensor
        assert not torch._C._functorch.is_functorch_wrapped_tensor(zero)


def test_zeros_that_a_hook_wrote_to_are_not_read_again():
    """Torch refuses, but only after the hook has written."""
    leaves = [torch.full((1, 1), x).requires_grad_() for x in (0.5, 0.1, 2.0)]
    z, _ = reparameterized_sample(*leaves)
    write = torch.autograd.graph.saved_tensors_hooks(
        lambda x: x if x.any() else x.add_(7), lambda x: x
    )
    with write, pytest.raises(RuntimeError, match="modifying its input in place"):
        torch.autograd.grad(z, leaves, create_graph=True)
    assert torch.autograd.grad(reparameterized_sample(*leaves)[0], leaves[0])[0].item() == 1


def test_second_derivatives_are_found_in_inference_mode():
    mu, logvar = torch.tensor([[3.0]]).requires_grad_(), torch.zeros(1, 1)
    slope = torch.autograd.grad(gaussian_kl(mu, logvar), mu, create_graph=True)[0]
    with torch.inference_mode():
        assert torch.autograd.grad(slope, mu)[0].item() == 1  # of mu² / 2
