"""The translated PReLU of Xiang & Li (2017), as used by Ramesh et al. (App. C)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _translated_prelu(x: Tensor, leak: Tensor, threshold: Tensor) -> Tensor:
    # The same function as where(x >= c, x, a(x − c) + c), several times faster on a CPU.
    c = threshold.view((1, -1) + (1,) * (x.dim() - 2))
    return F.prelu(x - c, leak) + c


class TranslatedPReLU(nn.Module):
    """Return x where x ≥ c and a(x − c) + c elsewhere, with learned a and c per channel.

    Parameters
    ----------
    channels : int
        Size of axis 1 of the input (B, channels, ...).
    leak : float
        Initial a, in [0, 1].
    threshold : float
        Initial c, in the input's units.

    Raises
    ------
    ValueError
        If `channels` is below one or `leak` lies outside [0, 1].
    """

    def __init__(self, channels: int, leak: float = 0.25, threshold: float = 0.0):
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels is {channels}; accepted: an integer >= 1")
        if not 0.0 <= leak <= 1.0:
            raise ValueError(f"leak is {leak}; accepted: a number in [0, 1]")
        self.initial_leak = float(leak)
        self.leak = nn.Parameter(torch.full((channels,), float(leak)))
        self.threshold = nn.Parameter(torch.full((channels,), float(threshold)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, ...) to the same shape."""
        return _translated_prelu(x, self.leak, self.threshold)

    @torch.no_grad()
    def clip_leaks_(self) -> None:
        """Clip the leaks to [0, 1] in place, as the paper does after every update."""
        self.leak.clamp_(0.0, 1.0)

    def extra_repr(self) -> str:
        """Return the number of channels."""
        return f"{self.leak.numel()}"


def clip_leaks_(module: nn.Module) -> None:
    """Clip the leaks of every `TranslatedPReLU` inside `module` to [0, 1], in place."""
    for layer in module.modules():
        if isinstance(layer, TranslatedPReLU):
            layer.clip_leaks_()
