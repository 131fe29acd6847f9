"""Higgins et al. (2017): a VAE whose KL is weighted by β."""

from dataclasses import dataclass

from torch import Tensor

from pydisent.systems._config import check_numbers
from pydisent.systems._ranges import stage
from pydisent.systems._registry import register
from pydisent.systems._vae_family import VAEConfig, VAEFamily


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
        check_numbers(self, "beta", at_least=0)


@register
class BetaVAE(VAEFamily):
    """Minimise −E_q[log p(x|z)] + β KL(q(z|x) ‖ N(0, I)) (Kumar et al., Eq. 8)."""

    name = "beta-vae"
    Config = BetaVAEConfig
    config: BetaVAEConfig

    @stage("autoencoder")
    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update encoder and decoder once on images (B, C, H, W)."""
        elbo = self.elbo(batch)
        return self.minimize(elbo.reconstruction + self.config.beta * elbo.kl, elbo)
