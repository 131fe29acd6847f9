"""The memory layout in which convolutions are fastest on the CPU, and in bf16 on a GPU."""

import torch
from torch import nn


def channels_last_(network: nn.Module) -> None:
    """Lay out the weights of convolutions channels-last, in place; what they compute follows.

    With one input channel memory is the same in both layouts, and torch leaves the strides as they
    are, from which it then chooses the slow one: for this layer, and for what meets its output.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for weight in network.parameters():
        if weight.dim() == 4 and weight.shape[1] == 1:
            height, width = weight.shape[2:]
            weight.data = weight.data.as_strided(weight.shape, (height * width, 1, width, 1))
