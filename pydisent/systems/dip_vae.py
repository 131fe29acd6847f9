"""Kumar et al. (2018): VAEs that match the codes' covariance to the identity."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pydisent.losses import dip_vae_penalty
from pydisent.systems._config import check_choices, check_numbers
from pydisent.systems._presets import Presets, combine, each
from pydisent.systems._ranges import stage
from pydisent.systems._registry import register
from pydisent.systems._vae_family import Latents, VAEConfig, VAEFamily
from pydisent.systems._vae_presets import QUICK, SMOKE, of_kumar


@dataclass(frozen=True)
class DIPVAE1Config(VAEConfig):
    """`VAEConfig` with the paper's penalty and batch for 2D Shapes (Table 1, sec. 4).

    Attributes
    ----------
    lambda_od : float
        λ_od, the weight of the squared covariances between dimensions.
    diagonal_ratio : float
        λ_d / λ_od, where λ_d is the weight of the variances' squared distances from one; the paper
        fixes it while varying λ_od.
    covariance : str
        Covariance of the posterior means: the "batch"'s, or a "running" estimate (footnote 4), an
        exponential average over batches that starts at the first. Gradients flow through the
        current batch's contribution.
    covariance_decay : float
        Weight of the previous estimate in the next one, in [0, 1); not given in the paper.
    """

    batch_size: int = 400
    lambda_od: float = 10.0
    diagonal_ratio: float = 10.0
    covariance: str = "batch"
    covariance_decay: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "lambda_od", "diagonal_ratio", at_least=0)
        check_numbers(self, "covariance_decay", at_least=0, below=1)
        check_choices(self, covariance=("batch", "running"))

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
        λ_3, the weight of the squared third central moments of the batch; 200 only for 2D Shapes.
    """

    lambda_od: float = 500.0
    diagonal_ratio: float = 1.0
    lambda_3: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "lambda_3", at_least=0)


class _DIPVAE(VAEFamily):
    """A VAE with a penalty on the covariance of its codes."""

    variant: ClassVar[Literal["i", "ii"]]
    config: DIPVAE1Config
    covariance: Tensor
    covariance_share: Tensor

    def __init__(self, config: DIPVAE1Config, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        if config.covariance == "running":
            d = config.latent_size
            self.register_buffer("covariance", torch.zeros(d, d))
            self.register_buffer("covariance_share", torch.ones(()), persistent=False)

    def prepare_step(self) -> None:
        """Write the batch's weight in the running covariance into its buffer."""
        c = self.config
        if c.covariance == "running":
            self.covariance_share.fill_(1 - c.covariance_decay if self.phase_step else 1.0)

    @stage("autoencoder")
    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update encoder and decoder once on images (B, C, H, W)."""
        c, elbo = self.config, self.elbo(batch)
        penalty = dip_vae_penalty(
            elbo.latents.mu,
            elbo.latents.logvar,
            variant=self.variant,
            lambda_od=c.lambda_od,
            lambda_d=c.lambda_d,
            lambda_3=c.lambda_3 if isinstance(c, DIPVAE2Config) else 0.0,
            covariance=self._running(elbo.latents) if c.covariance == "running" else None,
        )
        loss = elbo.reconstruction + (elbo.kl + penalty)
        return self.minimize(loss, elbo, covariance=penalty)

    def _running(self, latents: Latents) -> Tensor:
        """Return the running estimate including this batch, whose contribution has gradients."""
        now = torch.cov(latents.mu.T, correction=0)
        estimate = self.covariance.lerp(now, self.covariance_share)
        self.covariance.copy_(estimate.detach())
        return estimate


@register
class DIPVAE1(_DIPVAE):
    """A VAE with a penalty on the covariance of the posterior means (Kumar et al., Eq. 6)."""

    name = "dip-vae-1"
    variant = "i"
    Config = DIPVAE1Config
    config: DIPVAE1Config
    presets = Presets(
        paper=of_kumar(
            "dsprites",
            "celeba",
            "chair-masks",
            celeba={"lambda_od": 2.0, "diagonal_ratio": 50.0},
        ),
        quick=QUICK.with_settings(lambda_od=1.0),
        smoke=SMOKE,
    )


@register
class DIPVAE2(_DIPVAE):
    """A VAE with a penalty on the covariance of the aggregate posterior (Kumar et al., Eq. 7)."""

    name = "dip-vae-2"
    variant = "ii"
    Config = DIPVAE2Config
    config: DIPVAE2Config
    # 2D Shapes and its rendered counterpart.
    data_settings = combine(VAEFamily.data_settings, each(("dsprites", "sprites"), lambda_3=200.0))
    presets = Presets(
        paper=of_kumar("dsprites", "celeba", celeba={"lambda_od": 80.0, "diagonal_ratio": 0.5}),
        quick=QUICK.with_settings(lambda_od=50.0),
        smoke=SMOKE,
    )
