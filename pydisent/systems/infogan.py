"""The InfoGAN baseline (Chen et al. 2016) of Jeon et al. (2021)."""

from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer

from pydisent.systems._config import check_numbers
from pydisent.systems._gan_family import (
    DATA_SETTINGS,
    QUICK,
    SMOKE,
    GANConfig,
    GANFamily,
    detached,
    paper,
)
from pydisent.systems._presets import Presets, combine
from pydisent.systems._registry import register

_ELSEWHERE = "D_z = 10 and networks as for sprites (Table 6), all else as published for IB-GAN on"
_NOTES = {
    "dsprites": "as published for dSprites (Tables 3, 6 and 7)",
    "color-dsprites": "as published for Color-dSprites (Tables 3, 6 and 7)",
    "chairs": f"{_ELSEWHERE} 3D Chairs (Tables 3 and 7): the paper has no InfoGAN table for it",
    "celeba": f"{_ELSEWHERE} CelebA (Tables 3 and 7): the paper has no InfoGAN table for it, and "
    "no crop",
}


@dataclass(frozen=True)
class InfoGANConfig(GANConfig):
    """`GANConfig` plus γ.

    Attributes
    ----------
    gamma : float
        γ, the weight of the generator's adversarial loss relative to the mutual information.
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "gamma", at_least=0)


@register
class InfoGAN(GANFamily):
    """Minimise γ E[softplus(−D(G(z)))] − I^L(z, G(z)) over G and Q (Jeon et al., Eq. 2).

    I^L = E[‖z‖² − ‖z − Q(G(z))‖²]/2 is a lower bound on the mutual information (Eq. 7). As in the
    paper, G's only input is z ~ N(0, I): no part of the code is noise.
    """

    name = "infogan"
    Config = InfoGANConfig
    config: InfoGANConfig
    data_settings = combine(DATA_SETTINGS, {"chairs": {"gamma": 1.2}, "celeba": {"gamma": 2.0}})
    presets = Presets(paper=paper(_NOTES), quick=QUICK, smoke=SMOKE)

    def __init__(self, config: InfoGANConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape, config.latent_size)

    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return RMSProp for each player."""
        return self.rmsprops(self.generator)

    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update all networks once, from the same weights, with images (B, C, H, W)."""
        z = self.draw_codes(len(batch))
        losses = self.losses(batch, z, z)
        logs = detached(losses)
        generative = self.config.gamma * losses["generator"] - losses["mi_lower"]
        generative = self.regularized(generative, self.generator, z, logs)
        self.descend_each(
            {
                ("discriminator",): losses["discriminator"],
                ("generator", "reconstructor"): generative,
            }
        )
        return logs
