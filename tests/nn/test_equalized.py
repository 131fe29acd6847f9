import pytest
import torch
from torch.nn import functional as F

from pydisent.nn import EqualizedConv2d, EqualizedLinear


def test_linear_equals_its_definition():
    torch.manual_seed(0)
    layer = EqualizedLinear(9, 4, bias_init=0.5).double()
    x = torch.randn(5, 2, 9, dtype=torch.float64)
    expected = torch.einsum("...i,oi->...o", x, layer.weight) / 3 + 0.5
    torch.testing.assert_close(layer(x), expected)
    plain = EqualizedLinear(9, 4, bias=False)
    assert [name for name, _ in plain.named_parameters()] == ["weight"]


@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 1, None), (1, 1, None), (4, 2, 1)])
def test_convolution_equals_its_definition(size, stride, padding):
    torch.manual_seed(1)
    layer = EqualizedConv2d(4, 3, size, stride=stride, padding=padding).double()
    with torch.no_grad():
        layer.bias.normal_()
    x = torch.randn(2, 4, 8, 6, dtype=torch.float64)
    around = size // 2 if padding is None else padding
    patches = F.unfold(x, size, padding=around, stride=stride)
    weight = layer.weight.flatten(1) / (4 * size**2) ** 0.5
    expected = weight @ patches + layer.bias[:, None]
    torch.testing.assert_close(layer(x).flatten(2), expected)
    if stride == 1:
        assert layer(x).shape[2:] == x.shape[2:]


def test_a_signal_keeps_its_variance_at_any_width():
    torch.manual_seed(2)
    for width in (16, 400):
        y = EqualizedLinear(width, 300)(torch.randn(500, width))
        assert float(y.detach().std()) == pytest.approx(1, rel=0.1)
        assert float(EqualizedLinear(width, 300).weight.detach().std()) == pytest.approx(1, rel=0.1)
    y = EqualizedConv2d(64, 16, 3, padding=0)(torch.randn(8, 64, 8, 8))
    assert float(y.detach().std()) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: EqualizedLinear(0, 3), ValueError, "in_features must be .*, got 0"),
        (lambda: EqualizedLinear(3, 1.5), TypeError, "out_features must be .*, got 1.5"),
        (lambda: EqualizedConv2d(3, -1, 3), ValueError, "out_channels must be .*, got -1"),
        (lambda: EqualizedConv2d(3, 4, 0), ValueError, "kernel_size must be .*, got 0"),
        (lambda: EqualizedConv2d(3, 4, 3, stride=0), ValueError, "stride must be .*, got 0"),
        (lambda: EqualizedConv2d(3, 4, 3, padding=-1), ValueError, "padding must be .*, got -1"),
        (lambda: EqualizedConv2d(3, 4, 3, padding=0.5), TypeError, "padding must be .*, got 0.5"),
        (
            lambda: EqualizedConv2d(3, 4, 3, padding="same"),
            TypeError,
            "padding must be .*, got 'same'",
        ),
    ],
)
def test_bad_sizes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
