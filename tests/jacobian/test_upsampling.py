"""The transposed convolution by one matrix product against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F

import pydisent
from pydisent.jacobian.upsampling import double, is_doubling, is_projection


@pytest.mark.parametrize("outputs", [1, 3, 5])
@pytest.mark.parametrize(
    "shape", [(2, 3, 4, 4), (1, 1, 1, 1), (3, 2, 2, 8), (0, 2, 4, 4), (2, 3, 5, 7)]
)
def test_double_is_the_transposed_convolution(shape, outputs):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(shape[1], outputs, 4, 4, generator=generator, dtype=torch.float64)
    weight.requires_grad_()
    expected = F.conv_transpose2d(rows, weight, stride=2, padding=1)
    found = double(rows, weight)
    torch.testing.assert_close(found, expected)
    cotangent = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(found, (rows, weight), cotangent),
        torch.autograd.grad(expected, (rows, weight), cotangent),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_double_can_be_differentiated_twice():
    generator = torch.Generator().manual_seed(0)
    rows, weight, cotangent = (
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, 3, 2), (3, 2, 4, 4), (2, 2, 6, 4))
    )
    assert torch.autograd.gradgradcheck(double, (rows, weight), cotangent)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("channels", "outputs", "side"), [(40, 24, 4), (33, 3, 9)])
def test_each_dtype_is_as_near_to_float64_as_pytorch(channels, outputs, side, dtype):
    """Half types round the blocks before they are added: at most twice PyTorch's error."""
    generator = torch.Generator().manual_seed(0)
    shapes = (3, channels, side, side), (channels, outputs, 4, 4), (3, outputs, 2 * side, 2 * side)
    exact = [torch.randn(s, generator=generator).to(dtype).double() for s in shapes]

    def all_of(way, dtype):
        rows, weight, cotangent = (x.to(dtype) for x in exact)
        rows, weight = rows.requires_grad_(), weight.requires_grad_()
        found = way(rows, weight)
        return found, *torch.autograd.grad(found, (rows, weight), cotangent)

    theirs = lambda r, w: F.conv_transpose2d(r, w, stride=2, padding=1)
    truth = all_of(theirs, torch.float64)
    for ours, others, true in zip(all_of(double, dtype), all_of(theirs, dtype), truth, strict=True):
        error, bound = ((x.double() - true).norm() / true.norm() for x in (ours, others))
        assert error <= 2 * bound + torch.finfo(dtype).eps


def test_tiny_images_in_bf16():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-3, 4, (3, 4, 4, 4), generator=generator).bfloat16()
    weight = torch.randint(-3, 4, (4, 6, 4, 4), generator=generator).bfloat16()
    expected = F.conv_transpose2d(rows.float(), weight.float(), stride=2, padding=1)
    # Whole numbers of this size are exact up to the rounding of the result.
    assert torch.equal(double(rows, weight), expected.bfloat16())


def test_only_dcgans_layer_qualifies():
    rows, weight = torch.zeros(1, 2, 4, 4), torch.zeros(2, 3, 4, 4)
    assert is_doubling(rows, weight, 2, 1)
    assert is_doubling(rows, weight, (2, 2), (1, 1), (0, 0), 1, (1, 1))
    assert not is_doubling(rows, weight, 2, 0)
    assert not is_doubling(rows, weight, 1, 1)
    assert not is_doubling(rows, weight, 2, 1, 1)
    assert not is_doubling(rows, weight, 2, 1, 0, 2)
    assert not is_doubling(rows, torch.zeros(2, 3, 3, 3), 2, 1)


@pytest.mark.parametrize("stride", [1, 2])
def test_first_layer_from_one_pixel(stride):
    torch.manual_seed(0)
    layer = torch.nn.ConvTranspose2d(5, 3, (4, 3), stride, 0).double()
    z = torch.randn(2, 5, dtype=torch.float64)
    found = pydisent.linearize(lambda z: layer(z[:, :, None, None]), z).jacobian()
    expected = layer.weight.detach().flatten(1).mT.expand(2, -1, -1)
    torch.testing.assert_close(found, expected)
    assert is_projection(z[:, :, None, None], stride, 0)
    assert not is_projection(z[:, :, None, None], stride, 1)
    assert not is_projection(torch.zeros(1, 2, 2, 1), 1, 0)
