"""Spectral weight normalisation with learned scales (Miyato et al., 2018)."""

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm


class _Scale(nn.Module):
    """A learned scale of a layer's weight."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale)

    def forward(self, weight: Tensor) -> Tensor:
        return self.scale * weight


def normalize_spectrally(network: nn.Module) -> None:
    """Replace every weight by g V / σ(V), in place, with a learned scale g per layer.

    σ(V) is the largest singular value of a linear layer's or convolution's weight, as a matrix with
    one row per output, estimated by one power iteration per use in training mode. V starts at the
    weight, stripped of any other norm, and g at its σ, so that the layer is unchanged.

    Parameters
    ----------
    network : nn.Module
        A network; all its `nn.Linear`, `nn.Conv2d` and `nn.ConvTranspose2d` are normalised.
    """
    for layer in list(network.modules()):
        if not isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        training, before = layer.training, layer.weight.detach().norm()
        spectral_norm(layer.eval())
        scale = before / layer.weight.detach().norm()
        parametrize.register_parametrization(layer, "weight", _Scale(scale))
        layer.train(training)
