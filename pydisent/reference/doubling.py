"""The transposed convolution that doubles an image's resolution, and its gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pydisent.reference.dtypes import without_autocast


def doubling_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """conv_transpose2d(x, weight) of stride 2 and padding 1, for a 4×4 kernel (C, D, 4, 4)."""
    with without_autocast(x):
        if x.dtype == torch.float16 and x.device.type == "cpu":  # torch would sum in half precision
            return F.conv_transpose2d(x.float(), weight.float(), None, 2, 1).to(x.dtype)
        return F.conv_transpose2d(x, weight, None, 2, 1)


def kernel_gradient(features: Tensor, images: Tensor, weight: Tensor) -> Tensor:
    """Gradient of a weight (C, D, 4, 4) between features (B, C, H, W) and images of twice the size.

    It serves the transposed convolution that doubles features, given the images' cotangent, and the
    convolution that halves images, given the features'.
    """
    return torch.ops.aten.convolution_backward(
        features, images, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1,
        [False, True, False],
    )[1]  # fmt: skip


def doubling_gradients(
    x: Tensor, weight: Tensor, grad: Tensor, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x and the weight, where needed, from the convolution that the op transposes.

    They are composed of plain operations, so second derivatives exist.
    """
    with without_autocast(x):
        source = F.conv2d(grad, weight, None, 2, 1) if needs[0] else None
        return source, kernel_gradient(x, grad, weight) if needs[1] else None
