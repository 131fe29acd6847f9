"""A GAN (Goodfellow et al. 2014) as Jeon et al. (2021) compare with it, and what its family shares.

Its descendants are `infogan` and `ib-gan`: the same networks, with more for the generator to do.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from pydisent import parallel
from pydisent.losses import information_lower_bound
from pydisent.nn import IBGANFront, IBGANGenerator, IBGANHead
from pydisent.nn.initialization import normal_, orthogonal_
from pydisent.nn.layout import channels_last_
from pydisent.systems._base import GaussianCodes, Preset, register
from pydisent.systems._config import require, require_one_of
from pydisent.systems._precision import AUTO, PRECISIONS, full_precision, mixed_precision
from pydisent.systems._ranges import stage
from pydisent.systems._rmsprop import RMSprop

INITIALIZATIONS = {"normal": normal_, "orthogonal": orthogonal_}


@dataclass(frozen=True)
class GANConfig:
    """The paper's settings for dSprites (Jeon et al., Tables 3, 6 and 7).

    Attributes
    ----------
    latent_size : int
        Size of the code.
    base, discriminator_base : int
        Feature maps of the generator ("ngf") and the discriminator ("ndf") at half resolution.
    shared_front : bool
        Whether the reconstructor looks at the discriminator's first three layers, which the
        discriminator's loss alone trains, or has its own.
    initialization : str
        "normal", N(0, 0.02²), or "orthogonal": the authors' for sprites, and for photographs.
    batch_size : int
        Images an update.
    learning_rate : float
        RMSProp's, of generator, encoder and reconstructor.
    discriminator_learning_rate : float
        RMSProp's, of the discriminator.
    rmsprop_decay, rmsprop_momentum, rmsprop_eps : float
        RMSProp's decay factor, momentum and ε.
    noise_start, noise_end, noise_steps : float, float, int
        Standard deviation of the noise on the discriminator's real and fake inputs, linear from
        the one to the other over so many updates.
    clamp_noise : bool
        Whether noisy images are put back into [-1, 1], as in the authors' code.
    label_smoothing : bool
        Whether real images' labels are drawn from U(0.7, 1.2) instead of 1.
    precision : str
        "fp32", "bf16" for mixed precision (losses stay in fp32), or "auto": "bf16" on a
        device that has it natively. A CPU without it computes "bf16" in fp32.
    """

    latent_size: int = 10
    base: int = 16
    discriminator_base: int = 16
    shared_front: bool = True
    initialization: str = "normal"
    batch_size: int = 64
    learning_rate: float = 5e-5
    discriminator_learning_rate: float = 1e-6
    rmsprop_decay: float = 0.99
    rmsprop_momentum: float = 0.9
    rmsprop_eps: float = 1e-8
    noise_start: float = 1.0
    noise_end: float = 0.0
    noise_steps: int = 100_000
    clamp_noise: bool = True
    label_smoothing: bool = False
    precision: str = "fp32"

    def __post_init__(self) -> None:
        sizes = ("latent_size", "base", "discriminator_base", "noise_steps")
        require(self, sizes, lambda v: v >= 1, ">= 1")
        # Batch norm of a single image has no deviation.
        require(self, ("batch_size",), lambda v: v >= 2, ">= 2")
        rates = ("learning_rate", "discriminator_learning_rate", "rmsprop_eps")
        require(self, rates, lambda v: 0 < v < math.inf, "> 0")
        require(self, ("noise_start", "noise_end"), lambda v: 0 <= v < math.inf, ">= 0")
        require(self, ("rmsprop_decay", "rmsprop_momentum"), lambda v: 0 <= v < 1, "in [0, 1)")
        require_one_of(self, "initialization", tuple(INITIALIZATIONS))
        require_one_of(self, "precision", PRECISIONS)


class Codes(NamedTuple):
    """What a batch is generated from.

    `code` (B, m) goes into the generator, `target` (B, n) is what the reconstructor is to find;
    `kl_by_dimension` (m,) is the encoder's divergence from the prior in nats, if there is one.
    """

    code: Tensor
    target: Tensor
    kl_by_dimension: Tensor | None = None


@register
class GAN(GaussianCodes):
    """Train G against D; a reconstructor Q learns to read codes off images, unnoticed by G.

    min over D of the logistic loss, min over G of E[softplus(−D(G(z)))], on noisy images both; min
    over Q of E‖Q(G(z)) − z‖²/2, whose gradient stops at the images. Q is there to encode.

    Parameters
    ----------
    config : GANConfig
        The settings; the paper's by default.
    image_shape : tuple of int
        (C, H, W), square, a power of two >= 16.
    """

    name: ClassVar[str] = "gan"
    Config: ClassVar[type] = GANConfig
    config: GANConfig
    noise_std: Tensor
    # What a system's presets change, by preset or by data set, beside what all of them share.
    strengths: ClassVar[dict[str, dict[str, Any]]] = {}
    published_for: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, config: GANConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        channels, size, _ = self.image_shape
        c = config
        self.generator = IBGANGenerator(c.latent_size, channels, c.base, size)
        self.front = IBGANFront(channels, c.discriminator_base)
        self.own_front = None if c.shared_front else IBGANFront(channels, c.discriminator_base)
        self.discriminator = IBGANHead(1, c.discriminator_base, size)
        self.reconstructor = IBGANHead(self.target_size, c.discriminator_base, size)
        INITIALIZATIONS[c.initialization](self)
        self.register_buffer("noise_std", torch.zeros(()), persistent=False)
        channels_last_(self)

    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return RMSProp for each player."""
        c = self.config
        return {
            "discriminator": self._rmsprop(
                [self.front, self.discriminator], c.discriminator_learning_rate
            ),
            "generator": self._rmsprop(self._generator_parts(), c.learning_rate),
            "reconstructor": self._rmsprop(self._reconstructor_parts(), c.learning_rate),
        }

    @property
    def target_size(self) -> int:
        """Return the size of what the reconstructor is to find."""
        return self.config.latent_size

    def _generator_parts(self) -> list[nn.Module]:
        return [self.generator]

    def _reconstructor_parts(self) -> list[nn.Module]:
        return [self.reconstructor, *([] if self.own_front is None else [self.own_front])]

    def _rmsprop(self, modules: list[nn.Module], rate: float) -> torch.optim.Optimizer:
        c = self.config
        return RMSprop(
            [p for module in modules for p in module.parameters()],
            rate,
            alpha=c.rmsprop_decay,
            eps=c.rmsprop_eps,
            momentum=c.rmsprop_momentum,
            foreach=True,
        )

    @classmethod
    def preset(cls, name: str, data_name: str) -> Preset:
        """Return the settings of `name`: smoke, quick or paper."""
        data_name = _ALIKE.get(data_name, data_name)
        published = _PUBLISHED.get(data_name, {})
        settings: dict[str, Any] = published.get("settings", {}) | cls.published_for.get(
            data_name, {}
        )
        settings |= _SETTINGS[name] | cls.strengths.get(name, {})
        sizes = dict(_SIZES[name])
        if name == "quick" and data_name == "color-sprites":
            settings |= _QUICK_COLOUR_RATES
            sizes["note"] = sizes["note"].replace("ten times", "twice")
        if name == "paper":
            sizes["steps"] = published.get("steps", sizes["steps"])
        return Preset(cls.Config(**settings), **sizes)

    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update all networks once, at the same weights, with the images (B, C, H, W)."""
        real = 2 * batch - 1
        codes = self.draw_inputs(len(real))
        with mixed_precision(self):
            fake = self._noisy(self._generate(codes.code))
            fake_logits, features = self._discriminate(fake)
            real_logits, _ = self._discriminate(self._noisy(real))
            found = full_precision(self._reconstruct(fake, features))
        terms = {
            "discriminator": self._discriminator_loss(real_logits, fake_logits),
            # The original non-saturating loss of Goodfellow et al. (2014).
            "generator": F.softplus(-fake_logits).mean(),
            "mi_lower": information_lower_bound(codes.target, found),
        }
        if codes.kl_by_dimension is not None:
            terms["mi_upper"] = codes.kl_by_dimension.sum()
        self.descend_each(self.objectives(terms))
        return {k: v.detach() for k, v in terms.items()} | _by_dimension(codes, self.code_names)

    def objectives(self, terms: dict[str, Tensor]) -> dict[tuple[str, ...], Tensor]:
        """Return what the optimisers minimise, of the terms that are logged."""
        return {
            ("discriminator",): terms["discriminator"],
            ("generator",): terms["generator"],
            ("reconstructor",): -terms["mi_lower"],
        }

    def draw_inputs(self, n: int) -> Codes:
        """Draw what this process's n images are generated from."""
        code = self.draw_codes(n)
        return Codes(code, code)

    @stage("generator")
    def _generate(self, code: Tensor) -> Tensor:
        return self.generator(code)

    @stage("discriminator")
    def _discriminate(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return D's logits (B, 1) of images, and the features of its front."""
        features = self.front(images)
        return full_precision(self.discriminator(features)), features

    @stage("reconstructor")
    def _reconstruct(self, images: Tensor, features: Tensor) -> Tensor:
        """Return what is recovered (B, n) from `images`, of which D's front made `features`."""
        return self.reconstructor(features if self.own_front is None else self.own_front(images))

    def _discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the logistic loss of logits (B, 1), with one-sided label smoothing if set."""
        labels = torch.ones_like(real)
        if self.config.label_smoothing:
            labels = 0.7 + 0.5 * parallel.draw(
                lambda n: torch.rand(n, 1, device=real.device, dtype=real.dtype), len(real)
            )
        # A label above 1 is no probability, but the loss stays what the authors train with.
        return (F.softplus(real) - labels * real).mean() + F.softplus(fake).mean()

    def prepare_step(self) -> None:
        """Set the instance noise of this update."""
        self.noise_std.fill_(self._scheduled_noise())

    def graph_key(self) -> tuple[str, bool]:
        """Return the phase, and whether there is noise."""
        return self.phase, self._scheduled_noise() > 0

    def _scheduled_noise(self) -> float:
        """Return the standard deviation of the instance noise at this update."""
        c = self.config
        share = min(1.0, self.phase_step / c.noise_steps)
        return c.noise_start + (c.noise_end - c.noise_start) * share

    def _noisy(self, images: Tensor) -> Tensor:
        if not self._scheduled_noise():
            return images
        noisy = images + self.noise_std * parallel.randn_like(images)
        return noisy.clamp(-1, 1) if self.config.clamp_noise else noisy

    def encode(self, x: Tensor) -> Tensor:
        """Return Q(x), codes (N, m), of images x (N, C, H, W) in [0, 1]."""
        images = 2 * x - 1
        return self._reconstruct(images, self.front(images) if self.own_front is None else images)

    def decode(self, code: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1] of codes (N, m)."""
        return (self.generator(code) + 1) / 2


def _by_dimension(codes: Codes, names: list[str]) -> dict[str, Tensor]:
    if codes.kl_by_dimension is None:
        return {}
    return {f"kl/{name}": kl for name, kl in zip(names, codes.kl_by_dimension.detach())}


_FACES: dict[str, Any] = {
    "discriminator_learning_rate": 2e-6,
    "noise_start": 0.5,
    "noise_end": 0.01,
    "label_smoothing": True,
    "initialization": "orthogonal",
}
# Data that the paper does not have, and whose settings serve it.
_ALIKE = {"faces": "celeba", "images": "celeba", "svhn": "celeba"}
# Tables 3, 4, 5 and 7, where they differ from dSprites.
_PUBLISHED: dict[str, dict[str, Any]] = {
    "color-sprites": {
        "settings": {"noise_steps": 400_000},
        "steps": 500_000,
    },
    "chairs": {
        "settings": _FACES | {"base": 32, "discriminator_base": 32, "noise_steps": 700_000},
        "steps": 700_000,
    },
    "celeba": {
        "settings": _FACES | {"base": 64, "discriminator_base": 64, "noise_steps": 1_000_000},
        "steps": 1_000_000,
    },
}
# In colour, at ten times the published rates, G saturates for good before D can tell it how.
_QUICK_COLOUR_RATES = {"learning_rate": 1e-4, "discriminator_learning_rate": 2e-6}
_SETTINGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "quick": {
        "base": 16,
        "discriminator_base": 16,
        "learning_rate": 5e-4,
        "discriminator_learning_rate": 1e-5,
        "noise_steps": 8000,
        "precision": AUTO,
    },
    "smoke": {
        "latent_size": 4,
        "base": 4,
        "discriminator_base": 4,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "noise_steps": 10,
    },
}
_SIZES: dict[str, dict[str, Any]] = {
    "paper": {
        "steps": 150_000,
        "image_size": 64,
        "log_every": 500,
        "checkpoint_every": 10_000,
        "note": "as published",
    },
    "quick": {
        "steps": 10_000,
        "image_size": 32,
        "log_every": 50,
        "checkpoint_every": 1000,
        "note": "32×32, base 16, ten times the learning rates, noise for 8,000 updates, bf16 where "
        "native",
    },
    "smoke": {
        "steps": 20,
        "image_size": 16,
        "log_every": 5,
        "checkpoint_every": 5,
        "note": "tiny, to see that everything runs",
    },
}
