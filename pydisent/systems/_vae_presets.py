"""Presets shared by the VAEs: Kumar et al.'s (2018), and disentanglement_lib's."""

from typing import Any

from pydisent.systems._presets import SMOKE as _SMOKE
from pydisent.systems._presets import Recipe, Settings

QUICK = Recipe(
    note="32×32, half the width, batch 64, ten times the learning rate, weaker regularizers for a "
    "quarter of the pixels",
    steps=10_000,
    image_size=32,
    log_every=50,
    checkpoint_every=1000,
    settings={"base": 16, "hidden": 128, "batch_size": 64, "learning_rate": 1e-3},
)
SMOKE = _SMOKE.with_settings(latent_size=4, base=4, hidden=16, batch_size=8, learning_rate=1e-3)

# The data sets of the comparison (Locatello et al., 2019).
_COMPARED = (
    "dsprites",
    "color-dsprites",
    "noisy-dsprites",
    "scream-dsprites",
    "3dshapes",
    "cars3d",
    "smallnorb",
)
_UNKNOWN = "Adam's rate and the updates, not published, are disentanglement_lib's"
_KUMAR: dict[str, dict[str, Any]] = {
    "dsprites": {
        "note": "as published for 2D Shapes (Kumar et al., sec. 4, Table 1); the layers of its "
        f"CNN, Higgins et al.'s on other data, and {_UNKNOWN}",
        "settings": {"latent_size": 10, "batch_size": 400},
    },
    "celeba": {
        "note": "as published for CelebA (Kumar et al., sec. 4, Table 1); a random tenth of the "
        f"images held out, as the paper's is not known; the crop is the usual one, and {_UNKNOWN}",
        "split": "all",
        "held_out": 0.1,
        "crop": 148,
        "settings": {"latent_size": 32, "batch_size": 100},
    },
    "chair-masks": {
        "note": "as published for 3D Chairs (Kumar et al., sec. 4), but of 1393 models, as their "
        f"809 are not listed; weights and batch, not published, are 2D Shapes', and {_UNKNOWN}",
        "split": "train",
        "settings": {"latent_size": 32, "batch_size": 400},
    },
}


def of_kumar(*data_names: str, celeba: Settings | None = None) -> Recipe:
    """Return Kumar et al.'s recipe for the data sets with published settings of a system.

    Parameters
    ----------
    data_names : str
        Some of "dsprites", "celeba" and "chair-masks"; the first is the fallback for other data.
    celeba : mapping of str to object, optional
        Settings for CelebA, besides latent size and batch.
    """
    by_data = {name: dict(_KUMAR[name]) for name in data_names}
    by_data["celeba"]["settings"] = {**by_data["celeba"]["settings"], **(celeba or {})}
    return Recipe(
        note="",
        steps=300_000,
        image_size=64,
        log_every=500,
        checkpoint_every=10_000,
        published=data_names,
        by_data=by_data,
    )


def of_locatello(strength: str) -> Recipe:
    """Return disentanglement_lib's recipe, with a note on the chosen strength."""
    return Recipe(
        note=f"as published for the comparison of Locatello et al. (2019); {strength}",
        steps=300_000,
        image_size=64,
        log_every=500,
        checkpoint_every=10_000,
        settings={"networks": "locatello"},
        by_data={"smallnorb": {"split": "all"}},
        published=_COMPARED,
    )
