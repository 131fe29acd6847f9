"""Kim & Mnih (2018): a VAE whose total correlation a discriminator estimates."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from pydisent import parallel
from pydisent.nn import LatentDiscriminator
from pydisent.systems._base import frozen, register
from pydisent.systems._config import require, require_one_of
from pydisent.systems._ranges import stage
from pydisent.systems.vae import VAE, Latents, VAEConfig


@dataclass(frozen=True)
class FactorVAEConfig(VAEConfig):
    """`VAEConfig` with γ and the discriminator.

    Attributes
    ----------
    gamma : float
        γ, the weight of the total correlation; 10 to 100 in the published comparison, 35 in the
        paper's on dSprites.
    permuted_batch : str
        Where the permuted codes come from: a "second" batch of images, as in the paper, or the
        "same" one, as in disentanglement_lib.
    discriminator_width, discriminator_layers : int
        Units of a hidden layer, and hidden layers.
    discriminator_learning_rate, discriminator_beta1, discriminator_beta2 : float
        Adam's, of the discriminator.
    """

    gamma: float = 35.0
    permuted_batch: str = "second"
    discriminator_width: int = 1000
    discriminator_layers: int = 6
    discriminator_learning_rate: float = 1e-4
    discriminator_beta1: float = 0.5
    discriminator_beta2: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        # The permuted codes of one image are its codes.
        require(self, ("batch_size",), lambda v: v >= 2, ">= 2")
        require(self, ("gamma",), lambda v: 0 <= v < math.inf, ">= 0")
        require(self, ("discriminator_width",), lambda v: v >= 1, ">= 1")
        require(self, ("discriminator_layers",), lambda v: 1 <= v <= 1000, "between 1 and 1000")
        require(self, ("discriminator_learning_rate",), lambda v: 0 < v < math.inf, "> 0")
        betas = ("discriminator_beta1", "discriminator_beta2")
        require(self, betas, lambda v: 0 <= v < 1, "in [0, 1)")
        require_one_of(self, "permuted_batch", ("second", "same"))


@register
class FactorVAE(VAE):
    """Minimise −E_q[log p(x|z)] + KL + γ TC(z), a discriminator D estimating the TC.

    D tells codes from codes permuted in each dimension over the batch; the mean of its log-odds
    on codes estimates the total correlation (Kim & Mnih, Eqs. 2, 3 and Alg. 2).
    """

    name = "factor-vae"
    Config = FactorVAEConfig
    config: FactorVAEConfig
    strengths: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {
            "gamma": 10.0,
            "discriminator_width": 200,
            "discriminator_layers": 4,
            "discriminator_learning_rate": 1e-3,
        },
        "smoke": {"discriminator_width": 16, "discriminator_layers": 2},
    }

    def __init__(self, config: FactorVAEConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        c = config
        self.discriminator = LatentDiscriminator(
            c.latent_size, c.discriminator_width, c.discriminator_layers
        )

    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return Adam for the autoencoder, and for the discriminator."""
        c = self.config
        adam = torch.optim.Adam(
            self.discriminator.parameters(),
            c.discriminator_learning_rate,
            betas=(c.discriminator_beta1, c.discriminator_beta2),
            fused=True,
        )
        return {**super().make_optimizers(), "discriminator": adam}

    @property
    def batches_per_step(self) -> int:
        """Return how many batches `step` takes: two if the permuted codes have their own."""
        return 2 if self.config.permuted_batch == "second" else 1

    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update the autoencoder once, then the discriminator.

        Raises
        ------
        ValueError
            If the images are not two batches of one size, where `permuted_batch` is "second".
        """
        second_batch = self.config.permuted_batch == "second"
        if second_batch and (len(batch) < 2 or len(batch) % 2):
            raise ValueError(
                f"batch has {len(batch)} image{'s' * (len(batch) != 1)}; accepted: an even number "
                ">= 2, as permuted_batch is 'second'"
            )
        first, second = batch.chunk(2) if second_batch else (batch, None)
        latents, logs = self.update_autoencoder(first)
        codes = others = latents.z.detach()
        if second is not None:
            with torch.no_grad():
                others = self.draw_latents(second).z
        return logs | self.update_discriminator(codes, others)

    def regularizer(self, latents: Latents) -> tuple[Tensor, dict[str, Tensor]]:
        """Return KL + γ TC."""
        with frozen(self.discriminator):
            # The discriminator looks at each code alone: every process has only to pass its own.
            joint, permuted = self.discriminator(parallel.own_rows(latents.z)).unbind(1)
        tc = (joint - permuted).mean()
        return latents.kl + self.config.gamma * tc, {"total_correlation": tc}

    @stage("discriminator")
    def update_discriminator(self, codes: Tensor, others: Tensor) -> dict[str, Tensor]:
        """Teach the discriminator to tell `codes` from `others` permuted, (B, d) each."""
        permuted = parallel.own_rows(permute_dimensions(parallel.gather(others)))
        logits = self.discriminator(torch.cat([codes, permuted]))
        truth = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        truth[len(codes) :] = 1
        loss = F.cross_entropy(logits, truth)
        self.descend(loss, "discriminator")
        return {"discriminator": loss.detach()}


def permute_dimensions(z: Tensor) -> Tensor:
    """Return codes (B, d) with each dimension permuted over the batch on its own (Alg. 1)."""
    order = torch.rand(z.shape, device=z.device).argsort(0)
    return z.gather(0, order)
