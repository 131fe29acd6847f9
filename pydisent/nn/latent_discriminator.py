"""The discriminator of latent codes of FactorVAE (Kim & Mnih, 2018)."""

from torch import nn

from pydisent.nn._init import glorot_


class LatentDiscriminator(nn.Sequential):
    """Map codes (B, latent_size) to two logits (B, 2): of a joint draw and of a permuted one.

    Dense layers with leaky ReLU (0.2). After training, logit 0 − logit 1 estimates
    log q(z) − log ∏_d q(z_d), whose mean is the total correlation.

    Parameters
    ----------
    latent_size : int
        Size of the code.
    width, layers : int
        Units of a hidden layer, and hidden layers; 1000 and 6 as published.

    Raises
    ------
    ValueError
        If a size is below one.
    """

    def __init__(self, latent_size: int, width: int = 1000, layers: int = 6) -> None:
        for name, value in (("latent_size", latent_size), ("width", width), ("layers", layers)):
            if value < 1:
                raise ValueError(f"{name} is {value}; accepted: an integer >= 1")
        hidden: list[nn.Module] = []
        for i in range(layers):
            hidden += [nn.Linear(width if i else latent_size, width), nn.LeakyReLU(0.2)]
        super().__init__(*hidden, nn.Linear(width, 2))
        glorot_(self)
