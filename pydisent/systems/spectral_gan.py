"""Ramesh, Choi & LeCun (2018): a GAN whose Jacobian's singular vectors align with the axes."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from pydisent import parallel
from pydisent.nn import (
    DCGANDiscriminator,
    DCGANEncoder,
    DCGANGenerator,
    ExponentialAverage,
    clip_leaks_,
)
from pydisent.systems._base import GaussianCodes, NotTrainedError, Preset, frozen, register
from pydisent.systems._config import require
from pydisent.systems._ranges import stage


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
        Images an update.
    penalty_weight : float
        λ, the weight of the alignment penalty (Alg. 3); 0 switches it off.
    k : int
        k, the leading eigenvectors to align; the paper's k.
    iterations : int
        T of Alg. 2.
    learning_rate : float
        RMSProp's, of the generator, and of the discriminator unless it has its own.
    discriminator_learning_rate : float or None
        RMSProp's, of the discriminator.
    rmsprop_decay, rmsprop_eps : float
        RMSProp's decay factor and ε.
    instance_noise : float
        Standard deviation of the noise on the discriminator's real and fake inputs.
    r1_weight : float
        γ of the penalty γ/2 E‖∇D(x)‖² on real images; not in the paper, 0 switches it off.
    r1_interval : int
        Updates between R1 penalties, each weighted by the interval.
    ema_decay : float
        Decay of the generator's moving average, which then decodes; not in the paper, 0 switches
        it off.
    encoder_base : int or None
        Feature maps of the encoder; None is twice `base` (App. D).
    encoder_steps : int
        Updates of the encoder after the GAN's.
    encoder_learning_rate : float
        Adam's, with β 0.5 and 0.99; the paper does not print it.
    code_regression : float
        Weight of the mean squared error of codes of generated images, beside the reconstruction
        error of real ones; not in the paper, 0 switches it off.
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
        at_least_one = ("latent_size", "base", "batch_size", "iterations", "r1_interval")
        require(self, at_least_one, lambda v: v >= 1, ">= 1")
        rates = ("learning_rate", "discriminator_learning_rate", "encoder_learning_rate")
        require(self, (*rates, "encoder_base", "rmsprop_eps"), lambda v: v > 0, "> 0")
        weights = ("penalty_weight", "instance_noise", "r1_weight", "code_regression")
        require(self, (*weights, "encoder_steps"), lambda v: 0 <= v < float("inf"), ">= 0")
        require(self, ("rmsprop_decay", "ema_decay"), lambda v: 0 <= v < 1, "in [0, 1)")
        highest = f"between 1 and latent_size = {self.latent_size}"
        require(self, ("k",), lambda v: 1 <= v <= self.latent_size, highest)


@register
class SpectralGAN(GaussianCodes):
    """A DCGAN trained with the alignment penalty, then an encoder that inverts it.

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
        c = self.config
        d_rate = c.discriminator_learning_rate or c.learning_rate
        return {
            "generator": self._rmsprop(self.generator, c.learning_rate),
            "discriminator": self._rmsprop(self.discriminator, d_rate),
            "encoder": torch.optim.Adam(
                _learned(self.encoder),
                c.encoder_learning_rate,
                betas=(0.5, 0.99),
                eps=1e-8,
                fused=True,
            ),
        }

    def _rmsprop(self, module: torch.nn.Module, rate: float) -> torch.optim.Optimizer:
        c = self.config
        return torch.optim.RMSprop(
            _learned(module), rate, alpha=c.rmsprop_decay, eps=c.rmsprop_eps, foreach=True
        )

    @classmethod
    def preset(cls, name: str, data_name: str) -> Preset:
        """Return the settings of `name`: smoke, quick or paper."""
        # The noise is the paper's remedy for black and white pixels; its other data had none.
        binary = data_name in ("sprites", "dsprites", "digits", "mnist")
        settings = {} if binary else {"instance_noise": 0.0}
        settings.update(_SETTINGS[name])
        return Preset(cls.Config(**settings), **_SIZES[name])

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
        loss = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
        logs = {"discriminator": loss.detach()}
        if regularized:
            (gradient,) = torch.autograd.grad(real_logits.sum(), images, create_graph=True)
            r1 = gradient[: len(real)].square().flatten(1).sum(1).mean()
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
            # The original non-saturating loss of Goodfellow et al. (2014).
            loss = F.softplus(-self.discriminator(self._noisy(self.generator(z)))).mean()
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
            Before the encoder's phase of training.
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


_SETTINGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "quick": {
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
    "smoke": {
        "latent_size": 4,
        "base": 4,
        "batch_size": 8,
        "k": 2,
        "iterations": 2,
        "learning_rate": 1e-3,
        "encoder_steps": 10,
    },
}
_SIZES: dict[str, dict[str, Any]] = {
    "paper": {
        "steps": 750_000,
        "image_size": 64,
        "log_every": 500,
        "checkpoint_every": 10_000,
        "note": "as published",
    },
    "quick": {
        "steps": 2500,
        "image_size": 32,
        "log_every": 25,
        "checkpoint_every": 500,
        "note": "32×32, base 16, k = 3, λ = 1, higher learning rates, a slower discriminator, a "
        "moving average of the generator; the encoder is small and also learns from its images",
    },
    "smoke": {
        "steps": 20,
        "image_size": 16,
        "log_every": 5,
        "checkpoint_every": 5,
        "note": "tiny, to see that everything runs",
    },
}


def _learned(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]
