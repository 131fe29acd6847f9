"""Chen et al. (2018): a VAE whose total correlation is weighted by β."""

from dataclasses import dataclass
from typing import cast

from torch import Tensor

from pydisent._checks import check
from pydisent.losses import total_correlation
from pydisent.reference.density import Estimator
from pydisent.systems._config import check_choices, check_numbers
from pydisent.systems._presets import Presets
from pydisent.systems._ranges import stage
from pydisent.systems._registry import register
from pydisent.systems._vae_family import VAEConfig, VAEFamily
from pydisent.systems._vae_presets import QUICK, SMOKE, of_locatello


@dataclass(frozen=True)
class BetaTCVAEConfig(VAEConfig):
    """`VAEConfig` plus β and the estimator.

    Attributes
    ----------
    beta : float
        β, the weight of the total correlation, which is 1 in the KL; 1 to 10 in the published
        comparison.
    estimator : str
        "mws", minibatch-weighted sampling, or "mss", minibatch-stratified sampling.
    """

    beta: float = 6.0
    estimator: str = "mws"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "beta", at_least=0)
        check_choices(self, estimator=("mws", "mss"))


@register
class BetaTCVAE(VAEFamily):
    """Minimise −E_q[log p(x|z)] + KL + (β − 1) TC(z), with the TC estimated from the batch.

    The KL contains the total correlation once, which makes its weight β. The KL is exact; only the
    remainder is estimated (Chen et al., Eq. 4 with α = γ = 1).
    """

    name = "beta-tcvae"
    Config = BetaTCVAEConfig
    config: BetaTCVAEConfig
    presets = Presets(paper=of_locatello("β = 6, of its 1 to 10"), quick=QUICK, smoke=SMOKE)

    @stage("autoencoder")
    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update encoder and decoder once on images (B, C, H, W).

        Raises
        ------
        ValueError
            If `dataset_size` is not set.
        """
        elbo = self.elbo(batch)
        tc = self._total_correlation(elbo.latents.z, elbo.latents.mu, elbo.latents.logvar)
        regularizer = elbo.kl + (self.config.beta - 1) * tc
        return self.minimize(elbo.reconstruction + regularizer, elbo, total_correlation=tc)

    def _total_correlation(self, z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        size = self.dataset_size
        check(size is not None, "dataset_size", "set to the number of training images", size)
        estimator = cast(Estimator, self.config.estimator)
        return total_correlation(z, mu, logvar, cast(int, size), estimator=estimator)
