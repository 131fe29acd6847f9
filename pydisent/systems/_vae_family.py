"""Shared parts of the VAEs: settings, networks and the terms of the ELBO."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from pydisent import parallel
from pydisent.nn import clip_leaks_
from pydisent.nn.layout import channels_last_
from pydisent.ops import reparameterized_sample
from pydisent.systems._base import System
from pydisent.systems._config import check_choices, check_integers, check_numbers, check_types
from pydisent.systems._optimizers import adam, parameters
from pydisent.systems._presets import PHOTOGRAPHS, each
from pydisent.systems._ranges import stage
from pydisent.systems._vae_networks import NETWORKS, networks
from pydisent.systems.precision import PRECISIONS, full_precision, mixed_precision

_ACTIVE = 0.01  # nats; dimensions below this are inactive (as in UDR, Duan et al. 2020)


@dataclass(frozen=True)
class VAEConfig:
    """Settings shared by the VAEs; sizes, batch and Adam as in Locatello et al. (2019).

    Attributes
    ----------
    latent_size : int
        Size d of the latent code.
    networks : str
        "higgins", `ConvEncoder` and `ConvDecoder` with 4×4 kernels, the CNN of Higgins et al.
        (2017), used by Kumar et al.; "locatello", those of disentanglement_lib, whose encoder has
        2×2 kernels in its second half; "dcgan", `DCGANEncoder` and `DCGANGenerator` under spectral
        norm with learned scales (Ramesh et al., App. C), leaks clipped to [0, 1] after each update;
        or "ib-gan", `IBGANGenerator` and its reverse (Jeon et al., App. B).
    base, hidden : int
        Feature maps of the convolutions at half the image's resolution, and units of the dense
        layers; "dcgan" and "ib-gan" ignore the latter. Published bases: 32; 64 for "dcgan"; for
        "ib-gan" 16, on chairs 32 and on CelebA 64.
    decoder : str
        p(x|z): "bernoulli", independent pixels with the decoded values as probabilities (gray
        values count as probabilities as well), or "gaussian", N(decoded value, decoder_std²).
    decoder_std : float
        Fixed σ of the Gaussian decoder. Up to a constant, σ = √½ makes −log p(x|z) the squared
        error, and σ = √(CHW/2) the mean squared error, of an image (C, H, W).
    batch_size : int
        Images per update; at least 2 for "ib-gan", which has batch norm.
    learning_rate, adam_beta1, adam_beta2, adam_eps : float
        Adam's.
    precision : str
        "fp32", "bf16" for mixed precision (codes and losses stay in fp32), or "auto": "bf16" on a
        device with native support. A CPU without it runs "bf16" in fp32.
    """

    latent_size: int = 10
    networks: str = "higgins"
    base: int = 32
    hidden: int = 256
    decoder: str = "bernoulli"
    decoder_std: float = 0.5**0.5
    batch_size: int = 64
    learning_rate: float = 1e-4
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_eps: float = 1e-8
    precision: str = "fp32"

    def __post_init__(self) -> None:
        check_types(self)
        check_integers(self, "latent_size", "base", "hidden")
        check_choices(self, networks=NETWORKS)
        check_integers(self, "batch_size", at_least=2 if self.networks == "ib-gan" else 1)
        check_numbers(self, "learning_rate", "adam_eps", "decoder_std", above=0)
        check_numbers(self, "adam_beta1", "adam_beta2", at_least=0, below=1)
        check_choices(self, decoder=("bernoulli", "gaussian"), precision=PRECISIONS)


class Latents(NamedTuple):
    """Posteriors N(mu, e^logvar) of a batch and samples z from them, (B, d) each.

    `kl_by_dimension` (d,) is their divergence from the prior in nats, averaged over the batch.
    """

    mu: Tensor
    logvar: Tensor
    z: Tensor
    kl_by_dimension: Tensor

    def whole(self) -> "Latents":
        """Gather the latents of the whole batch, of which each process has a shard."""
        if parallel.processes() == 1:
            return self
        mu, logvar, z = parallel.gather(torch.cat(self[:3], 1)).chunk(3, 1)
        return Latents(mu, logvar, z, parallel.average(self.kl_by_dimension))


class Elbo(NamedTuple):
    """The terms of a batch's evidence lower bound, which is −(reconstruction + kl), in nats.

    `own` are the latents of this process's shard, and `latents` those of the whole batch;
    `reconstruction` is −log p(x|z), and `kl` KL(q(z|x) ‖ N(0, I)), averaged over the batch.
    """

    own: Latents
    latents: Latents
    reconstruction: Tensor
    kl: Tensor


class VAEFamily(System):
    """An encoder q(z|x), a decoder p(x|z) and the ELBO's terms; a system's `update` weighs them.

    Parameters
    ----------
    config : VAEConfig
        The settings.
    image_shape : tuple of int
        (C, H, W), square, a power of two >= 8; for "dcgan" and "ib-gan" >= 16.
    """

    Config: ClassVar[type] = VAEConfig
    config: VAEConfig
    # Higgins et al. (2017) model pixels of photographs as Gaussian.
    data_settings = each(PHOTOGRAPHS, decoder="gaussian")

    def __init__(self, config: VAEConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        c = config
        self.encoder, self.decoder = networks(
            c.networks, c.latent_size, c.base, c.hidden, self.image_shape
        )
        channels_last_(self)

    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return Adam for both networks."""
        c = self.config
        betas = (c.adam_beta1, c.adam_beta2)
        both = parameters(self.encoder, self.decoder)
        return {"vae": adam(both, c.learning_rate, betas, c.adam_eps)}

    def graph_key(self) -> str:
        """Return the phase, all of whose updates run the same operations."""
        return self.phase

    def elbo(self, batch: Tensor) -> Elbo:
        """Return the ELBO's terms for images (B, C, H, W)."""
        own = self.draw_latents(batch)
        reconstruction = self.reconstruction_loss(own.z, batch)
        whole = own.whole()
        return Elbo(own, whole, reconstruction, whole.kl_by_dimension.sum())

    def minimize(self, loss: Tensor, elbo: Elbo, **terms: Tensor) -> dict[str, Tensor]:
        """Step encoder and decoder down `loss`; return it and its terms for logging."""
        self.descend(loss, "vae")
        if self.config.networks == "dcgan":
            clip_leaks_(self)
        active = (elbo.latents.kl_by_dimension.detach() > _ACTIVE).sum()
        logs = {"loss": loss, "reconstruction": elbo.reconstruction, "kl": elbo.kl, **terms}
        return {k: v.detach() for k, v in logs.items()} | {"active_dimensions": active}

    def draw_latents(self, x: Tensor) -> Latents:
        """Encode images (B, C, H, W) and sample one code per image."""
        mu, logvar = self.posterior(x)
        z, kl = reparameterized_sample(mu, logvar, parallel.randn_like(mu))
        return Latents(mu, logvar, z, kl.mean(0))

    @stage("decoder")
    def reconstruction_loss(self, z: Tensor, x: Tensor) -> Tensor:
        """Return −log p(x|z) in nats, summed over pixels and averaged over the batch."""
        c = self.config
        with mixed_precision(self):
            logits = full_precision(self.decoder(z))
        if c.decoder == "bernoulli":
            return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        squares = F.mse_loss(logits.sigmoid(), x, reduction="sum") / len(x)
        constant = x[0].numel() * math.log(c.decoder_std * math.sqrt(2 * math.pi))
        return squares / (2 * c.decoder_std**2) + constant

    @stage("encoder")
    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, (N, d) each, of q(z|x) for images x (N, C, H, W)."""
        with mixed_precision(self):
            mu, logvar = full_precision(self.encoder(x)).chunk(2, dim=1)
        return mu, logvar

    def encode(self, x: Tensor) -> Tensor:
        """Return the posterior means (N, d) for images (N, C, H, W) in [0, 1]."""
        return self.encoder(x).chunk(2, dim=1)[0]

    def decode(self, code: Tensor) -> Tensor:
        """Return the means of p(x|z), images (N, C, H, W) in [0, 1], for codes z (N, d)."""
        return self.decoder(code).sigmoid()
