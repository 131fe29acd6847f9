"""The translated PReLU of Xiang & Li (2017), as used by Ramesh et al. (App. C)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pydisent._checks import check_counts, check_number, shape_error


def _translated_prelu(x: Tensor, leak: Tensor, threshold: Tensor) -> Tensor:
    # Equals where(x >= c, x, a(x − c) + c), but is several times faster on a CPU.
    c = threshold.view((1, -1) + (1,) * (x.dim() - 2))
    return F.prelu(x - c, leak) + c


class TranslatedPReLU(nn.Module):
    """Map x to x where x ≥ c and to a(x − c) + c elsewhere, with learned a and c per channel.

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
    ValueError, TypeError
        If `channels` is not an integer >= 1, `leak` not a number in [0, 1], or `threshold` not a
        finite number.
    """

    def __init__(self, channels: int, leak: float = 0.25, threshold: float = 0.0):
        super().__init__()
        check_counts(channels=channels)
        check_number("leak", leak, at_least=0, at_most=1)
        check_number("threshold", threshold)
        self.initial_leak = float(leak)
        self.leak = nn.Parameter(torch.full((channels,), float(leak)))
        self.threshold = nn.Parameter(torch.full((channels,), float(threshold)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, ...) to the same shape."""
        channels = self.leak.numel()
        if x.dim() < 2 or x.shape[1] != channels:  # else it would be broadcast
            raise shape_error("x", f"(B, {channels}, ...)", x)
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
