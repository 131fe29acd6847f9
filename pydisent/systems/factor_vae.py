"""Kim & Mnih (2018): a VAE whose total correlation is estimated by a discriminator."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from pydisent import parallel
from pydisent._checks import check, check_integer
from pydisent.nn import LatentDiscriminator
from pydisent.systems._config import check_choices, check_integers, check_numbers
from pydisent.systems._modes import frozen
from pydisent.systems._optimizers import adam, parameters
from pydisent.systems._presets import Presets
from pydisent.systems._ranges import stage
from pydisent.systems._registry import register
from pydisent.systems._vae_family import VAEConfig, VAEFamily
from pydisent.systems._vae_presets import QUICK, SMOKE, of_locatello


@dataclass(frozen=True)
class FactorVAEConfig(VAEConfig):
    """`VAEConfig` plus γ and the discriminator.

    Attributes
    ----------
    gamma : float
        γ, the weight of the total correlation; 10 to 100 in the published comparison, 35 in the
        paper on dSprites.
    permuted_batch : str
        The source of the permuted codes: a "second" batch of images, as in the paper, or the
        "same" one, as in disentanglement_lib.
    discriminator_width, discriminator_layers : int
        Units per hidden layer, and number of hidden layers.
    discriminator_learning_rate, discriminator_beta1, discriminator_beta2 : float
        The discriminator's Adam.
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
        # A single image's permuted codes are its codes.
        check_integers(self, "batch_size", at_least=2)
        check_numbers(self, "gamma", at_least=0)
        check_integers(self, "discriminator_width")
        check_integer("discriminator_layers", self.discriminator_layers, at_least=1, at_most=1000)
        check_numbers(self, "discriminator_learning_rate", above=0)
        check_numbers(self, "discriminator_beta1", "discriminator_beta2", at_least=0, below=1)
        check_choices(self, permuted_batch=("second", "same"))


@register
class FactorVAE(VAEFamily):
    """Minimise −E_q[log p(x|z)] + KL + γ TC(z), with the TC estimated by a discriminator D.

    D distinguishes codes from codes with each dimension permuted over the batch; the mean of its
    log-odds on codes estimates the total correlation (Kim & Mnih, Eqs. 2, 3 and Alg. 2).
    """

    name = "factor-vae"
    Config = FactorVAEConfig
    config: FactorVAEConfig
    presets = Presets(
        paper=of_locatello(
            "γ = 35, of its 10 to 100, and the second batch are Kim & Mnih's for dSprites"
        ),
        quick=QUICK.with_settings(
            gamma=10.0,
            discriminator_width=200,
            discriminator_layers=4,
            discriminator_learning_rate=1e-3,
        ),
        smoke=SMOKE.with_settings(discriminator_width=16, discriminator_layers=2),
    )

    def __init__(self, config: FactorVAEConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        c = config
        self.discriminator = LatentDiscriminator(
            c.latent_size, c.discriminator_width, c.discriminator_layers
        )

    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return Adam for the autoencoder and for the discriminator."""
        c = self.config
        betas = (c.discriminator_beta1, c.discriminator_beta2)
        own = adam(parameters(self.discriminator), c.discriminator_learning_rate, betas)
        return {**super().make_optimizers(), "discriminator": own}

    @property
    def training_parts(self) -> Sequence[str]:
        """Return the discriminator."""
        return ("discriminator",)

    @property
    def batches_per_step(self) -> int:
        """Return the number of batches per `step`: two if the permuted codes have their own."""
        return 2 if self.config.permuted_batch == "second" else 1

    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update the autoencoder once, then the discriminator (Alg. 2).

        Raises
        ------
        ValueError
            If `permuted_batch` is "second" and the images are not two batches of equal size.
        """
        if self.config.permuted_batch == "same":
            codes, logs = self.update_autoencoder(batch)
            return logs | self.update_discriminator(codes, codes)
        n = len(batch)
        rule = "an even number >= 2 of images, as permuted_batch is 'second'"
        check(n >= 2 and n % 2 == 0, "batch", rule, n)
        first, second = batch.chunk(2)
        codes, logs = self.update_autoencoder(first)
        with torch.no_grad():
            others = self.draw_latents(second).z
        return logs | self.update_discriminator(codes, others)

    @stage("autoencoder")
    def update_autoencoder(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Step encoder and decoder; return the codes (B, d) and the losses to log."""
        elbo = self.elbo(batch)
        with frozen(self.discriminator):
            joint, permuted = self.discriminator(elbo.own.z).unbind(1)
        tc = (joint - permuted).mean()
        loss = elbo.reconstruction + (elbo.kl + self.config.gamma * tc)
        return elbo.own.z.detach(), self.minimize(loss, elbo, total_correlation=tc)

    @stage("discriminator")
    def update_discriminator(self, codes: Tensor, others: Tensor) -> dict[str, Tensor]:
        """Train the discriminator to distinguish `codes` from permuted `others`, (B, d) each."""
        permuted = parallel.own_rows(permute_dimensions(parallel.gather(others)))
        logits = self.discriminator(torch.cat([codes, permuted]))
        truth = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        truth[len(codes) :] = 1
        loss = F.cross_entropy(logits, truth)
        self.descend(loss, "discriminator")
        return {"discriminator": loss.detach()}


def permute_dimensions(z: Tensor) -> Tensor:
    """Return codes (B, d) with each dimension permuted over the batch independently (Alg. 1)."""
    order = torch.rand(z.shape, device=z.device).argsort(0)
    return z.gather(0, order)
