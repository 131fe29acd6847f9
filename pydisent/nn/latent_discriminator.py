"""FactorVAE's discriminator of latent codes (Kim & Mnih, 2018)."""

from torch import nn

from pydisent._checks import check_counts
from pydisent.nn.initialization import glorot_


class LatentDiscriminator(nn.Sequential):
    """Map codes (B, latent_size) to two logits (B, 2), for joint draws and for permuted ones.

    Dense layers with leaky ReLU (0.2). After training, logit 0 − logit 1 estimates
    log q(z) − log ∏_d q(z_d), whose mean is the total correlation.

    Parameters
    ----------
    latent_size : int
        Size of the code.
    width, layers : int
        Units per hidden layer, and number of hidden layers; 1000 and 6 as published.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1.
    """

    def __init__(self, latent_size: int, width: int = 1000, layers: int = 6) -> None:
        check_counts(latent_size=latent_size, width=width, layers=layers)
        hidden: list[nn.Module] = []
        for i in range(layers):
            hidden += [nn.Linear(width if i else latent_size, width), nn.LeakyReLU(0.2)]
        super().__init__(*hidden, nn.Linear(width, 2))
        glorot_(self)
