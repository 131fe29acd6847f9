"""Subsets of data sets, and splits into training and test images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pydisent._checks import check, check_number
from pydisent.data._base import FactorDataset, ImageDataset
from pydisent.data._observed import ObservedFactorDataset
from pydisent.data.indices import Indices, integer_array


class Subset(ImageDataset):
    """Selected images of a data set, in a given order, with their labels and attributes.

    Parameters
    ----------
    dataset : ImageDataset
        The whole data set.
    indices : sequence of int
        Numbers of the images.

    Raises
    ------
    TypeError, ValueError
        If ``indices`` are not a one-dimensional sequence of integers in [0, len(dataset)).
    """

    def __init__(self, dataset: ImageDataset, indices: Indices) -> None:
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
    """Split a data set into training images and a random fraction of test images.

    Parameters
    ----------
    dataset : ImageDataset
        The whole data set.
    share : float
        In [0, 1), the fraction of test images, rounded to whole images; 0 for none.

    Returns
    -------
    train, test : ImageDataset
        Disjoint, and the same on every call; observed factors stay with their images. If nothing is
        held out, as from a grid of factors, whose metrics need all of it, the data set itself and
        None.

    Raises
    ------
    ValueError
        If ``share`` is outside [0, 1), or leaves either part without images.
    """
    check_number("share", share, at_least=0, below=1)
    if share == 0 or isinstance(dataset, FactorDataset):
        return dataset, None
    count = round(share * len(dataset))
    whole = f"a share of {len(dataset)} images that leaves some on both sides"
    check(0 < count < len(dataset), "share", whole, share)
    order = np.random.default_rng(0).permutation(len(dataset))
    train, test = np.sort(order[count:]), np.sort(order[:count])
    return _part(dataset, train), _part(dataset, test)


def _part(dataset: ImageDataset, rows: np.ndarray) -> ImageDataset:
    """Return the images of the given rows, with their observed factors, if any."""
    if isinstance(dataset, ObservedFactorDataset):
        return dataset.part(Subset(dataset.dataset, rows), rows)
    return Subset(dataset, rows)
