"""Weight initialisation, in place."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

_LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def glorot_(network: nn.Module) -> None:
    """Draw the weights by Glorot & Bengio's uniform rule and zero the biases, in place.

    PyTorch's default shrinks the signal at each layer: a VAE then starts with collapsed codes, and
    needs hundreds of extra updates to recover.
    """
    _initialize(network, nn.init.xavier_uniform_)


def normal_(network: nn.Module) -> None:
    """Draw the weights from N(0, 0.02²), DCGAN's rule, and zero the biases, in place."""
    _initialize(network, lambda weight: nn.init.normal_(weight, std=0.02))


def orthogonal_(network: nn.Module) -> None:
    """Draw orthogonal weights (Saxe et al., 2014) and zero the biases, in place."""
    _initialize(network, nn.init.orthogonal_)


def _initialize(network: nn.Module, rule: Callable[[Tensor], Any]) -> None:
    for layer in network.modules():
        if isinstance(layer, _LAYERS):
            rule(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
