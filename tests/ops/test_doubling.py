"""The doubling convolution against loops over the kernel's taps, and its arguments."""

import pytest
import torch

from pydisent import backends
from pydisent.ops import doubling_convolution

IMPLS = ["reference", "native"] if backends()["cpu"]["active"] else ["reference"]


def loops(x, weight):
    """Each pixel adds its channels' product with the kernel, a 4×4 block, to the output."""
    batch, _, height, width = x.shape
    padded = x.new_zeros(batch, weight.shape[1], 2 * height + 2, 2 * width + 2)
    for i in range(height):
        for j in range(width):
            block = torch.einsum("bc,cdhw->bdhw", x[:, :, i, j], weight)
            padded[:, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += block
    return padded[:, :, 1:-1, 1:-1]


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5, 1), (1, 1, 1, 1, 1), (3, 33, 3, 19, 2)])
def test_it_equals_loops(shape, channels_last, impl):
    batch, channels, height, width, outputs = shape
    x = torch.randn(batch, channels, height, width, dtype=torch.double)
    weight = torch.randn(channels, outputs, 4, 4, dtype=torch.double)
    want = loops(x, weight)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    got = doubling_convolution(x, weight, impl=impl)
    torch.testing.assert_close(got, want)
    assert doubling_convolution(x, weight).is_contiguous()


def test_half_precision_is_summed_in_single():
    x, weight = torch.ones(1, 4096, 2, 2, dtype=torch.bfloat16), torch.ones(4096, 1, 4, 4)
    got = doubling_convolution(x, weight.bfloat16())
    assert got.dtype == torch.bfloat16
    assert got.max() == 4 * 4096  # bfloat16 would stop at 256
    assert doubling_convolution(x[:, :3], weight[:3]).dtype == torch.float32


@pytest.mark.parametrize(
    ("x", "weight", "words"),
    [
        ((2, 3, 4), (3, 1, 4, 4), r"x must have shape \(B, C, H, W\), .* got \(2, 3, 4\)"),
        ((2, 3, 0, 4), (3, 1, 4, 4), r"x must have shape .*, got \(2, 3, 0, 4\)"),
        (
            (2, 3, 4, 4),
            (2, 1, 4, 4),
            r"weight must have shape \(3, D, 4, 4\), .*got \(2, 1, 4, 4\)",
        ),
        ((2, 3, 4, 4), (3, 1, 3, 3), r"weight must have shape .*, got \(3, 1, 3, 3\)"),
        ((2, 3, 4, 4), (3, 0, 4, 4), r"weight must have shape .*, got \(3, 0, 4, 4\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(x, weight, words):
    with pytest.raises(ValueError, match=words):
        doubling_convolution(torch.zeros(x), torch.zeros(weight))


def test_other_arguments_are_refused():
    with pytest.raises(TypeError, match=r"x must .*got torch\.int64"):
        doubling_convolution(torch.zeros(1, 1, 1, 1, dtype=torch.long), torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match=r"weight must .*got meta"):
        doubling_convolution(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 4, 4, device="meta"))
