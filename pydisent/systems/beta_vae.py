"""Higgins et al. (2017): a VAE whose KL counts β times."""

import math
from dataclasses import dataclass

from torch import Tensor

from pydisent.systems._base import register
from pydisent.systems._config import require
from pydisent.systems.vae import VAE, Latents, VAEConfig


@dataclass(frozen=True)
class BetaVAEConfig(VAEConfig):
    """`VAEConfig` with β.

    Attributes
    ----------
    beta : float
        β, the weight of the KL; Kumar et al. report 4 and 60 on dSprites.
    """

    beta: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, ("beta",), lambda v: 0 <= v < math.inf, ">= 0")


@register
class BetaVAE(VAE):
    """Minimise −E_q[log p(x|z)] + β KL(q(z|x) ‖ N(0, I)) (Kumar et al., Eq. 8)."""

    name = "beta-vae"
    Config = BetaVAEConfig
    config: BetaVAEConfig

    def regularizer(self, latents: Latents) -> tuple[Tensor, dict[str, Tensor]]:
        """Return β KL."""
        return self.config.beta * latents.kl, {}
