"""Kumar et al. (2018): VAEs whose codes' covariance is pulled to the identity."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from pydisent.losses import dip_vae_penalty
from pydisent.systems._base import register
from pydisent.systems._config import require
from pydisent.systems.vae import VAE, Latents, VAEConfig


@dataclass(frozen=True)
class DIPVAE1Config(VAEConfig):
    """`VAEConfig` with the paper's penalty and batch for 2D Shapes (Table 1, sec. 4).

    Attributes
    ----------
    lambda_od : float
        λ_od, the weight of the squared covariances of two dimensions.
    diagonal_ratio : float
        λ_d / λ_od, λ_d being the weight of the squared distances of variances from one; the
        paper varies λ_od and keeps this.
    """

    batch_size: int = 400
    lambda_od: float = 10.0
    diagonal_ratio: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, ("lambda_od", "diagonal_ratio"), lambda v: 0 <= v < math.inf, ">= 0")

    @property
    def lambda_d(self) -> float:
        """Return λ_d."""
        return self.diagonal_ratio * self.lambda_od


@register
class DIPVAE1(VAE):
    """A VAE with a penalty on the covariance of the posteriors' means (Kumar et al., Eq. 6)."""

    name = "dip-vae-1"
    Config = DIPVAE1Config
    config: DIPVAE1Config
    strengths: ClassVar[dict[str, dict[str, Any]]] = {"quick": {"lambda_od": 1.0}}
    published_for: ClassVar[dict[str, dict[str, Any]]] = {
        "celeba": {"batch_size": 100, "lambda_od": 2.0, "diagonal_ratio": 50.0}
    }

    def regularizer(self, latents: Latents) -> tuple[Tensor, dict[str, Tensor]]:
        """Return KL + the penalty."""
        penalty = self.penalty(latents)
        return latents.kl + penalty, {"covariance": penalty}

    def penalty(self, latents: Latents) -> Tensor:
        """Return the weighted penalty, a scalar."""
        c = self.config
        return dip_vae_penalty(latents.mu, variant="i", lambda_od=c.lambda_od, lambda_d=c.lambda_d)


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
        require(self, ("lambda_3",), lambda v: 0 <= v < math.inf, ">= 0")


@register
class DIPVAE2(DIPVAE1):
    """A VAE with a penalty on the covariance of the codes themselves (Kumar et al., Eq. 7)."""

    name = "dip-vae-2"
    Config = DIPVAE2Config
    config: DIPVAE2Config
    strengths: ClassVar[dict[str, dict[str, Any]]] = {"quick": {"lambda_od": 50.0}}
    published_for: ClassVar[dict[str, dict[str, Any]]] = {
        "celeba": {"batch_size": 100, "lambda_od": 80.0, "diagonal_ratio": 0.5, "lambda_3": 0.0}
    }

    def penalty(self, latents: Latents) -> Tensor:
        """Return the weighted penalty, a scalar."""
        c = self.config
        return dip_vae_penalty(
            latents.mu,
            latents.logvar,
            variant="ii",
            lambda_od=c.lambda_od,
            lambda_d=c.lambda_d,
            lambda_3=c.lambda_3,
        )
