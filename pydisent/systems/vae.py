"""The variational autoencoder of Kingma & Welling (2014)."""

from torch import Tensor

from pydisent.systems._presets import Presets
from pydisent.systems._ranges import stage
from pydisent.systems._registry import register
from pydisent.systems._vae_family import VAEConfig, VAEFamily
from pydisent.systems._vae_presets import QUICK, SMOKE, of_kumar

__all__ = ["VAE", "VAEConfig"]


@register
class VAE(VAEFamily):
    """Minimise −E_q[log p(x|z)] + KL(q(z|x) ‖ N(0, I)) (Kumar et al., Eq. 1)."""

    name = "vae"
    presets = Presets(paper=of_kumar("dsprites", "celeba", "chair-masks"), quick=QUICK, smoke=SMOKE)

    @stage("autoencoder")
    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update encoder and decoder once on images (B, C, H, W)."""
        elbo = self.elbo(batch)
        return self.minimize(elbo.reconstruction + elbo.kl, elbo)
