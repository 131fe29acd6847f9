"""Burgess et al. (2018): a VAE whose KL follows a growing capacity."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pydisent.systems._config import check_integers, check_numbers
from pydisent.systems._presets import Presets
from pydisent.systems._ranges import stage
from pydisent.systems._registry import register
from pydisent.systems._vae_family import VAEConfig, VAEFamily
from pydisent.systems._vae_presets import QUICK, SMOKE, of_locatello


@dataclass(frozen=True)
class AnnealedVAEConfig(VAEConfig):
    """`VAEConfig` plus the capacity schedule.

    Attributes
    ----------
    gamma : float
        γ, the weight of the KL's distance from the capacity.
    capacity : float
        The final capacity C in nats; 5 to 75 in the published comparison.
    capacity_steps : int
        Updates over which C grows linearly from 0.
    """

    gamma: float = 1000.0
    capacity: float = 25.0
    capacity_steps: int = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "gamma", "capacity", at_least=0)
        check_integers(self, "capacity_steps")


@register
class AnnealedVAE(VAEFamily):
    """Minimise −E_q[log p(x|z)] + γ |KL(q(z|x) ‖ N(0, I)) − C| (Burgess et al., Eq. 8)."""

    name = "annealed-vae"
    Config = AnnealedVAEConfig
    config: AnnealedVAEConfig
    presets = Presets(
        paper=of_locatello("C grows to 25 nats, of its 5 to 75"),
        quick=QUICK.with_settings(gamma=100.0, capacity=10.0, capacity_steps=4000),
        smoke=SMOKE.with_settings(capacity_steps=10),
    )
    capacity_now: Tensor

    def __init__(self, config: AnnealedVAEConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        self.register_buffer("capacity_now", torch.zeros(()), persistent=False)

    def capacity(self) -> float:
        """Return C in nats at the current update."""
        c = self.config
        return c.capacity * min(self.phase_step / c.capacity_steps, 1.0)

    def prepare_step(self) -> None:
        """Write this update's C into its buffer."""
        self.capacity_now.fill_(self.capacity())

    @stage("autoencoder")
    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update encoder and decoder once on images (B, C, H, W)."""
        elbo = self.elbo(batch)
        distance = (elbo.kl - self.capacity_now).abs()
        loss = elbo.reconstruction + self.config.gamma * distance
        return self.minimize(loss, elbo, capacity=self.capacity_now.clone())
