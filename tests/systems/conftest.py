import sys
from pathlib import Path

import numpy as np
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


# The folders of pictures are made by a module of the data's tests; importlib mode adds no path.
sys.path.insert(0, str(Path(__file__).parents[1] / "data"))


@pytest.fixture
def official(tmp_path, monkeypatch):
    """Make files in a data set's official format, small, and return their path by its name."""
    monkeypatch.setenv("PYDISENT_CACHE", str(tmp_path / "the-cache"))
    path, random = tmp_path / "official", np.random.default_rng(0)

    def dsprites():
        from pydisent.data.dsprites import DSprites

        sizes = (3, 2, 4, 2, 2)
        monkeypatch.setitem(DSprites.__init__.__kwdefaults__, "factor_sizes", sizes)
        images = random.integers(0, 2, (96, 64, 64), dtype=np.uint8)
        classes = np.indices((1, *sizes)).reshape(6, -1).T
        np.savez_compressed(path.with_suffix(".npz"), imgs=images, latents_classes=classes)
        return path.with_suffix(".npz")

    def three_d_shapes():
        from pydisent.data.three_d_shapes import ThreeDShapes

        h5py = pytest.importorskip("h5py")
        sizes = (2, 3, 2, 2, 2, 2)
        monkeypatch.setitem(ThreeDShapes.__init__.__kwdefaults__, "factor_sizes", sizes)
        with h5py.File(path.with_suffix(".h5"), "w") as file:
            file["images"] = random.integers(0, 256, (96, 64, 64, 3), dtype=np.uint8)
            file["labels"] = np.indices(sizes).reshape(6, -1).T.astype(float)
        return path.with_suffix(".h5")

    def pictures(side):
        import _pictures

        for number in range(6):
            _pictures.save(path / f"{number}.png", _pictures.noise(side, side, seed=number))
        return path

    def celeba():
        import _pictures

        _pictures.celeba(path, count=8, partition=True)
        return path

    def chairs():
        import _pictures

        return _pictures.chairs(path)

    makers = {
        "dsprites": dsprites, "color-dsprites": dsprites, "3dshapes": three_d_shapes,
        "celeba": celeba, "chairs": chairs,
        "images": lambda: pictures(64), "lsun": lambda: pictures(64), "ffhq": lambda: pictures(512),
    }  # fmt: skip
    return lambda name: makers[name]()
