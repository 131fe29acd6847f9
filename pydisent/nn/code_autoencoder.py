"""Encoders and decoders whose code grows by single units (Lezama 2019, App. A.1 and A.5)."""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

from pydisent._checks import check, check_batch, check_counts
from pydisent.nn.growth import with_more_inputs, with_more_outputs

Head = nn.Linear | nn.Conv2d
Tail = nn.Linear | nn.ConvTranspose2d


class CodeEncoder(nn.Module):
    """Map images (N, C, H, W) to codes (N, h): a trunk and a last layer without activation.

    Made by `mlp_encoder` and `conv_encoder`; `grow` appends one unit to the code.
    """

    def __init__(self, trunk: nn.Module, head: Head) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, x: Tensor) -> Tensor:
        """Return codes (N, h)."""
        code = self.head(self.trunk(x))
        return code.mean((2, 3)) if code.dim() == 4 else code

    def grow(self) -> None:
        """Append a unit to the code; the other units are unchanged."""
        self.head = with_more_outputs(self.head, 1)


class CodeDecoder(nn.Module):
    """Map codes (N, h) to images (N, C, H, W) in [-1, 1]: a first layer and a trunk.

    The trunk ends in tanh. Made by `mlp_decoder` and `conv_decoder`.
    """

    def __init__(self, tail: Tail, trunk: nn.Module, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.tail, self.trunk, self.shape = tail, trunk, shape

    def forward(self, code: Tensor) -> Tensor:
        """Return images (N, C, H, W)."""
        if isinstance(self.tail, nn.ConvTranspose2d):
            check_batch("code", code, self.tail.in_channels)
            return self.trunk(self.tail(code[:, :, None, None]))
        check_batch("code", code, self.tail.in_features)
        return self.trunk(self.tail(code)).unflatten(1, self.shape)

    def grow(self) -> None:
        """Accept a code with one more unit; at zero that unit changes nothing."""
        self.tail = with_more_inputs(self.tail, 1)


def _check_sizes(
    code_size: int, image_shape: tuple[int, int, int], widths: tuple[int, ...]
) -> None:
    check_counts(code_size=code_size)
    check(len(image_shape) == 3, "image_shape", "(C, H, W)", tuple(image_shape))
    for name, sizes in (("image_shape", image_shape), ("widths", widths)):
        for size in sizes:
            check_counts(**{name: size})


def _check_halvings(
    code_size: int, image_shape: tuple[int, int, int], widths: tuple[int, ...]
) -> None:
    _check_sizes(code_size, image_shape, widths)
    check(len(widths) > 0, "widths", "of at least one block", widths)
    divisor = 2 ** len(widths)
    divided = not (image_shape[1] % divisor or image_shape[2] % divisor)
    rule = f"of a height and width divisible by {divisor}, for {len(widths)} blocks"
    check(divided, "image_shape", rule, tuple(image_shape))


def mlp_encoder(
    code_size: int, image_shape: tuple[int, int, int], widths: tuple[int, ...]
) -> CodeEncoder:
    """Return an encoder of dense layers of the given widths, with ReLU.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, or `image_shape` is not three of them.
    """
    _check_sizes(code_size, image_shape, widths)
    sizes = (math.prod(image_shape), *widths)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in zip(sizes, widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return CodeEncoder(nn.Sequential(*layers), nn.Linear(sizes[-1], code_size))


def mlp_decoder(
    code_size: int, image_shape: tuple[int, int, int], widths: tuple[int, ...]
) -> CodeDecoder:
    """Return `mlp_encoder` mirrored, with tanh at the end.

    Raises
    ------
    ValueError, TypeError
        As for `mlp_encoder`.
    """
    _check_sizes(code_size, image_shape, widths)
    sizes = (*widths[::-1], math.prod(image_shape))
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.ReLU(), nn.Linear(inputs, outputs)]
    tail = nn.Linear(code_size, sizes[0])
    return CodeDecoder(tail, nn.Sequential(*layers, nn.Tanh()), image_shape)


def conv_encoder(
    code_size: int, image_shape: tuple[int, int, int], widths: tuple[int, ...]
) -> CodeEncoder:
    """Return an encoder of 3×3 convolutions, ReLU and average pooling, one block per width.

    The last convolution has one map per unit of the code, averaged over the remaining pixels.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, `image_shape` is not three of them, there are no widths,
        or height or width is not divisible by 2 per width.
    """
    _check_halvings(code_size, image_shape, widths)
    layers: list[nn.Module] = []
    for inputs, outputs in zip((image_shape[0], *widths), widths):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
    return CodeEncoder(nn.Sequential(*layers), nn.Conv2d(widths[-1], code_size, 3, padding=1))


def conv_decoder(
    code_size: int, image_shape: tuple[int, int, int], widths: tuple[int, ...]
) -> CodeDecoder:
    """Return a decoder of transposed convolutions: one to a small square, then 4×4 of stride 2.

    `widths` are those of `conv_encoder`; ReLU comes between the layers, and tanh at the end.

    Raises
    ------
    ValueError, TypeError
        As for `conv_encoder`, or if images are not square.
    """
    _check_halvings(code_size, image_shape, widths)
    check(image_shape[1] == image_shape[2], "image_shape", "square", tuple(image_shape))
    side = image_shape[1] >> len(widths)
    sizes = (*widths[::-1], image_shape[0])
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.ReLU(), nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)]
    tail = nn.ConvTranspose2d(code_size, sizes[0], side)
    return CodeDecoder(tail, nn.Sequential(*layers, nn.Tanh()), image_shape)
