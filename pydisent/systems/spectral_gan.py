"""Ramesh, Choi & LeCun (2018): a GAN whose Jacobian's singular vectors align with the axes."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from pydisent import parallel
from pydisent._checks import check
from pydisent.nn import (
    DCGANDiscriminator,
    DCGANEncoder,
    DCGANGenerator,
    ExponentialAverage,
    clip_leaks_,
)
from pydisent.systems._adversarial import discriminator_loss, generator_loss, gradient_penalty
from pydisent.systems._base import NotTrainedError, System
from pydisent.systems._config import check_integers, check_numbers
from pydisent.systems._modes import frozen
from pydisent.systems._optimizers import adam, rmsprop
from pydisent.systems._presets import OTHER_DATA, SMOKE, Presets, Recipe, combine, each
from pydisent.systems._ranges import stage
from pydisent.systems._registry import register


@dataclass(frozen=True)
class SpectralGANConfig:
    """The paper's settings for dSprites (Table 1, App. C, App. D).

    Attributes
    ----------
    latent_size : int
        Size m of the latent code.
    base : int
        Feature maps of the generator and discriminator at half resolution.
    batch_size : int
        Images per update.
    penalty_weight : float
        λ, the weight of the alignment penalty (Alg. 3); 0 turns it off.
    k : int
        The paper's k, the number of leading eigenvectors to align.
    iterations : int
        The paper's T (Alg. 2).
    learning_rate : float
        RMSProp's, for the generator, and for the discriminator unless it has its own.
    discriminator_learning_rate : float or None
        RMSProp's, for the discriminator.
    rmsprop_decay, rmsprop_eps : float
        RMSProp's decay factor and ε.
    instance_noise : float
        Standard deviation of the noise on the discriminator's real and fake inputs.
    r1_weight : float
        γ of the penalty γ/2 E‖∇D(x)‖² on real images; not in the paper. 0 turns it off.
    r1_interval : int
        Updates between R1 penalties, which are weighted by the interval.
    ema_decay : float
        Decay of the generator's moving average, which then decodes; not in the paper. 0 turns it
        off.
    encoder_base : int or None
        Feature maps of the encoder; None is twice `base` (App. D).
    encoder_steps : int
        Updates of the encoder, after the GAN's.
    encoder_learning_rate : float
        Adam's, with β 0.5 and 0.99; the paper does not give it.
    code_regression : float
        Weight of the mean squared error of generated images' codes, beside the reconstruction
        error of real images; not in the paper. 0 turns it off.
    """

    latent_size: int = 10
    base: int = 64
    batch_size: int = 32
    penalty_weight: float = 0.6
    k: int = 6
    iterations: int = 8
    learning_rate: float = 1e-4
    discriminator_learning_rate: float | None = None
    rmsprop_decay: float = 0.9
    rmsprop_eps: float = 1e-6
    instance_noise: float = 0.6
    r1_weight: float = 0.0
    r1_interval: int = 1
    ema_decay: float = 0.0
    encoder_base: int | None = None
    encoder_steps: int = 30_000
    encoder_learning_rate: float = 1e-4
    code_regression: float = 0.0

    def __post_init__(self) -> None:
        sizes = ("latent_size", "base", "encoder_base", "batch_size")
        check_integers(self, *sizes, "k", "iterations", "r1_interval")
        check_integers(self, "encoder_steps", at_least=0)
        rates = ("learning_rate", "discriminator_learning_rate", "encoder_learning_rate")
        check_numbers(self, *rates, "rmsprop_eps", above=0)
        weights = ("penalty_weight", "instance_noise", "r1_weight", "code_regression")
        check_numbers(self, *weights, at_least=0)
        check_numbers(self, "rmsprop_decay", "ema_decay", at_least=0, below=1)
        check(self.k <= self.latent_size, "k", f"at most latent_size = {self.latent_size}", self.k)


# The noise is the paper's remedy for black and white pixels; its other data had none.
_BINARY = ("sprites", "dsprites", "digits", "mnist")


@register
class SpectralGAN(System):
    """Train a DCGAN with the alignment penalty (Alg. 3), then an encoder that inverts it (App. D).

    Parameters
    ----------
    config : SpectralGANConfig
        The settings; the paper's by default.
    image_shape : tuple of int
        (C, H, W), square, a power of two >= 16.
    """

    name: ClassVar[str] = "spectral-gan"
    Config: ClassVar[type] = SpectralGANConfig
    config: SpectralGANConfig
    data_settings = combine(each(_BINARY), each([OTHER_DATA], instance_noise=0.0))
    presets = Presets(
        paper=Recipe(
            note="as published",
            steps=750_000,
            image_size=64,
            log_every=500,
            checkpoint_every=10_000,
        ),
        quick=Recipe(
            note="32×32, base 16, k = 3, λ = 1, higher learning rates, a slower discriminator, a "
            "moving average of the generator; the encoder is small and also learns from its images",
            steps=2500,
            image_size=32,
            log_every=25,
            checkpoint_every=500,
            settings={
                "base": 16,
                "learning_rate": 1e-3,
                "discriminator_learning_rate": 3e-4,
                "penalty_weight": 1.0,
                "k": 3,
                "ema_decay": 0.995,
                "encoder_base": 16,
                "encoder_steps": 1000,
                "encoder_learning_rate": 1e-3,
                "code_regression": 0.1,
            },
        ),
        smoke=SMOKE.with_settings(
            latent_size=4,
            base=4,
            batch_size=8,
            k=2,
            iterations=2,
            learning_rate=1e-3,
            encoder_steps=10,
        ),
    )

    def __init__(self, config: SpectralGANConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        channels, size, _ = self.image_shape
        c = config
        self.generator = DCGANGenerator(c.latent_size, channels, c.base, size)
        self.discriminator = DCGANDiscriminator(channels, c.base, size)
        self.encoder = DCGANEncoder(c.latent_size, channels, c.encoder_base or 2 * c.base, size)
        self.average = ExponentialAverage(self.generator, c.ema_decay) if c.ema_decay else None

    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return RMSProp for both players, Adam for the encoder."""
        c, shared = self.config, (self.config.rmsprop_decay, self.config.rmsprop_eps)
        rate = c.discriminator_learning_rate or c.learning_rate
        return {
            "generator": rmsprop(_learned(self.generator), c.learning_rate, *shared),
            "discriminator": rmsprop(_learned(self.discriminator), rate, *shared),
            "encoder": adam(_learned(self.encoder), c.encoder_learning_rate, betas=(0.5, 0.99)),
        }

    def phases(self, steps: int) -> tuple[tuple[str, int], ...]:
        """Return the GAN's updates, then the encoder's, if it has any."""
        encoder = self.config.encoder_steps
        return (("train", steps), *([("encoder", encoder)] if encoder else []))

    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update discriminator and generator once, or the encoder in its phase."""
        if self.phase == "encoder":
            return self._update_encoder(batch)
        return self._update_discriminator(batch) | self._update_generator(len(batch))

    @stage("discriminator")
    def _update_discriminator(self, real: Tensor) -> dict[str, Tensor]:
        c = self.config
        with torch.no_grad():
            fake = self.generator(self.draw_codes(len(real)))
        images = self._noisy(torch.cat([real, fake]), batches=2)
        regularized = c.r1_weight > 0 and self.phase_step % c.r1_interval == 0
        images.requires_grad_(regularized)
        real_logits, fake_logits = self.discriminator(images).chunk(2)
        loss = discriminator_loss(real_logits, fake_logits)
        logs = {"discriminator": loss.detach()}
        if regularized:
            r1 = gradient_penalty(real_logits, images)
            loss = loss + 0.5 * c.r1_weight * c.r1_interval * r1
            logs["r1"] = r1.detach()
        self.descend(loss, "discriminator")
        clip_leaks_(self.discriminator)
        return logs

    @stage("generator")
    def _update_generator(self, n: int) -> dict[str, Tensor]:
        c = self.config
        z = self.draw_codes(n)
        with frozen(self.discriminator):
            loss = generator_loss(self.discriminator(self._noisy(self.generator(z))))
            logs = {"generator": loss.detach()}
            if c.penalty_weight > 0:
                penalty = self._alignment(z)
                loss = loss + c.penalty_weight * penalty
                logs["alignment"] = penalty.detach()
            self.descend(loss, "generator")
        clip_leaks_(self.generator)
        if self.average is not None:
            self.average.update(self.generator, self.phase_step)
        return logs

    @stage("alignment")
    def _alignment(self, z: Tensor) -> Tensor:
        from pydisent import alignment_penalty

        c = self.config
        return alignment_penalty(self.generator, z, k=c.k, iterations=c.iterations)

    @stage("encoder")
    def _update_encoder(self, real: Tensor) -> dict[str, Tensor]:
        c = self.config
        with frozen(self.generator):
            loss = F.mse_loss(self.decode(self.encoder(real)), real)
            logs = {"reconstruction": loss.detach()}
            if c.code_regression > 0:
                z = self.draw_codes(len(real))
                with torch.no_grad():
                    fake = self.decode(z)
                regression = F.mse_loss(self.encoder(fake), z)
                loss = loss + c.code_regression * regression
                logs["code_regression"] = regression.detach()
            self.descend(loss, "encoder")
        clip_leaks_(self.encoder)
        return logs

    def _noisy(self, images: Tensor, batches: int = 1) -> Tensor:
        std = self.config.instance_noise
        return images + std * parallel.randn_like(images, batches) if std else images

    def encode(self, x: Tensor) -> Tensor:
        """Return codes (N, m) of images (N, C, H, W).

        Raises
        ------
        NotTrainedError
            Before the encoder's training phase.
        """
        if self.phase != "encoder":
            raise NotTrainedError(
                f"{self.name} cannot encode yet: its encoder is trained after the generator, "
                f"and training is still in phase {self.phase!r}"
            )
        return self.encoder(x)

    def decode(self, code: Tensor) -> Tensor:
        """Return G(z), images (N, C, H, W) in [0, 1], of codes z (N, m)."""
        return (self.average or self.generator)(code)


def _learned(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters but for the scales that weight norm holds fixed."""
    return [p for p in network.parameters() if p.requires_grad]
