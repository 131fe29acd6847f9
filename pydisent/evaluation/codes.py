"""Codes drawn from the prior, decoded images and reconstructions."""

from typing import Any, Literal

import torch
from torch import Tensor

from pydisent._checks import check_one_of
from pydisent.data import ImageDataset
from pydisent.training.run import Run

Part = Literal["train", "test"]
Split = Literal["auto", "train", "test"]

_BATCH = 256
_POOL = 64


def prior_codes(system: Any, n: int, seed: int) -> Tensor:
    """Return n codes (n, d) drawn from the prior with this seed."""
    return system.sample_code(n, torch.Generator().manual_seed(seed))


def base_codes(system: Any, n: int, seed: int) -> Tensor:
    """Return n codes (n, d) from the prior; the first ones do not depend on n.

    Raises
    ------
    ValueError
        If n, the callers' argument `bases`, is below 1.
    """
    if n < 1:
        raise ValueError(f"bases must be an integer >= 1, got {n}")
    return prior_codes(system, max(n, _POOL), seed)[:n]


@torch.no_grad()
def decode(system: Any, codes: Tensor) -> Tensor:
    """Return the images (*N, C, H, W) of codes (*N, d), on the CPU."""
    flat = codes.reshape(-1, codes.shape[-1])
    images = torch.cat([system.decode(part).float().cpu() for part in flat.split(_BATCH)])
    return images.unflatten(0, codes.shape[:-1])


@torch.no_grad()
def reconstruct(system: Any, images: Tensor) -> Tensor:
    """Return decode(encode(x)) of images (N, C, H, W), on the CPU."""
    parts = images.split(_BATCH)
    return torch.cat([decode(system, system.encode(x.to(system.device))) for x in parts])


def dataset_images(dataset: Any, n: int, seed: int) -> Tensor:
    """Return n images (n, C, H, W) drawn without replacement, or all if there are fewer."""
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))
    return dataset.images(order[:n])


def images_of(run: Run, split: Split = "auto", usual: Part = "train") -> tuple[ImageDataset, Part]:
    """Return images of a run's data, and whether training saw them.

    Parameters
    ----------
    run : Run
        The run.
    split : str
        "train": the training images; "test": held-out images, or the official test set.
    usual : str
        The part if `split` is "auto"; training images stand in for missing test images.

    Raises
    ------
    ValueError
        If `split` is "test" and there are no test images.
    """
    check_one_of("split", split, ("auto", "train", "test"))
    if (usual if split == "auto" else split) == "test":
        if run.held_out is not None:
            return run.held_out, "test"
        if split == "test":
            raise ValueError(
                f"split must be 'auto' or 'train' for {run.system.name} on {run.dataset.name}, "
                "as training saw all images, got 'test'"
            )
    return run.dataset, "train"


def encoded_images(run: Run, n: int, seed: int, split: Split = "auto") -> tuple[Tensor, Tensor]:
    """Return n images (n, C, H, W) of a run's data, and their codes (n, d).

    Raises
    ------
    ValueError
        If there are fewer images, or none of `split`.
    """
    images = dataset_images(images_of(run, split)[0], n, seed)
    if len(images) < n:
        raise ValueError(f"the data must have at least {n} images, got {len(images)}")
    with torch.no_grad():
        return images, run.system.encode(images.to(run.system.device))
