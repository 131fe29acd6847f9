"""Kumar et al. (2018): VAEs that match the codes' covariance to the identity."""

from dataclasses import dataclass, replace

from torch import Tensor

from pydisent.losses import dip_vae_penalty
from pydisent.systems._config import check_numbers
from pydisent.systems._presets import Presets
from pydisent.systems._ranges import stage
from pydisent.systems._registry import register
from pydisent.systems._vae_family import PAPER, QUICK, SMOKE, VAEConfig, VAEFamily


@dataclass(frozen=True)
class DIPVAE1Config(VAEConfig):
    """`VAEConfig` with the paper's penalty and batch for 2D Shapes (Table 1, sec. 4).

    Attributes
    ----------
    lambda_od : float
        λ_od, the weight of the squared covariances of two dimensions.
    diagonal_ratio : float
        λ_d / λ_od, where λ_d is the weight of the variances' squared distances from one; the
        paper keeps it while varying λ_od.
    """

    batch_size: int = 400
    lambda_od: float = 10.0
    diagonal_ratio: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "lambda_od", "diagonal_ratio", at_least=0)

    @property
    def lambda_d(self) -> float:
        """Return λ_d."""
        return self.diagonal_ratio * self.lambda_od


@dataclass(frozen=True)
class DIPVAE2Config(DIPVAE1Config):
    """`VAEConfig` with the paper's penalty and batch for 2D Shapes (Table 1, sec. 4).

    Attributes
    ----------
    lambda_od, diagonal_ratio : float
        As for `DIPVAE1Config`; the paper reports λ_od 5 and 500.
    lambda_3 : float
        λ_3, the weight of the squared third central moments.
    """

    lambda_od: float = 500.0
    diagonal_ratio: float = 1.0
    lambda_3: float = 200.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "lambda_3", at_least=0)


_CELEBA_1 = {"batch_size": 100, "lambda_od": 2.0, "diagonal_ratio": 50.0}
_CELEBA_2 = {"batch_size": 100, "lambda_od": 80.0, "diagonal_ratio": 0.5, "lambda_3": 0.0}


@register
class DIPVAE1(VAEFamily):
    """A VAE with a penalty on the covariance of the posterior means (Kumar et al., Eq. 6)."""

    name = "dip-vae-1"
    Config = DIPVAE1Config
    config: DIPVAE1Config
    presets = Presets(
        paper=replace(PAPER, by_data={"celeba": {"settings": _CELEBA_1}}),
        quick=QUICK.with_settings(lambda_od=1.0),
        smoke=SMOKE,
    )

    @stage("autoencoder")
    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update encoder and decoder once on images (B, C, H, W)."""
        c, elbo = self.config, self.elbo(batch)
        penalty = dip_vae_penalty(
            elbo.latents.mu, variant="i", lambda_od=c.lambda_od, lambda_d=c.lambda_d
        )
        loss = elbo.reconstruction + (elbo.kl + penalty)
        return self.minimize(loss, elbo, covariance=penalty)


@register
class DIPVAE2(VAEFamily):
    """A VAE with a penalty on the covariance of the aggregate posterior (Kumar et al., Eq. 7)."""

    name = "dip-vae-2"
    Config = DIPVAE2Config
    config: DIPVAE2Config
    presets = Presets(
        paper=replace(PAPER, by_data={"celeba": {"settings": _CELEBA_2}}),
        quick=QUICK.with_settings(lambda_od=50.0),
        smoke=SMOKE,
    )

    @stage("autoencoder")
    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update encoder and decoder once on images (B, C, H, W)."""
        c, elbo = self.config, self.elbo(batch)
        penalty = dip_vae_penalty(
            elbo.latents.mu,
            elbo.latents.logvar,
            variant="ii",
            lambda_od=c.lambda_od,
            lambda_d=c.lambda_d,
            lambda_3=c.lambda_3,
        )
        loss = elbo.reconstruction + (elbo.kl + penalty)
        return self.minimize(loss, elbo, covariance=penalty)
