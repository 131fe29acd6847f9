"""Initial weights."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

_LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def glorot_(network: nn.Module) -> None:
    """Draw the weights by Glorot & Bengio's uniform rule and set the biases to zero, in place.

    torch's own rule shrinks the signal by each layer; VAEs then begin with collapsed codes and
    leave them late, by hundreds of updates.
    """
    _draw(network, nn.init.xavier_uniform_)


def normal_(network: nn.Module) -> None:
    """Draw the weights from N(0, 0.02²), DCGAN's rule, and set the biases to zero, in place."""
    _draw(network, lambda weight: nn.init.normal_(weight, std=0.02))


def orthogonal_(network: nn.Module) -> None:
    """Draw orthogonal weights (Saxe et al., 2014) and set the biases to zero, in place."""
    _draw(network, nn.init.orthogonal_)


def _draw(network: nn.Module, rule: Callable[[Tensor], Any]) -> None:
    for layer in network.modules():
        if isinstance(layer, _LAYERS):
            rule(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
