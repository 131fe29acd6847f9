"""Spectral weight normalisation with learned scales (Miyato et al., 2018)."""

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from pydisent._checks import check
from pydisent.nn.growth import check_plain

_LEAST = 1e-10  # of a weight's norm


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

    Raises
    ------
    ValueError, TypeError
        If a weight is zero, and so has no direction, or is not a parameter, as under the hooks of
        ``torch.nn.utils.weight_norm``; the network is then unchanged.
    """
    layers = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    }
    for name, layer in layers.items():
        if not parametrize.is_parametrized(layer, "weight"):
            check_plain(layer, name or "network")
        # Below this, the power iteration's own bound on norms would take over.
        check(
            bool(layer.weight.detach().norm() > _LEAST),
            f"{name or 'network'}.weight",
            f"of norm > {_LEAST}, as a direction needs",
            f"{layer.weight.detach().norm():.3g}",
        )
    for layer in layers.values():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        training, before = layer.training, layer.weight.detach().norm()
        trained = layer.weight.requires_grad
        spectral_norm(layer.eval())
        scale = _Scale(before / layer.weight.detach().norm()).requires_grad_(trained)
        parametrize.register_parametrization(layer, "weight", scale)
        layer.train(training)
