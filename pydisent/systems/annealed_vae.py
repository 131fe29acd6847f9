"""Burgess et al. (2018): a VAE whose KL is held at a capacity that grows."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pydisent.systems._base import register
from pydisent.systems._config import require
from pydisent.systems.vae import VAE, Latents, VAEConfig


@dataclass(frozen=True)
class AnnealedVAEConfig(VAEConfig):
    """`VAEConfig` with the capacity's schedule.

    Attributes
    ----------
    gamma : float
        γ, the weight of the KL's distance from the capacity.
    capacity : float
        The last capacity C in nats; 5 to 75 in the published comparison.
    capacity_steps : int
        Updates over which C grows from 0, linearly.
    """

    gamma: float = 1000.0
    capacity: float = 25.0
    capacity_steps: int = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, ("gamma", "capacity"), lambda v: 0 <= v < math.inf, ">= 0")
        require(self, ("capacity_steps",), lambda v: v >= 1, ">= 1")


@register
class AnnealedVAE(VAE):
    """Minimise −E_q[log p(x|z)] + γ |KL(q(z|x) ‖ N(0, I)) − C| (Burgess et al., Eq. 8)."""

    name = "annealed-vae"
    Config = AnnealedVAEConfig
    config: AnnealedVAEConfig
    capacity_now: Tensor
    strengths: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"gamma": 100.0, "capacity": 10.0, "capacity_steps": 4000},
        "smoke": {"capacity_steps": 10},
    }

    def __init__(self, config: AnnealedVAEConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        self.register_buffer("capacity_now", torch.zeros(()), persistent=False)

    def capacity(self) -> float:
        """Return C in nats at the current update."""
        c = self.config
        return c.capacity * min(self.phase_step / c.capacity_steps, 1.0)

    def prepare_step(self) -> None:
        """Set C of this update."""
        self.capacity_now.fill_(self.capacity())

    def regularizer(self, latents: Latents) -> tuple[Tensor, dict[str, Tensor]]:
        """Return γ |KL − C|."""
        loss = self.config.gamma * (latents.kl - self.capacity_now).abs()
        return loss, {"capacity": self.capacity_now.clone()}
