"""Whole models: networks, losses and optimisers behind one small protocol."""

from pydisent.systems._base import (
    PRESETS,
    NotTrainedError,
    Preset,
    System,
    build,
    config_class,
    names,
    preset,
)
from pydisent.systems._config import describe, override
from pydisent.systems.spectral_gan import GAN, SpectralGAN

__all__ = [
    "GAN",
    "PRESETS",
    "NotTrainedError",
    "Preset",
    "SpectralGAN",
    "System",
    "build",
    "config_class",
    "describe",
    "names",
    "override",
    "preset",
]
