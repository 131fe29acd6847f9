"""Zhu, Xu & Tao (2021): a GAN whose codes make simple changes (PS) inside regions (SC)."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from pydisent import parallel
from pydisent.nn import (
    ConstrictedGenerator,
    ExponentialAverage,
    ResidualDiscriminator,
    ResidualRecogniser,
)
from pydisent.nn.layout import channels_last_
from pydisent.nn.spatial_constriction import MASKS
from pydisent.ops import perceptual_simplicity_loss
from pydisent.systems._base import GaussianCodes, Preset, frozen, register
from pydisent.systems._config import require, require_one_of
from pydisent.systems._precision import AUTO, PRECISIONS, mixed_precision
from pydisent.systems._ranges import stage


@dataclass(frozen=True)
class PSSCConfig:
    """The paper's settings for CelebA.

    Attributes
    ----------
    codes : int
        Latent codes a resolution; from 8 px to 128 px there are five, and 25 codes.
    max_width, min_width : int
        Most and fewest feature maps of each network.
    batch_size : int
        Images an update.
    ps_weight : float
        λ, the weight of the perceptual simplicity loss (Eqs. 8-9), which sums over dimensions as
        the authors' code does, or the published 0.01 would be d/2 times less. 0 switches to
        InfoGAN's regression.
    regression_weight : float
        Weight of that regression: the squared error of the code recognised from one image,
        summed over its dimensions. (The authors' code has the error's norm, not its square.)
    perturbation : float
        Standard deviation of the perturbation p of one dimension; the published 3 N(0, 2²).
    spatial_constriction : bool
        Whether codes act inside learned masks (SC); if not, a modulated convolution a resolution
        takes its codes together, as in the authors' code.
    mask : str
        "band", or "softmax" (Table 4).
    rectangles : int
        Number J of rectangles a mask.
    learning_rate, adam_beta1, adam_beta2, adam_eps : float
        Adam's, of both optimisers; the discriminator's are corrected for R1's further steps.
    r1_weight : float
        γ of the penalty γ/2 E‖∇D(x)‖² on real images in [-1, 1]; 0 switches it off.
    r1_interval : int
        Updates between R1's own steps, each weighted by the interval.
    ema_half_life : float
        Thousands of images after which half of the generator's moving average, which decodes, is
        new; 0 switches it off.
    precision : str
        "fp32", "bf16" for mixed precision (losses and R1 stay in fp32), or "auto": "bf16" on a
        device that has it natively. A CPU without it computes "bf16" in fp32.
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
        sizes = ("codes", "max_width", "min_width", "batch_size", "rectangles", "r1_interval")
        require(self, sizes, lambda v: v >= 1, ">= 1")
        widest = f"between 1 and max_width = {self.max_width}"
        require(self, ("min_width",), lambda v: v <= self.max_width, widest)
        rates = ("perturbation", "learning_rate", "adam_eps")
        require(self, rates, lambda v: 0 < v < math.inf, "> 0")
        weights = ("ps_weight", "regression_weight", "r1_weight", "ema_half_life")
        require(self, weights, lambda v: 0 <= v < math.inf, ">= 0")
        require(self, ("adam_beta1", "adam_beta2"), lambda v: 0 <= v < 1, "in [0, 1)")
        require_one_of(self, "mask", MASKS)
        require_one_of(self, "precision", PRECISIONS)


@register
class PSSC(GaussianCodes):
    """Train G and a recogniser Q together against D: G's codes are to be read off its images.

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
        both = [*self.generator.parameters(), *self.recogniser.parameters()]
        return {
            "generator": self._adam(both, 1.0),
            "discriminator": self._adam([*self.discriminator.parameters()], self._lazy_share),
        }

    @property
    def _lazy_share(self) -> float:
        """Return the share of D's steps that are updates, R1's being steps of their own."""
        c = self.config
        return c.r1_interval / (c.r1_interval + 1) if c.r1_weight else 1.0

    def _adam(self, parameters: list[torch.nn.Parameter], share: float) -> torch.optim.Optimizer:
        c = self.config
        # Karras et al. (2020), App. B: as if R1's gradient were spread over the updates.
        return torch.optim.Adam(
            parameters,
            c.learning_rate * share,
            betas=(c.adam_beta1**share, c.adam_beta2**share),
            eps=c.adam_eps,
            fused=True,
        )

    @classmethod
    def preset(cls, name: str, data_name: str) -> Preset:
        """Return the settings of `name`: smoke, quick or paper."""
        sizes = dict(_SIZES[name])
        settings = dict(_SETTINGS[name])
        if name == "paper" and data_name == "celeba":
            sizes["image_size"] = 128
        return Preset(cls.Config(**settings), **sizes)

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
            # The original non-saturating loss of Goodfellow et al. (2014).
            adversarial = F.softplus(-logits.float()).mean()
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
            # One after the other: the deviation within groups must not mix real and fake.
            real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
        loss = F.softplus(-real_logits.float()).mean() + F.softplus(fake_logits.float()).mean()
        self.descend(loss, "discriminator")
        return {"discriminator": loss.detach()}

    @stage("r1")
    def _regularize_discriminator(self, real: Tensor) -> dict[str, Tensor]:
        real = real.detach().requires_grad_()
        logits = self.discriminator(real)
        (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        r1 = gradient.square().sum((1, 2, 3)).mean()
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


_SETTINGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "quick": {
        "codes": 3,
        "max_width": 64,
        "min_width": 16,
        "ps_weight": 0.1,
        "regression_weight": 0.1,
        "r1_weight": 10.0,
        "ema_half_life": 2.0,
        "precision": AUTO,
    },
    "smoke": {"codes": 2, "max_width": 8, "min_width": 4, "r1_interval": 4, "ema_half_life": 0.02},
}
_SIZES: dict[str, dict[str, Any]] = {
    "paper": {
        "steps": 3_125_000,
        "image_size": 64,
        "log_every": 500,
        "checkpoint_every": 10_000,
        "note": "as published for CelebA",
    },
    "quick": {
        "steps": 5000,
        "image_size": 32,
        "log_every": 50,
        "checkpoint_every": 500,
        "note": "32×32, 64 to 16 feature maps, 3 codes a resolution, codes recognised at ten times "
        "the weight, R1 γ = 10, an average of half-life 2, bf16 where native; "
        "40,000 images, not 25 million",
    },
    "smoke": {
        "steps": 20,
        "image_size": 16,
        "log_every": 5,
        "checkpoint_every": 5,
        "note": "tiny, to see that everything runs",
    },
}
