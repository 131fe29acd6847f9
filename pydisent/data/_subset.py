"""A part of a data set, and the split into images to train on and images to test with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ._base import FactorDataset, ImageDataset, integer_array


class Subset(ImageDataset):
    """Some images of a data set, in a given order, with their labels and attributes.

    Parameters
    ----------
    dataset : ImageDataset
        The whole.
    indices : sequence of int
        Numbers of the images.

    Raises
    ------
    TypeError, ValueError
        If ``indices`` are not integers in [0, len(dataset)), one-dimensional.
    """

    def __init__(self, dataset: ImageDataset, indices: Sequence[int] | np.ndarray | Tensor) -> None:
        rows = integer_array(indices, "indices")
        rows = dataset._check_indices(rows)
        chosen = torch.from_numpy(rows)
        super().__init__(
            dataset.name,
            dataset.image_shape,
            len(rows),
            labels=None if dataset.labels is None else dataset.labels[chosen],
            attributes=None if dataset.attributes is None else dataset.attributes[chosen],
            attribute_names=dataset.attribute_names,
        )
        self.dataset, self._rows = dataset, rows

    def _read(self, indices: np.ndarray) -> Tensor:
        return self.dataset.images(self._rows[indices])

    def _known(self, indices: np.ndarray) -> Tensor | None:
        return self.dataset._known(self._rows[indices])


def hold_out(dataset: ImageDataset, share: float) -> tuple[ImageDataset, ImageDataset | None]:
    """Split a data set into the images to train on and a random share of it to test with.

    Parameters
    ----------
    dataset : ImageDataset
        The whole.
    share : float
        In [0, 1), how much of it is held out, rounded to whole images; 0 for nothing.

    Returns
    -------
    train, test : ImageDataset
        Disjoint, the same at every call; the data set itself and None if nothing is held out, as
        of a grid of factors, whose metrics want all of it.

    Raises
    ------
    ValueError
        If ``share`` is outside [0, 1), or leaves one of the two without images.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must be in [0, 1); got {share}")
    if share == 0 or isinstance(dataset, FactorDataset):
        return dataset, None
    count = round(share * len(dataset))
    if not 0 < count < len(dataset):
        raise ValueError(f"share must leave images on both sides; got {share} of {len(dataset)}")
    order = np.random.default_rng(0).permutation(len(dataset))
    train, test = np.sort(order[count:]), np.sort(order[:count])
    return Subset(dataset, train), Subset(dataset, test)
