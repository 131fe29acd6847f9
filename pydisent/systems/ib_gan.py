"""Jeon et al. (2021): an InfoGAN whose generator's input is an information bottleneck."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pydisent import parallel
from pydisent.nn import RepresentationEncoder
from pydisent.ops import reparameterized_sample
from pydisent.systems._base import Preset, register
from pydisent.systems._config import require
from pydisent.systems.gan import INITIALIZATIONS, Codes
from pydisent.systems.infogan import InfoGAN, InfoGANConfig

_LIMITING = 100.0
# A quarter of the pixels tell less of the noise.
_QUICK_BETA = 0.7


@dataclass(frozen=True)
class IBGANConfig(InfoGANConfig):
    """`InfoGANConfig` with the encoder e(r|z) and β (Tables 4, 5 and 7).

    Attributes
    ----------
    noise_size : int
        Size D_z of the noise z, which the reconstructor is to find; `latent_size` is that of the
        representation r, the code.
    encoder_units : str
        Units of the encoder's hidden layers, with commas between them.
    beta : float
        β, the weight of KL(e(r|z) ‖ N(0, I)).
    kl_limit : float
        With β = 0 nothing keeps e(r|z) within the range of numbers: from so many nats on the KL
        counts a hundred times, as in the authors' code.
    """

    noise_size: int = 16
    encoder_units: str = "64,64,32"
    beta: float = 0.141
    kl_limit: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, ("noise_size",), lambda v: v >= 1, ">= 1")
        require(self, ("beta", "kl_limit"), lambda v: 0 <= v < math.inf, ">= 0")
        units = self.encoder_units.split(",")
        if not all(unit.strip().isdecimal() and int(unit) for unit in units):
            raise ValueError(
                f"encoder_units is {self.encoder_units!r}; accepted: integers >= 1 with commas "
                "between them"
            )


@register
class IBGAN(InfoGAN):
    """Minimise γ E[softplus(−D(G(r)))] − I^L(z, G(r)) + β I^U over G, Q and e (Eq. 11).

    r ~ e(r|z) is drawn for noise z ~ N(0, I); I^U = E KL(e(r|z) ‖ N(0, I)) bounds the mutual
    information of z and the image from above (Eq. 10), as the reconstruction of z does from below.
    With β = 0 it is InfoGAN, its generator being G(r(z)); with β >= 1 nothing is gained by telling
    G anything. An image is encoded in two steps, as the mean of e(r|Q(x)).
    """

    name = "ib-gan"
    Config = IBGANConfig
    config: IBGANConfig
    published_for: ClassVar[dict[str, dict[str, Any]]] = {
        "color-sprites": {"beta": 0.071, "encoder_units": "32,32", "shared_front": False},
        "chairs": {"gamma": 1.2, "beta": 0.35, "noise_size": 64},
        "celeba": {"gamma": 2.0, "beta": 0.325, "noise_size": 64, "latent_size": 15},
    }

    strengths: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {"noise_size": 6, "encoder_units": "8,8"}
    }

    def __init__(self, config: IBGANConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        c = config
        units = [int(width) for width in c.encoder_units.split(",")]
        self.encoder = RepresentationEncoder(c.noise_size, c.latent_size, units)
        INITIALIZATIONS[c.initialization](self.encoder)

    def _generator_parts(self) -> list[nn.Module]:
        return [self.generator, self.encoder]

    @classmethod
    def preset(cls, name: str, data_name: str) -> Preset:
        """Return the settings of `name`: smoke, quick or paper."""
        made = super().preset(name, data_name)
        if name != "quick":
            return made
        beta = round(_QUICK_BETA * made.config.beta, 3)
        note = f"{made.note}, {_QUICK_BETA} times the β"
        return replace(made, config=replace(made.config, beta=beta), note=note)

    @property
    def target_size(self) -> int:
        """Return the size D_z of the noise, which the reconstructor is to find."""
        return self.config.noise_size

    def draw_inputs(self, n: int) -> Codes:
        """Draw n representations r (n, D_r), each from e(r|z) of its own noise z."""
        size = self.config.noise_size
        z = parallel.draw(lambda rows: torch.randn(rows, size, device=self.device), n)
        mu, logvar = self.encoder(z)
        r, kl = reparameterized_sample(mu, logvar, parallel.randn_like(mu))
        return Codes(r, z, kl.mean(0))

    def generative_loss(self, terms: dict[str, Tensor]) -> Tensor:
        """Return what generator, encoder and reconstructor minimise."""
        kl, weight = terms["mi_upper"], torch.as_tensor(self.config.beta)
        if not self.config.beta:
            weight = _LIMITING * (kl.detach() >= self.config.kl_limit)
        return super().generative_loss(terms) + weight * kl

    def encode(self, x: Tensor) -> Tensor:
        """Return the mean of e(r|Q(x)), (N, D_r), of images x (N, C, H, W) in [0, 1]."""
        return self.encoder(super().encode(x))[0]

    def sample_code(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return n codes (n, D_r), r from e(r|z) for z from N(0, I): what the generator sees."""
        device = generator.device if generator is not None else self.device
        sizes = self.config.noise_size, self.config.latent_size
        z, noise = (torch.randn(n, size, generator=generator, device=device) for size in sizes)
        mu, logvar = self.encoder(z.to(self.device))
        return reparameterized_sample(mu, logvar, noise.to(self.device))[0].detach()

    @property
    def code_names(self) -> list[str]:
        """Return r1, r2, ..."""
        return [f"r{i + 1}" for i in range(self.config.latent_size)]
