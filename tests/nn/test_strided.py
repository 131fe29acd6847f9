import copy
import pickle

import pytest
import torch
from torch.nn import functional as F

from pydisent import linearize
from pydisent.nn import DoublingConvTranspose2d, HalvingConv2d


def _layer(outputs=1, dtype=torch.double, bias=True):
    torch.manual_seed(0)
    return DoublingConvTranspose2d(5, outputs, bias).to(dtype)


def _convolution(layer, x):
    return F.conv_transpose2d(x, layer.weight, layer.bias, 2, 1)


def assert_as_exact(got, native, exact):
    """In half precision neither is exact: both against float64."""
    error, bound = ((y - exact).abs().max() for y in (got, native))
    assert error <= 2 * bound + 1e-6


@pytest.mark.parametrize("outputs", [1, 3, 6])
@pytest.mark.parametrize("shape", [(3, 5, 4, 4), (2, 5, 1, 3), (0, 5, 4, 4), (5, 4, 4)])
@pytest.mark.parametrize(("channels_last", "bias"), [(False, True), (True, True), (True, False)])
def test_it_is_the_convolution_and_so_are_its_gradients(outputs, shape, channels_last, bias):
    layer = _layer(outputs, bias=bias)
    x = torch.randn(shape, dtype=torch.double)
    if channels_last and len(shape) == 4:
        layer, x = (
            layer.to(memory_format=torch.channels_last),
            x.to(memory_format=torch.channels_last),
        )
    inputs = [x.requires_grad_(), *layer.parameters()]
    got, want = layer(x), _convolution(layer, x)
    torch.testing.assert_close(got, want)
    cotangent = torch.randn_like(want)
    torch.testing.assert_close(
        torch.autograd.grad(got, inputs, cotangent), torch.autograd.grad(want, inputs, cotangent)
    )


@pytest.mark.parametrize("outputs", [1, 3, 6])
def test_second_derivatives(outputs):
    layer = _layer(outputs)
    x = torch.randn(2, 5, 3, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, w: F.silu(_with(layer, w, x)), (x, layer.weight))


def _with(layer, weight, x):
    return torch.func.functional_call(layer, {"weight": weight}, (x,))


def test_what_strangers_do_with_it():
    layer = _layer(dtype=torch.float32)
    x = torch.randn(2, 5, 4, 4)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), layer(x))
    torch.testing.assert_close(torch.func.vmap(layer)(x[None])[0], layer(x))
    v = torch.randn_like(x)
    product = torch.func.jvp(layer, (x,), (v,))[1]
    torch.testing.assert_close(product, layer(v) - layer.bias)
    ours = linearize(lambda z: layer(z.unflatten(1, (5, 4, 4))), x.flatten(1))
    torch.testing.assert_close(ours.jvp(v.flatten(1)[None]).view_as(product), product)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        assert_as_exact(
            layer(x),
            _convolution(layer, x),
            _convolution(copy.deepcopy(layer).double(), x.double()),
        )


def _graph(output):
    """The names of the autograd nodes behind an output."""
    names, nodes = set(), [output.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is not None:
            names.add(type(node).__name__)
            nodes += [following for following, _ in node.next_functions]
    return names


def test_in_training_they_go_their_own_ways_and_under_torch_compile_torchs():
    x = torch.randn(2, 5, 4, 4, requires_grad=True)
    few, many = _layer(3, torch.float32), _layer(6, torch.float32)
    assert "doubling_convolution_autogradBackward" in _graph(few(x))  # an op of ours
    assert "_DoubleBackward" in _graph(many(x))
    for layer in (few, many):
        compiled = torch.compile(lambda x, layer=layer: layer(x) * 2, backend="aot_eager")
        torch.testing.assert_close(compiled(x), 2 * _convolution(layer, x))
        with pytest.raises(RuntimeError, match="expected"):
            layer(x.double())
    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    halve = HalvingConv2d(3, 5)
    assert "_HalveBackward" in _graph(halve(images))
    assert "_HalveBackward" not in _graph(halve(images.detach()))


@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize("shape", [(3, 8, 6), (0, 4, 4), (2, 7, 5)])
@pytest.mark.parametrize(("channels_last", "bias"), [(False, True), (True, True), (True, False)])
def test_halving_is_the_convolution_and_so_are_its_gradients(channels, shape, channels_last, bias):
    torch.manual_seed(0)
    layer = HalvingConv2d(channels, 5, bias).double()
    x = torch.randn(shape[0], channels, *shape[1:], dtype=torch.double)
    if channels_last:
        layer, x = (thing.to(memory_format=torch.channels_last) for thing in (layer, x))
    inputs = [x.requires_grad_(), *layer.parameters()]
    got, want = layer(x), F.conv2d(x, layer.weight, layer.bias, 2, 1)
    torch.testing.assert_close(got, want)
    cotangent = torch.randn_like(want)
    torch.testing.assert_close(
        torch.autograd.grad(got, inputs, cotangent), torch.autograd.grad(want, inputs, cotangent)
    )


def test_halving_has_second_derivatives_and_what_strangers_do_with_it():
    layer = HalvingConv2d(2, 3).double()
    x = torch.randn(2, 2, 4, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, w: F.silu(_with(layer, w, x)), (x, layer.weight))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), layer(x))
    torch.testing.assert_close(torch.func.vmap(layer)(x[None])[0], layer(x))
    jacobian = torch.func.jacrev(layer)(x)
    torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(layer, x))
    layer, x = layer.float(), x.detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        native = F.conv2d(x, layer.weight, layer.bias, 2, 1)
        wide = [t.double() for t in (x, layer.weight, layer.bias)]
        assert_as_exact(layer(x), native, F.conv2d(*wide, 2, 1))
