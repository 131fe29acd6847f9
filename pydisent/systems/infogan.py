"""InfoGAN (Chen et al. 2016) as Jeon et al. (2021) compare with it."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from pydisent.systems._base import register
from pydisent.systems._config import require
from pydisent.systems.gan import GAN, GANConfig


@dataclass(frozen=True)
class InfoGANConfig(GANConfig):
    """`GANConfig` with γ.

    Attributes
    ----------
    gamma : float
        γ, the weight of the generator's adversarial loss against the mutual information.
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, ("gamma",), lambda v: 0 <= v < math.inf, ">= 0")


@register
class InfoGAN(GAN):
    """Minimise γ E[softplus(−D(G(z)))] − I^L(z, G(z)) over G and Q (Jeon et al., Eq. 2).

    I^L = E[‖z‖² − ‖z − Q(G(z))‖²]/2 is a lower bound of the mutual information (Eq. 7). As in the
    paper z ~ N(0, I) is all that G gets: no part of the code is noise.
    """

    name = "infogan"
    Config = InfoGANConfig
    config: InfoGANConfig
    published_for: ClassVar[dict[str, dict[str, Any]]] = {
        "chairs": {"gamma": 1.2},
        "celeba": {"gamma": 2.0},
    }

    def objectives(self, terms: dict[str, Tensor]) -> dict[tuple[str, ...], Tensor]:
        """Return what the optimisers minimise, of the terms that are logged."""
        return {
            ("discriminator",): terms["discriminator"],
            ("generator", "reconstructor"): self.generative_loss(terms),
        }

    def generative_loss(self, terms: dict[str, Tensor]) -> Tensor:
        """Return what generator and reconstructor minimise."""
        return self.config.gamma * terms["generator"] - terms["mi_lower"]
