"""Initial weights."""

from torch import nn

_LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def glorot_(network: nn.Module) -> None:
    """Draw the weights by Glorot & Bengio's uniform rule and set the biases to zero, in place.

    torch's own rule shrinks the signal by each layer; VAEs then begin with collapsed codes and
    leave them late, by hundreds of updates.
    """
    for layer in network.modules():
        if isinstance(layer, _LAYERS):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
