"""Zhu, Xu & Tao (2021): a GAN whose codes make simple changes (PS) inside regions (SC)."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pydisent import parallel
from pydisent.nn import (
    ConstrictedGenerator,
    ExponentialAverage,
    ResidualDiscriminator,
    ResidualRecogniser,
)
from pydisent.nn.layout import channels_last_
from pydisent.ops import perceptual_simplicity_loss
from pydisent.systems._adversarial import discriminator_loss, generator_loss, gradient_penalty
from pydisent.systems._modes import frozen
from pydisent.systems._optimizers import adam, parameters
from pydisent.systems._presets import SMOKE, Presets
from pydisent.systems._ps_sc_config import EARLIER, PAPER, QUICK, PSSCConfig
from pydisent.systems._ranges import stage
from pydisent.systems._registry import register
from pydisent.systems._regularizers import Regularized
from pydisent.systems.precision import mixed_precision

__all__ = ["PSSC", "PSSCConfig", "perturb"]


@register
class PSSC(Regularized):
    """Train G and a recogniser Q, which recovers G's codes from its images, jointly against D.

    min over G, Q of E[softplus(−D(G(c)))] + λ L_PS, min over D of the logistic loss + R1. For two
    images whose codes differ in one dimension, Q must recover that dimension's value in each, but
    the other dimensions' values only on average (Eq. 8).

    Parameters
    ----------
    config : PSSCConfig
        The settings; the paper's by default.
    image_shape : tuple of int
        (C, H, W), square, a power of two >= 8.
    """

    name: ClassVar[str] = "ps-sc"
    Config: ClassVar[type] = PSSCConfig
    config: PSSCConfig
    default_data = "shapes3d"
    # Defaults of earlier versions.
    added_settings: ClassVar = EARLIER | {"regression_variant": "published"}
    presets = Presets(
        paper=PAPER,
        quick=QUICK,
        smoke=SMOKE.with_settings(
            codes=2, max_width=8, min_width=4, r1_interval=4, ema_half_life=0.02
        ),
    )

    def __init__(self, config: PSSCConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        channels, size, _ = self.image_shape
        c = config
        shared: dict[str, Any] = {
            "max_width": c.max_width,
            "min_width": c.min_width,
            "resampling": c.resampling,
        }
        self.average: ExponentialAverage | None = None
        self.generator = ConstrictedGenerator(
            c.codes,
            channels,
            size,
            constricted=c.spatial_constriction,
            mask=c.mask,
            rectangles=c.rectangles,
            width_schedule=c.width_schedule,
            **shared,
        )
        self.discriminator = ResidualDiscriminator(channels, size, **shared)
        self.recogniser = ResidualRecogniser(self.latent_size, channels, size, **shared)
        channels_last_(self)
        if c.ema_half_life:
            decay = 0.5 ** (c.batch_size / (1000 * c.ema_half_life))
            self.average = ExponentialAverage(self.generator, decay)

    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return Adam for the generator with the recogniser, and for the discriminator."""
        c = self.config
        # R1's steps are additional to the updates; the rates are lowered as if its gradient were
        # spread over them.
        players: dict[str, tuple[list[nn.Module], float]] = {
            "generator": ([self.generator, self.recogniser], _lazy(c.generator_interval)),
            "discriminator": ([self.discriminator], _lazy(c.r1_interval if c.r1_weight else 0)),
        }
        return {
            name: adam(
                parameters(*networks),
                c.learning_rate * share,
                (c.adam_beta1**share, c.adam_beta2**share),
                c.adam_eps,
            )
            for name, (networks, share) in players.items()
        }

    @property
    def latent_size(self) -> int:
        """Return the size of the code: `codes` at each resolution."""
        return self._decoding.latent_size

    @property
    def _decoding(self) -> ConstrictedGenerator:
        """Return the generator used for decoding: the moving average, if any."""
        generator = self.generator if self.average is None else self.average.module
        assert isinstance(generator, ConstrictedGenerator)
        return generator

    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update G with Q, then D, once on the images (B, C, H, W), with R1 when due."""
        real = 2 * batch - 1
        logs = self._update_generator(len(real))
        if self.average is not None:
            self.average.update(self.generator, self.phase_step)
        logs |= self._update_discriminator(real)
        if self.config.r1_weight and self.phase_step % self.config.r1_interval == 0:
            logs |= self._regularize_discriminator(real)
        return logs

    @stage("generator")
    def _update_generator(self, n: int) -> dict[str, Tensor]:
        c, code = self.config, self.draw_codes(n)
        codes, dimension = code, None
        if c.ps_weight:
            perturbed, dimension = perturb(code, c.perturbation)
            codes = torch.cat([code, perturbed])
        with frozen(self.discriminator):
            with mixed_precision(self):
                images = self.generator(codes, fresh_noise=True, batches=len(codes) // n)
                logits = self.discriminator(images[:n])
                found = self.recogniser(images)
            adversarial = generator_loss(logits.float())
            recognition = self.recognition_loss(
                found.float(), codes, dimension, c.regression_variant
            )
            logs = {"generator": adversarial.detach(), "recognition": recognition.detach()}
            loss = adversarial + (c.ps_weight or c.regression_weight) * recognition
            loss = self.regularized(loss, partial(self.generator, fresh_noise=True), code, logs)
            self.descend(loss, "generator")
        return logs

    @staticmethod
    def recognition_loss(
        found: Tensor, codes: Tensor, dimension: Tensor | None, variant: str = "published"
    ) -> Tensor:
        """Return the unweighted loss of recognised codes (N, d) against `codes`.

        Given the perturbed `dimension` of each pair, it is the perceptual simplicity loss of the
        batch's two halves; with None, InfoGAN's regression in the chosen variant.
        """
        if dimension is None:
            error = found - codes
            if variant == "author_code":
                return torch.linalg.vector_norm(error, dim=1).mean()
            return error.square().sum(1).mean()
        (found_a, found_b), (code_a, code_b) = found.chunk(2), codes.chunk(2)
        return perceptual_simplicity_loss(
            found_a, found_b, code_a, code_b, dimension, variant="author_code"
        )

    @stage("discriminator")
    def _update_discriminator(self, real: Tensor) -> dict[str, Tensor]:
        with mixed_precision(self):
            with torch.no_grad():
                fake = self.generator(self.draw_codes(len(real)), fresh_noise=True)
            # Two passes, as the minibatch deviation must not mix real and fake.
            real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
        loss = discriminator_loss(real_logits.float(), fake_logits.float())
        self.descend(loss, "discriminator")
        return {"discriminator": loss.detach()}

    @stage("r1")
    def _regularize_discriminator(self, real: Tensor) -> dict[str, Tensor]:
        real = real.detach().requires_grad_()
        r1 = gradient_penalty(self.discriminator(real), real)
        self.descend(0.5 * self.config.r1_weight * self.config.r1_interval * r1, "discriminator")
        return {"r1": r1.detach()}

    @property
    def training_parts(self) -> Sequence[str]:
        """Return the discriminator, and the generator if its moving average decodes."""
        return ("discriminator", *(("generator",) if self.average is not None else ()))

    def encode(self, x: Tensor) -> Tensor:
        """Return Q(x), codes (N, d), for images x (N, C, H, W) in [0, 1]."""
        return self.recogniser(2 * x - 1)

    def decode(self, code: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1] for codes (N, d), with fixed noise inputs."""
        return (self._decoding(code) / 2 + 0.5).clamp(0, 1)

    def code_masks(self, code: Tensor) -> Tensor | None:
        """Return each code's learned mask (N, d, H, W) in [0, 1]; None without SC."""
        return self._decoding.masks(code)


def _lazy(interval: int) -> float:
    """Return the factor on Adam's rates for one regularising step per `interval` updates."""
    return interval / (interval + 1) if interval else 1.0


def perturb(code: Tensor, std: float) -> tuple[Tensor, Tensor]:
    """Move one random dimension per sample of `code` (B, d) by N(0, std²); return also which."""
    (n, size), device = code.shape, code.device
    dimension = parallel.draw(lambda n: torch.randint(size, (n,), device=device), n)
    shift = std * parallel.draw(lambda n: torch.randn(n, 1, device=device), n)
    return code.scatter_add(1, dimension[:, None], shift), dimension
