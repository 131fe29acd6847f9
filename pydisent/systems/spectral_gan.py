"""Ramesh, Choi & LeCun (2018): a GAN whose Jacobian's singular vectors align with the axes."""

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from pydisent import parallel
from pydisent._checks import check
from pydisent._notice import warn_once
from pydisent.jacobian.alignment import Method
from pydisent.nn import (
    DCGANDiscriminator,
    DCGANEncoder,
    DCGANGenerator,
    ExponentialAverage,
    clip_leaks_,
)
from pydisent.systems._adversarial import discriminator_loss, generator_loss, gradient_penalty
from pydisent.systems._base import NotTrainedError
from pydisent.systems._modes import frozen
from pydisent.systems._optimizers import adam, rmsprop
from pydisent.systems._presets import OTHER_DATA, SMOKE, Presets, Recipe, combine, each
from pydisent.systems._ranges import stage
from pydisent.systems._registry import register
from pydisent.systems._regularizers import Regularized
from pydisent.systems._spectral_gan_config import ALIGNMENT, COMPUTE_DTYPES, SpectralGANConfig

__all__ = ["SpectralGAN", "SpectralGANConfig"]


# The noise is the paper's remedy for black and white pixels; it used none on other data.
_BINARY = ("sprites", "dsprites", "digits", "mnist")
_COLOURED = (
    "color-sprites", "color-dsprites", "noisy-dsprites", "scream-dsprites",
    "shapes3d", "3dshapes", "clevr-simple", "chairs", "svhn", "celeba", OTHER_DATA,
)  # fmt: skip
_CELEBA = {"latent_size": 128, "k": 32, "penalty_weight": 0.5}


@register
class SpectralGAN(Regularized):
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
    data_settings = combine(each(_BINARY), each(_COLOURED, instance_noise=0.0))
    # Defaults of earlier versions.
    added_settings: ClassVar = {
        "reweight": True,
        "method": "auto",
        "tolerance": 1e-3,
        "compute_dtype": "fp32",
        "rmsprop_variant": "torch",
    }
    presets = Presets(
        paper=Recipe(
            note="as published for dSprites (Tables 1 and 2, App. C and D); T = 8 is Fig. 5's, and "
            "the encoder's rate and normalisation are not published",
            steps=750_000,
            image_size=64,
            log_every=500,
            checkpoint_every=10_000,
            published=("dsprites", "celeba", "lsun"),
            by_data={
                "celeba": {
                    "note": "as published for CelebA (Table 2, Fig. 7: k = 32, λ = 0.5), with all "
                    "its images and T = 8 (Fig. 5); the crop is not published, nor an encoder",
                    "split": "all",
                    "settings": _CELEBA,
                },
                "lsun": {
                    "note": "m = 128 and base 64 as published for LSUN (Table 2, Fig. 13d), but "
                    "the paper aligns none on it: k = 32 and λ = 0.5 are CelebA's (Fig. 7)",
                    "settings": _CELEBA,
                },
            },
        ),
        quick=Recipe(
            note="32×32, base 16, k = 3, λ = 1, higher learning rates, PyTorch's RMSProp, a slower "
            "discriminator, a moving average of the generator; the encoder is small and also "
            "learns from its images",
            steps=2500,
            image_size=32,
            log_every=25,
            checkpoint_every=500,
            settings={
                "base": 16,
                "learning_rate": 1e-3,
                "discriminator_learning_rate": 3e-4,
                "rmsprop_variant": "torch",
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
        """Return RMSProp for both players and Adam for the encoder."""
        c = self.config
        rates = {
            "generator": c.learning_rate,
            "discriminator": c.discriminator_learning_rate or c.learning_rate,
        }
        players = {
            name: rmsprop(
                _learned(self.get_submodule(name)),
                rate,
                c.rmsprop_decay,
                c.rmsprop_eps,
                variant=c.rmsprop_variant,
            )
            for name, rate in rates.items()
        }
        return {
            **players,
            "encoder": adam(_learned(self.encoder), c.encoder_learning_rate, betas=(0.5, 0.99)),
        }

    def phases(self, steps: int) -> tuple[tuple[str, int], ...]:
        """Return the GAN's updates, then the encoder's, if any."""
        encoder = self.config.encoder_steps
        return (("train", steps), *([("encoder", encoder)] if encoder else []))

    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update the discriminator and generator once, or the encoder in its phase."""
        if self.phase == "encoder":
            return self._update_encoder(batch)
        return self._update_discriminator(batch) | self._update_generator(len(batch))

    def graph_key(self) -> tuple[str, bool, bool] | None:
        """Return the phase, and whether the update has R1 and the generator's regularizer.

        Return None while the moving average warms up, or if the penalty's directions are not known
        in advance.
        """
        c = self.config
        if self.phase == "encoder":
            return self.phase, False, False
        # "auto" may take another route in the warm-up than in the capture.
        is_fixed = c.rank is not None or (c.tolerance == 0 and c.method == "gram")
        if self._is_aligned() and not is_fixed:
            warn_once(
                "CUDA graphs can capture updates with the penalty only if `rank` is set (or "
                "`tolerance` is 0 and `method` is gram): the number of directions that a tolerance "
                "keeps is read from the GPU. Try --set rank=32, or the latent size if smaller"
            )
            return None
        if not self.regularizes_in_a_graph():
            return None
        if self.average is not None and self.average.warms_up(self.phase_step):
            return None
        return self.phase, self._has_r1(), self._is_aligned() or self.is_regularized()

    def _has_r1(self) -> bool:
        """Whether this update includes R1."""
        return self.config.r1_weight > 0 and self.phase_step % self.config.r1_interval == 0

    def _is_aligned(self) -> bool:
        """Whether this update includes the alignment penalty."""
        c = self.config
        is_due = c.regularizer == ALIGNMENT and self.phase_step % c.interval == 0
        return is_due and c.penalty_weight > 0

    @stage("discriminator")
    def _update_discriminator(self, real: Tensor) -> dict[str, Tensor]:
        c = self.config
        with torch.no_grad():
            fake = self.generator(self.draw_codes(len(real)))
        images = self._noisy(torch.cat([real, fake]), batches=2)
        has_r1 = self._has_r1()
        images.requires_grad_(has_r1)
        real_logits, fake_logits = self.discriminator(images).chunk(2)
        loss = discriminator_loss(real_logits, fake_logits)
        logs = {"discriminator": loss.detach()}
        if has_r1:
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
            if self._is_aligned():
                penalty = self._alignment(z)
                loss = loss + c.penalty_weight * c.interval * penalty
                logs["alignment"] = penalty.detach()
            loss = self.regularized(loss, self.generator, z, logs)
            self.descend(loss, "generator")
        clip_leaks_(self.generator)
        if self.average is not None:
            self.average.update(self.generator, self.phase_step)
        return logs

    @stage("alignment")
    def _alignment(self, z: Tensor) -> Tensor:
        from pydisent import alignment_penalty

        c = self.config
        if c.sub_batch is not None:
            rule = f"a multiple of the {parallel.processes()} processes"
            check(c.sub_batch % parallel.processes() == 0, "sub_batch", rule, c.sub_batch)
            z = parallel.own_rows(parallel.gather(z)[: c.sub_batch])
        return alignment_penalty(
            self.generator,
            z,
            k=c.k,
            iterations=c.iterations,
            reweight=c.reweight,
            method=cast(Method, c.method),
            tolerance=c.tolerance if c.rank is None else None,
            rank=c.rank,
            compute_dtype=COMPUTE_DTYPES[c.compute_dtype],
        )

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

    @property
    def training_parts(self) -> Sequence[str]:
        """Return the discriminator, and the generator if its moving average decodes."""
        return ("discriminator", *(("generator",) if self.average is not None else ()))

    def encode(self, x: Tensor) -> Tensor:
        """Return codes (N, m) for images (N, C, H, W).

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
        """Return G(z), images (N, C, H, W) in [0, 1], for codes z (N, m)."""
        return (self.average or self.generator)(code)


def _learned(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters except the scales that weight norm holds fixed."""
    return [p for p in network.parameters() if p.requires_grad]
