"""The transposed convolution by one matrix product against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F

from pydisent.jacobian._upsampling import double, is_doubling


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 1, 1, 1), (3, 2, 2, 8), (0, 2, 4, 4)])
def test_double_is_the_transposed_convolution(shape):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(shape[1], 5, 4, 4, generator=generator, dtype=torch.float64)
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


def test_only_dcgans_tiny_layer_qualifies():
    rows, weight = torch.zeros(1, 2, 4, 4), torch.zeros(2, 3, 4, 4)
    assert is_doubling(rows, weight, 2, 1)
    assert is_doubling(rows, weight, (2, 2), (1, 1), (0, 0), 1, (1, 1))
    assert not is_doubling(rows, weight, 2, 0)
    assert not is_doubling(rows, weight, 1, 1)
    assert not is_doubling(rows, weight, 2, 1, 1)
    assert not is_doubling(rows, weight, 2, 1, 0, 2)
    assert not is_doubling(torch.zeros(1, 2, 8, 8), weight, 2, 1)
    assert not is_doubling(rows, torch.zeros(2, 3, 3, 3), 2, 1)
