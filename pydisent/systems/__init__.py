"""Complete models: networks, losses and optimisers behind a small protocol."""

from pydisent.systems._base import NotTrainedError, System
from pydisent.systems._config import describe, override
from pydisent.systems._left_out import LeftOutError
from pydisent.systems._presets import PRESETS, Preset, Presets, Recipe
from pydisent.systems._registry import (
    added_settings,
    build,
    config_class,
    default_data,
    names,
    preset,
    register,
)
from pydisent.systems.annealed_vae import AnnealedVAE
from pydisent.systems.attribute_ae import AttributeAE
from pydisent.systems.beta_tcvae import BetaTCVAE
from pydisent.systems.beta_vae import BetaVAE
from pydisent.systems.dip_vae import DIPVAE1, DIPVAE2
from pydisent.systems.factor_vae import FactorVAE
from pydisent.systems.gan import GAN
from pydisent.systems.ib_gan import IBGAN
from pydisent.systems.infogan import InfoGAN
from pydisent.systems.jacobian_ae import JacobianAE
from pydisent.systems.ps_sc import PSSC
from pydisent.systems.spectral_gan import SpectralGAN
from pydisent.systems.vae import VAE

__all__ = [
    "DIPVAE1",
    "DIPVAE2",
    "GAN",
    "IBGAN",
    "PRESETS",
    "PSSC",
    "VAE",
    "AnnealedVAE",
    "AttributeAE",
    "BetaTCVAE",
    "BetaVAE",
    "FactorVAE",
    "InfoGAN",
    "JacobianAE",
    "LeftOutError",
    "NotTrainedError",
    "Preset",
    "Presets",
    "Recipe",
    "SpectralGAN",
    "System",
    "added_settings",
    "build",
    "config_class",
    "default_data",
    "describe",
    "names",
    "override",
    "preset",
    "register",
]
