"""The variational autoencoder of Kingma & Welling (2014), and what its descendants share."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from pydisent import parallel
from pydisent.nn import ConvDecoder, ConvEncoder
from pydisent.nn.layout import channels_last_
from pydisent.ops import reparameterized_sample
from pydisent.systems._base import GaussianCodes, Preset, register
from pydisent.systems._config import require, require_one_of
from pydisent.systems._precision import PRECISIONS, full_precision, mixed_precision
from pydisent.systems._ranges import stage

_ACTIVE = 0.01  # nats; a dimension below carries nothing (the mask of UDR, Duan et al., 2020)


@dataclass(frozen=True)
class VAEConfig:
    """The settings of the published comparison (Locatello et al., 2019).

    Attributes
    ----------
    latent_size : int
        Size d of the latent code.
    base, hidden : int
        Feature maps of the first convolutions, and units of the dense layers.
    decoder : str
        p(x|z): "bernoulli", independent pixels with the decoded values as probabilities (grays
        count as probabilities too), or "gaussian", N(decoded value, decoder_std²).
    decoder_std : float
        σ of the Gaussian decoder, fixed; at √½ its −log p(x|z) is the squared error plus a
        constant.
    batch_size : int
        Images an update.
    learning_rate, adam_beta1, adam_beta2, adam_eps : float
        Adam's.
    precision : str
        "fp32", "bf16" for mixed precision (codes and losses stay in fp32), or "auto": "bf16" on a
        device that has it natively. A CPU without it computes "bf16" in fp32.
    """

    latent_size: int = 10
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
        at_least_one = ("latent_size", "base", "hidden", "batch_size")
        require(self, at_least_one, lambda v: v >= 1, ">= 1")
        rates = ("learning_rate", "adam_eps", "decoder_std")
        require(self, rates, lambda v: 0 < v < math.inf, "> 0")
        require(self, ("adam_beta1", "adam_beta2"), lambda v: 0 <= v < 1, "in [0, 1)")
        require_one_of(self, "decoder", ("bernoulli", "gaussian"))
        require_one_of(self, "precision", PRECISIONS)


class Latents(NamedTuple):
    """A batch's posteriors N(mu, e^logvar) and draws z from them, (B, d) each.

    `kl_by_dimension` (d,) is their divergence from the prior in nats, its mean over the batch.
    """

    mu: Tensor
    logvar: Tensor
    z: Tensor
    kl_by_dimension: Tensor

    @property
    def kl(self) -> Tensor:
        """Return the KL of all dimensions, a scalar."""
        return self.kl_by_dimension.sum()

    def whole(self) -> "Latents":
        """Return those of the whole batch, of which each process has a part."""
        if parallel.processes() == 1:
            return self
        mu, logvar, z = parallel.gather(torch.cat(self[:3], 1)).chunk(3, 1)
        return Latents(mu, logvar, z, parallel.average(self.kl_by_dimension))


@register
class VAE(GaussianCodes):
    """Maximise E_q[log p(x|z)] − KL(q(z|x) ‖ N(0, I)) (Kumar et al., Eq. 1).

    A descendant overrides `regularizer`, what is added to −log p(x|z).

    Parameters
    ----------
    config : VAEConfig
        The settings; the published comparison's by default.
    image_shape : tuple of int
        (C, H, W), square, a power of two >= 8.
    """

    name: ClassVar[str] = "vae"
    Config: ClassVar[type] = VAEConfig
    config: VAEConfig
    # What a system's presets change, by preset, beside what all of them share.
    strengths: ClassVar[dict[str, dict[str, Any]]] = {}
    published_for: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, config: VAEConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        channels, size, _ = self.image_shape
        c = config
        self.encoder = ConvEncoder(2 * c.latent_size, channels, c.base, c.hidden, size)
        self.decoder = ConvDecoder(c.latent_size, channels, c.base, c.hidden, size)
        channels_last_(self)

    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return Adam for both networks."""
        c = self.config
        adam = torch.optim.Adam(
            [*self.encoder.parameters(), *self.decoder.parameters()],
            c.learning_rate,
            betas=(c.adam_beta1, c.adam_beta2),
            eps=c.adam_eps,
            fused=True,
        )
        return {"vae": adam}

    @classmethod
    def preset(cls, name: str, data_name: str) -> Preset:
        """Return the settings of `name`: smoke, quick or paper."""
        # Higgins et al. (2017) model the pixels of photographs by Gaussians.
        photographs = data_name in ("celeba", "faces", "svhn", "images")
        settings: dict[str, Any] = {"decoder": "gaussian"} if photographs else {}
        settings |= _SETTINGS[name] | cls.strengths.get(name, {})
        if name == "paper":
            settings |= cls.published_for.get(data_name, {})
        return Preset(cls.Config(**settings), **_SIZES[name])

    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update encoder and decoder once on the images (B, C, H, W)."""
        return self.update_autoencoder(batch)[1]

    def graph_key(self) -> str:
        """Return the phase: all its updates are alike."""
        return self.phase

    @stage("autoencoder")
    def update_autoencoder(self, batch: Tensor) -> tuple[Latents, dict[str, Tensor]]:
        """Step encoder and decoder down the loss; return the codes it was of, and its terms."""
        latents = self.draw_latents(batch)
        reconstruction = self.reconstruction_loss(latents.z, batch)
        whole = latents.whole()
        added, terms = self.regularizer(whole)
        loss = reconstruction + added
        self.descend(loss, "vae")
        active = (whole.kl_by_dimension.detach() > _ACTIVE).sum()
        logs = {"loss": loss, "reconstruction": reconstruction, "kl": whole.kl, **terms}
        return latents, {k: v.detach() for k, v in logs.items()} | {"active_dimensions": active}

    def draw_latents(self, x: Tensor) -> Latents:
        """Encode images (B, C, H, W) and draw one code an image."""
        mu, logvar = self.posterior(x)
        z, kl = reparameterized_sample(mu, logvar, parallel.randn_like(mu))
        return Latents(mu, logvar, z, kl.mean(0))

    def regularizer(self, latents: Latents) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what is added to −log p(x|z), and its terms to log beside the KL.

        The latents are those of the whole batch, also where several processes share it.
        """
        return latents.kl, {}

    @stage("decoder")
    def reconstruction_loss(self, z: Tensor, x: Tensor) -> Tensor:
        """Return −log p(x|z) in nats, summed over pixels, its mean over the batch."""
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
        """Return the posterior's mean (N, d) for images (N, C, H, W) in [0, 1]."""
        return self.encoder(x).chunk(2, dim=1)[0]

    def decode(self, code: Tensor) -> Tensor:
        """Return the mean of p(x|z), images (N, C, H, W) in [0, 1], of codes z (N, d)."""
        return self.decoder(code).sigmoid()


_SETTINGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "quick": {"base": 16, "hidden": 128, "batch_size": 64, "learning_rate": 1e-3},
    "smoke": {"latent_size": 4, "base": 4, "hidden": 16, "batch_size": 8, "learning_rate": 1e-3},
}
_SIZES: dict[str, dict[str, Any]] = {
    "paper": {
        "steps": 300_000,
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
        "note": "32×32, half the width, batch 64, ten times the learning rate, weaker regularizers "
        "for a quarter of the pixels",
    },
    "smoke": {
        "steps": 20,
        "image_size": 16,
        "log_every": 5,
        "checkpoint_every": 5,
        "note": "tiny, to see that everything runs",
    },
}
