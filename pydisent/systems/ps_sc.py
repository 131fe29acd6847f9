"""Zhu, Xu & Tao (2021): a GAN whose codes make simple changes (PS) inside regions (SC)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pydisent import parallel
from pydisent._checks import check
from pydisent.nn import (
    ConstrictedGenerator,
    ExponentialAverage,
    ResidualDiscriminator,
    ResidualRecogniser,
)
from pydisent.nn.layout import channels_last_
from pydisent.nn.spatial_constriction import MASKS
from pydisent.ops import perceptual_simplicity_loss
from pydisent.systems._adversarial import discriminator_loss, generator_loss, gradient_penalty
from pydisent.systems._base import System
from pydisent.systems._config import check_choices, check_integers, check_numbers
from pydisent.systems._modes import frozen
from pydisent.systems._optimizers import adam, parameters
from pydisent.systems._presets import SMOKE, Presets, Recipe
from pydisent.systems._ranges import stage
from pydisent.systems._registry import register
from pydisent.systems.precision import AUTO, PRECISIONS, mixed_precision


@dataclass(frozen=True)
class PSSCConfig:
    """The paper's settings for CelebA.

    Attributes
    ----------
    codes : int
        Latent codes per resolution; the five from 8 px to 128 px have 25 in all.
    max_width, min_width : int
        Most and fewest feature maps of each network.
    batch_size : int
        Images per update.
    ps_weight : float
        λ, the weight of the perceptual simplicity loss (Eqs. 8-9). As in the authors' code it is
        a sum over dimensions; otherwise the published 0.01 would be d/2 times less. 0 switches to
        InfoGAN's regression.
    regression_weight : float
        Weight of that regression: the squared error of the code recognised from one image,
        summed over its dimensions. (The authors' code takes the error's norm, not its square.)
    perturbation : float
        Standard deviation of the perturbation p of one dimension; the published 3 N(0, 2²).
    spatial_constriction : bool
        Whether codes act inside learned masks (SC); if not, one modulated convolution per
        resolution takes its codes together, as in the authors' code.
    mask : str
        "band", or "softmax" (Table 4).
    rectangles : int
        Number J of rectangles per mask.
    learning_rate, adam_beta1, adam_beta2, adam_eps : float
        Adam's, for both optimisers; the discriminator's are corrected for R1's extra steps.
    r1_weight : float
        γ of the penalty γ/2 E‖∇D(x)‖² on real images in [-1, 1]; 0 turns it off.
    r1_interval : int
        Updates between R1's own steps, which are weighted by the interval.
    ema_half_life : float
        Half-life of the generator's moving average, which decodes, in thousands of images; 0 turns
        it off.
    precision : str
        "fp32", "bf16" for mixed precision (losses and R1 stay in fp32), or "auto": "bf16" on a
        device with native support. A CPU without it computes "bf16" in fp32.
    """

    codes: int = 5
    max_width: int = 512
    min_width: int = 64
    batch_size: int = 8
    ps_weight: float = 0.01
    regression_weight: float = 0.01
    perturbation: float = 6.0
    spatial_constriction: bool = True
    mask: str = "band"
    rectangles: int = 4
    learning_rate: float = 2e-3
    adam_beta1: float = 0.0
    adam_beta2: float = 0.99
    adam_eps: float = 1e-8
    r1_weight: float = 100.0
    r1_interval: int = 16
    ema_half_life: float = 10.0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        check_integers(self, "codes", "max_width", "min_width", "rectangles")
        check_integers(self, "batch_size", "r1_interval")
        widest = f"at most max_width = {self.max_width}"
        check(self.min_width <= self.max_width, "min_width", widest, self.min_width)
        check_numbers(self, "perturbation", "learning_rate", "adam_eps", above=0)
        weights = ("ps_weight", "regression_weight", "r1_weight", "ema_half_life")
        check_numbers(self, *weights, at_least=0)
        check_numbers(self, "adam_beta1", "adam_beta2", at_least=0, below=1)
        check_choices(self, mask=MASKS, precision=PRECISIONS)


@register
class PSSC(System):
    """Train G and a recogniser Q, which reads G's codes off its images, together against D.

    min over G, Q of E[softplus(−D(G(c)))] + λ L_PS, min over D of the logistic loss + R1. Of two
    images whose codes differ in one dimension, Q must find that dimension's value in each, but
    the other dimensions' values only in the mean (Eq. 8).

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
    presets = Presets(
        paper=Recipe(
            note="as published for CelebA",
            steps=3_125_000,
            image_size=64,
            log_every=500,
            checkpoint_every=10_000,
            by_data={"celeba": {"image_size": 128}},
        ),
        quick=Recipe(
            note="32×32, 64 to 16 feature maps, 3 codes a resolution, codes recognised at ten "
            "times the weight, R1 γ = 10, an average of half-life 2, bf16 where native; 40,000 "
            "images, not 25 million",
            steps=5000,
            image_size=32,
            log_every=50,
            checkpoint_every=500,
            settings={
                "codes": 3,
                "max_width": 64,
                "min_width": 16,
                "ps_weight": 0.1,
                "regression_weight": 0.1,
                "r1_weight": 10.0,
                "ema_half_life": 2.0,
                "precision": AUTO,
            },
        ),
        smoke=SMOKE.with_settings(
            codes=2, max_width=8, min_width=4, r1_interval=4, ema_half_life=0.02
        ),
    )

    def __init__(self, config: PSSCConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        channels, size, _ = self.image_shape
        c = config
        widths = {"max_width": c.max_width, "min_width": c.min_width}
        self.generator = ConstrictedGenerator(
            c.codes,
            channels,
            size,
            constricted=c.spatial_constriction,
            mask=c.mask,
            rectangles=c.rectangles,
            **widths,
        )
        self.discriminator = ResidualDiscriminator(channels, size, **widths)
        self.recogniser = ResidualRecogniser(self.latent_size, channels, size, **widths)
        channels_last_(self)
        self.average: ExponentialAverage | None = None
        if c.ema_half_life:
            decay = 0.5 ** (c.batch_size / (1000 * c.ema_half_life))
            self.average = ExponentialAverage(self.generator, decay)

    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return Adam for the generator with the recogniser, and for the discriminator."""
        c = self.config
        # Karras et al. (2020), App. B: R1's steps come on top of the updates, and the rates are
        # lowered as if its gradient were spread over them.
        lazy = c.r1_interval / (c.r1_interval + 1) if c.r1_weight else 1.0
        players: dict[str, tuple[list[nn.Module], float]] = {
            "generator": ([self.generator, self.recogniser], 1.0),
            "discriminator": ([self.discriminator], lazy),
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
        return self.generator.latent_size

    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update G with Q, then D, once on the images (B, C, H, W); R1 where it is due."""
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
            recognition = self.recognition_loss(found.float(), codes, dimension)
            self.descend(
                adversarial + (c.ps_weight or c.regression_weight) * recognition, "generator"
            )
        return {"generator": adversarial.detach(), "recognition": recognition.detach()}

    @staticmethod
    def recognition_loss(found: Tensor, codes: Tensor, dimension: Tensor | None) -> Tensor:
        """Return how far recognised codes (N, d) are from `codes`, without its weight.

        With the perturbed `dimension` of each pair the perceptual simplicity loss of the two
        halves of the batch; with None InfoGAN's regression.
        """
        if dimension is None:
            return (found - codes).square().sum(1).mean()
        (found_a, found_b), (code_a, code_b) = found.chunk(2), codes.chunk(2)
        return perceptual_simplicity_loss(
            found_a, found_b, code_a, code_b, dimension, variant="author_code"
        )

    @stage("discriminator")
    def _update_discriminator(self, real: Tensor) -> dict[str, Tensor]:
        with mixed_precision(self):
            with torch.no_grad():
                fake = self.generator(self.draw_codes(len(real)), fresh_noise=True)
            # Two passes: the minibatch deviation must not mix real and fake.
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

    def encode(self, x: Tensor) -> Tensor:
        """Return Q(x), codes (N, d), of images x (N, C, H, W) in [0, 1]."""
        return self.recogniser(2 * x - 1)

    def decode(self, code: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1] of codes (N, d), the noise inputs held fixed."""
        return ((self.average or self.generator)(code) / 2 + 0.5).clamp(0, 1)

    def code_masks(self, code: Tensor) -> Tensor | None:
        """Return the learned mask (N, d, H, W) of each code in [0, 1]; None without SC."""
        generator = self.generator if self.average is None else self.average.module
        assert isinstance(generator, ConstrictedGenerator)
        return generator.masks(code)


def perturb(code: Tensor, std: float) -> tuple[Tensor, Tensor]:
    """Return `code` (B, d) with one random dimension a sample moved by N(0, std²), and which."""
    (n, size), device = code.shape, code.device
    dimension = parallel.draw(lambda n: torch.randint(size, (n,), device=device), n)
    shift = std * parallel.draw(lambda n: torch.randn(n, 1, device=device), n)
    return code.scatter_add(1, dimension[:, None], shift), dimension
