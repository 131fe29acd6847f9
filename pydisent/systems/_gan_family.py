"""Shared parts of the GANs of Jeon et al. (2021): settings, networks, noise, losses, presets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pydisent import parallel
from pydisent.losses import information_lower_bound
from pydisent.nn import IBGANFront, IBGANGenerator, IBGANHead
from pydisent.nn.initialization import normal_, orthogonal_
from pydisent.nn.layout import channels_last_
from pydisent.systems._adversarial import generator_loss, smoothed_discriminator_loss
from pydisent.systems._config import check_choices, check_integers, check_numbers
from pydisent.systems._optimizers import parameters, rmsprop
from pydisent.systems._presets import SMOKE, DataSettings, Recipe
from pydisent.systems._ranges import stage
from pydisent.systems._regularizers import Regularized, RegularizerConfig
from pydisent.systems.precision import AUTO, PRECISIONS, full_precision, mixed_precision

INITIALIZATIONS = {"normal": normal_, "orthogonal": orthogonal_}
# The 3×3 convolutions and hidden units of D's and Q's last layers; see `IBGANHead`.
HEADS = {
    "published": (((4, 4), (16,)), ((4, 4), (16,))),
    "author_code": (((8,), (16,)), ((8,), (16, 16))),
}

# Settings of Tables 3, 4, 5 and 7 that differ from those for dSprites.
_PHOTOGRAPHS: dict[str, Any] = {
    "discriminator_learning_rate": 2e-6,
    "noise_start": 0.5,
    "noise_end": 0.01,
    "label_smoothing": True,
    "initialization": "orthogonal",
}
DATA_SETTINGS: DataSettings = {
    "color-dsprites": {"noise_steps": 400_000},
    "chairs": {**_PHOTOGRAPHS, "base": 32, "discriminator_base": 32, "noise_steps": 700_000},
    "celeba": {**_PHOTOGRAPHS, "base": 64, "discriminator_base": 64, "noise_steps": 1_000_000},
}


def paper(notes: Mapping[str, str]) -> Recipe:
    """Return the paper's row (Table 7) with the given notes by data set, dSprites first."""
    changes: dict[str, dict[str, Any]] = {
        "color-dsprites": {"steps": 500_000},
        "chairs": {"steps": 700_000, "split": "all"},
        "celeba": {"steps": 1_000_000, "split": "all"},
    }
    return Recipe(
        note=notes["dsprites"],
        steps=150_000,
        image_size=64,
        log_every=500,
        checkpoint_every=10_000,
        published=tuple(notes),
        by_data={name: {"note": notes[name], **changes[name]} for name in changes},
    )


# In colour, at ten times the published rates, G saturates irreversibly before D can correct it.
QUICK_COLOUR_RATES = {"learning_rate": 1e-4, "discriminator_learning_rate": 2e-6}
QUICK = Recipe(
    note="32×32, base 16, ten times the learning rates, noise for 8,000 updates, bf16 where native",
    steps=10_000,
    image_size=32,
    log_every=50,
    checkpoint_every=1000,
    settings={
        "base": 16,
        "discriminator_base": 16,
        "learning_rate": 5e-4,
        "discriminator_learning_rate": 1e-5,
        "noise_steps": 8000,
        "precision": AUTO,
    },
    by_data={
        "color-dsprites": {
            "settings": QUICK_COLOUR_RATES,
            "note": "32×32, base 16, twice the learning rates, noise for 8,000 updates, bf16 where "
            "native",
        },
    },
)
SMOKE = SMOKE.with_settings(
    latent_size=4,
    base=4,
    discriminator_base=4,
    batch_size=8,
    learning_rate=1e-3,
    noise_steps=10,
)


@dataclass(frozen=True)
class GANConfig(RegularizerConfig):
    """The paper's settings for dSprites (Jeon et al., Tables 3, 6 and 7), with a regularizer's.

    Attributes
    ----------
    latent_size : int
        Size of the code.
    base, discriminator_base : int
        Feature maps of the generator ("ngf") and the discriminator ("ndf") at half resolution.
    reconstructor_statistics : str
        Images behind the running statistics of the reconstructor's batch norms, which it uses to
        encode: "published", generated images, the only ones it sees in Algorithm 1; "author_code",
        generated and real images in turn, as the authors' code also runs it on each real batch.
        Losses and gradients are the same. (The layers shared with the discriminator see both in any
        case.)
    shared_front : bool
        Whether the reconstructor uses the features of the discriminator's first three layers, which
        only the discriminator's loss trains, or has its own.
    heads : str
        The last layers of D and Q: "published", those of Tables 4-6; "author_code", the wider ones
        of the authors' code for dSprites and Color-dSprites, in Q also deeper. On color-sprites at
        the published rates images saturated with the former in both runs tried, and not with the
        latter.
    initialization : str
        "normal", N(0, 0.02²), as the authors use for sprites, or "orthogonal", as for photographs.
    batch_size : int
        Images per update.
    learning_rate : float
        RMSProp's, for the generator, encoder and reconstructor.
    discriminator_learning_rate : float
        RMSProp's, for the discriminator.
    rmsprop_decay, rmsprop_momentum, rmsprop_eps : float
        RMSProp's decay factor, momentum and ε.
    noise_start, noise_end, noise_steps : float, float, int
        Standard deviation of the noise on the discriminator's real and fake inputs, which changes
        linearly from `noise_start` to `noise_end` over `noise_steps` updates.
    clamp_noise : bool
        Whether noisy images are clamped to [-1, 1], as in the authors' code.
    label_smoothing : bool
        Whether the labels of real images are drawn from U(0.7, 1.2) instead of being 1.
    precision : str
        "fp32", "bf16" for mixed precision (losses stay in fp32), or "auto": "bf16" on a device with
        native support. A CPU without it runs "bf16" in fp32.
    """

    latent_size: int = 10
    base: int = 16
    discriminator_base: int = 16
    reconstructor_statistics: str = "published"
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
    # By keyword alone: it does not change the names of runs made before it.
    heads: str = field(default="published", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integers(self, "latent_size", "base", "discriminator_base", "noise_steps")
        # Batch norm has no deviation for a single image.
        check_integers(self, "batch_size", at_least=2)
        rates = ("learning_rate", "discriminator_learning_rate", "rmsprop_eps")
        check_numbers(self, *rates, above=0)
        check_numbers(self, "noise_start", "noise_end", at_least=0)
        check_numbers(self, "rmsprop_decay", "rmsprop_momentum", at_least=0, below=1)
        check_choices(self, initialization=tuple(INITIALIZATIONS), precision=PRECISIONS)
        check_choices(self, reconstructor_statistics=("published", "author_code"))
        check_choices(self, heads=tuple(HEADS))


class GANFamily(Regularized):
    """A generator G, a discriminator D, and a reconstructor Q that recovers G's input from images.

    D and Q see noisy images. Each system defines what G and Q minimise.

    Parameters
    ----------
    config : GANConfig
        The settings; the paper's by default.
    image_shape : tuple of int
        (C, H, W), square, a power of two >= 16.
    target_size : int
        Size of the vector that Q reconstructs.
    """

    Config: ClassVar[type] = GANConfig
    config: GANConfig
    data_settings = DATA_SETTINGS
    added_settings: ClassVar = {"reconstructor_statistics": "published"}
    noise_std: Tensor

    def __init__(
        self, config: GANConfig, image_shape: tuple[int, int, int], target_size: int
    ) -> None:
        super().__init__(config, image_shape)
        channels, size, _ = self.image_shape
        c = config
        self.generator = IBGANGenerator(c.latent_size, channels, c.base, size)
        self.front = IBGANFront(channels, c.discriminator_base)
        self.own_front = None if c.shared_front else IBGANFront(channels, c.discriminator_base)
        for_d, for_q = HEADS[c.heads]
        self.discriminator = IBGANHead(1, c.discriminator_base, size, *for_d)
        self.reconstructor = IBGANHead(target_size, c.discriminator_base, size, *for_q)
        INITIALIZATIONS[c.initialization](self)
        self.register_buffer("noise_std", torch.zeros(()), persistent=False)
        channels_last_(self)

    def rmsprops(self, *generating: nn.Module) -> dict[str, Optimizer]:
        """Return RMSProp for each player, the generator's for all networks `generating` images."""
        c = self.config
        players: dict[str, list[nn.Module]] = {
            "discriminator": [self.front, self.discriminator],
            "generator": [*generating],
            "reconstructor": [self.reconstructor, *filter(None, [self.own_front])],
        }
        rates = {"discriminator": c.discriminator_learning_rate}
        shared = (c.rmsprop_decay, c.rmsprop_eps, c.rmsprop_momentum)
        return {
            name: rmsprop(parameters(*networks), rates.get(name, c.learning_rate), *shared)
            for name, networks in players.items()
        }

    def losses(self, batch: Tensor, code: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the players' losses on real images (B, C, H, W) and images from codes (B, m).

        They are the logistic loss of D, the non-saturating loss of G, and the lower bound I^L on
        the mutual information of images and `target` (B, n), which Q reconstructs.
        """
        with mixed_precision(self):
            fake = self._noisy(self._generate(code))
            fake_logits, features = self._discriminate(fake)
            real = self._noisy(2 * batch - 1)
            real_logits, real_features = self._discriminate(real)
            found = full_precision(self._reconstruct(fake, features))
            if self.config.reconstructor_statistics == "author_code":
                with torch.no_grad():
                    self._reconstruct(real, real_features)
        return {
            "discriminator": self.discriminator_loss(real_logits, fake_logits),
            "generator": generator_loss(fake_logits),
            "mi_lower": information_lower_bound(target, found),
        }

    @stage("generator")
    def _generate(self, code: Tensor) -> Tensor:
        return self.generator(code)

    @stage("discriminator")
    def _discriminate(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return D's logits (B, 1) for images, and its front's features."""
        features = self.front(images)
        return full_precision(self.discriminator(features)), features

    @stage("reconstructor")
    def _reconstruct(self, images: Tensor, features: Tensor) -> Tensor:
        """Return Q's output (B, n) for `images` with the `features` of D's front."""
        return self.reconstructor(features if self.own_front is None else self.own_front(images))

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the logistic loss for logits (B, 1), with one-sided label smoothing if set."""
        labels = torch.ones_like(real)
        if self.config.label_smoothing:
            labels = 0.7 + 0.5 * parallel.draw(
                lambda n: torch.rand(n, 1, device=real.device, dtype=real.dtype), len(real)
            )
        return smoothed_discriminator_loss(real, fake, labels)

    def prepare_step(self) -> None:
        """Write this update's standard deviation of the instance noise into its buffer."""
        self.noise_std.fill_(self.scheduled_noise())

    def graph_key(self) -> tuple[str, bool, bool] | None:
        """Return the phase, and whether the update has noise and a regularizer.

        Return None if the update's regularizer cannot be captured.
        """
        if not self.regularizes_in_a_graph():
            return None
        return self.phase, self.scheduled_noise() > 0, self.is_regularized()

    def scheduled_noise(self) -> float:
        """Return the standard deviation of the instance noise at this update."""
        c = self.config
        share = min(1.0, self.phase_step / c.noise_steps)
        return c.noise_start + (c.noise_end - c.noise_start) * share

    def _noisy(self, images: Tensor) -> Tensor:
        if not self.scheduled_noise():
            return images
        noisy = images + self.noise_std * parallel.randn_like(images)
        return noisy.clamp(-1, 1) if self.config.clamp_noise else noisy

    @property
    def training_parts(self) -> Sequence[str]:
        """Return the discriminator, and its front unless the reconstructor uses its features."""
        return ("discriminator", *(() if self.own_front is None else ("front",)))

    def encode(self, x: Tensor) -> Tensor:
        """Return Q(x), (N, n), for images x (N, C, H, W) in [0, 1]."""
        images = 2 * x - 1
        return self._reconstruct(images, self.front(images) if self.own_front is None else images)

    def decode(self, code: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1] for codes (N, m)."""
        return (self.generator(code) + 1) / 2


def detached(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the terms detached, for logging."""
    return {name: term.detach() for name, term in terms.items()}
