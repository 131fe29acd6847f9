import sys
from pathlib import Path

import pytest
import torch

from pydisent import systems

# The helper modules beside this file are imported by name; importlib mode adds no path.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def smoke():
    """Build a system of the smoke preset for 16×16 images, ready to train."""

    def build(name, channels=1, **settings):
        config = systems.override(systems.preset(name, "smoke", "sprites").config, settings)
        torch.manual_seed(0)
        system = systems.build(name, config, (channels, 16, 16))
        system.dataset_size = 1000
        system.start_phase("train")
        return system

    return build


@pytest.fixture
def images():
    """Draw the same gray images for a system's step."""

    def draw(system):
        generator = torch.Generator().manual_seed(5)
        return torch.rand(system.images_per_step, *system.image_shape, generator=generator)

    return draw


@pytest.fixture
def replay():
    """Return (mu, logvar, z) in float64 of a step that starts after `torch.manual_seed(seed)`."""

    def latents(system, batch, seed):
        torch.manual_seed(seed)
        with torch.no_grad():
            mu, logvar = system.posterior(batch)
        noise = torch.randn_like(mu)
        mu, logvar, noise = mu.double(), logvar.double(), noise.double()
        return mu, logvar, mu + (logvar / 2).exp() * noise

    return latents


@pytest.fixture
def double():
    """Make everything in double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
