"""The GAN baseline (Goodfellow et al. 2014) of Jeon et al. (2021)."""

from torch import Tensor
from torch.optim import Optimizer

from pydisent.systems._gan_family import QUICK, SMOKE, GANConfig, GANFamily, detached, paper
from pydisent.systems._presets import Presets
from pydisent.systems._registry import register

__all__ = ["GAN", "GANConfig"]

# For its GAN the paper tabulates only the widths (Table 3).
_AS_INFOGAN = "widths as published (Table 3), and all else InfoGAN's"
_NOTES = {
    "dsprites": f"{_AS_INFOGAN} on dSprites (Tables 6 and 7)",
    "color-dsprites": f"{_AS_INFOGAN} on Color-dSprites (Tables 6 and 7)",
    "chairs": f"{_AS_INFOGAN}, with IB-GAN's rates and noise for 3D Chairs (Table 7)",
    "celeba": f"{_AS_INFOGAN}, with IB-GAN's rates and noise for CelebA (Table 7); the crop is "
    "not published",
}


@register
class GAN(GANFamily):
    """Train G against D; a reconstructor Q learns to recover codes, without affecting G.

    min over D of the logistic loss, min over G of E[softplus(−D(G(z)))], both on noisy images; min
    over Q of E‖Q(G(z)) − z‖²/2, whose gradient stops at the images. Q encodes.
    """

    name = "gan"
    presets = Presets(paper=paper(_NOTES), quick=QUICK, smoke=SMOKE)

    def __init__(self, config: GANConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape, config.latent_size)

    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return RMSProp for each player."""
        return self.rmsprops(self.generator)

    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update all networks once, from the same weights, with images (B, C, H, W)."""
        z = self.draw_codes(len(batch))
        losses = self.losses(batch, z, z)
        logs = detached(losses)
        generative = self.regularized(losses["generator"], self.generator, z, logs)
        self.descend_each(
            {
                ("discriminator",): losses["discriminator"],
                ("generator",): generative,
                ("reconstructor",): -losses["mi_lower"],
            }
        )
        return logs
