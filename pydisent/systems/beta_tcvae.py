"""Chen et al. (2018): a VAE whose total correlation counts β times."""

import math
from dataclasses import dataclass
from typing import cast

from torch import Tensor

from pydisent.losses import total_correlation
from pydisent.reference.density import Estimator
from pydisent.systems._base import register
from pydisent.systems._config import require
from pydisent.systems.vae import VAE, Latents, VAEConfig


@dataclass(frozen=True)
class BetaTCVAEConfig(VAEConfig):
    """`VAEConfig` with β and the estimator.

    Attributes
    ----------
    beta : float
        β, the weight of the total correlation, which has weight 1 in the KL; 1 to 10 in the
        published comparison.
    estimator : str
        "mws", minibatch-weighted sampling, or "mss", minibatch-stratified sampling.
    """

    beta: float = 6.0
    estimator: str = "mws"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, ("beta",), lambda v: 0 <= v < math.inf, ">= 0")
        if self.estimator not in ("mws", "mss"):
            raise ValueError(f"estimator is {self.estimator!r}; accepted: 'mws', 'mss'")


@register
class BetaTCVAE(VAE):
    """Minimise −E_q[log p(x|z)] + KL + (β − 1) TC(z), the TC estimated in the batch.

    The KL's own total correlation makes the weight β; the KL is exact, so only the rest of it is
    estimated (Chen et al., Eq. 4 with α = γ = 1).
    """

    name = "beta-tcvae"
    Config = BetaTCVAEConfig
    config: BetaTCVAEConfig

    def regularizer(self, latents: Latents) -> tuple[Tensor, dict[str, Tensor]]:
        """Return KL + (β − 1) TC.

        Raises
        ------
        ValueError
            If `dataset_size` was not set.
        """
        if self.dataset_size is None:
            raise ValueError(
                "dataset_size is None; accepted: the number of training images, to be set before "
                f"{self.name} is trained"
            )
        c = self.config
        estimator = cast(Estimator, c.estimator)
        tc = total_correlation(
            latents.z, latents.mu, latents.logvar, self.dataset_size, estimator=estimator
        )
        return latents.kl + (c.beta - 1) * tc, {"total_correlation": tc}
