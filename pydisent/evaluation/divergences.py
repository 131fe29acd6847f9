"""The KL of each coordinate of a code to the prior: how much information it carries."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pydisent.evaluation.codes import dataset_images, images_of
from pydisent.losses import gaussian_kl
from pydisent.training.run import Run

LOGGED = "kl/"  # prefix under which systems log the KL of coordinates
_BATCH = 256
_AVERAGED = 20  # log lines, from the last


@torch.no_grad()
def posteriors(run: Run, pictures: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes (N, d) and the mean KL to the prior of each coordinate (d,), in nats.

    Parameters
    ----------
    run : Run
        A run of a system with a posterior.
    pictures : sequence of Tensor
        N images in batches (B, C, H, W).
    """
    parts = [run.system.posterior(batch.to(run.system.device)) for batch in pictures]  # type: ignore[operator]
    mu, logvar = (torch.cat(side).cpu().double() for side in zip(*parts))
    return mu.numpy(), gaussian_kl(mu, logvar, reduction="dimensions").numpy()


def divergences(run: Run, *, images: int = 512, seed: int = 0) -> list[float] | None:
    """Return the KL of each coordinate to the prior, in nats.

    For systems with a posterior it is the mean over images of the data, for others the last values
    logged in training.

    Parameters
    ----------
    run : Run
        The run.
    images : int
        Number of images; at most all.
    seed : int
        Seed of the images.

    Returns
    -------
    list of float or None
        None if the system has no such divergence.
    """
    if hasattr(run.system, "posterior"):
        drawn = dataset_images(images_of(run)[0], images, seed)
        return list(map(float, posteriors(run, drawn.split(_BATCH))[1]))
    names = [f"{LOGGED}{name}" for name in run.system.code_names]
    lines = [line for line in run.log if all(name in line for name in names)][-_AVERAGED:]
    means = [float(np.mean([line[name] for line in lines])) for name in names] if lines else []
    return means if means and all(map(math.isfinite, means)) else None
