"""Image data sets, and data sets over a grid of ground-truth factors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from pydisent._checks import check, check_integer, check_one_of, check_tensor, shape_error
from pydisent.data.indices import Indices, check_range, integer_array, plain_array


class ImageDataset(Dataset[Any], ABC):
    """Images indexed by number and read in batches, including by `torch.utils.data.DataLoader`.

    Parameters
    ----------
    name : str
        The data's name in `pydisent.data.load`.
    shape : tuple of int
        (C, H, W) of the images as stored or rendered.
    length : int
        Number of images.
    labels : Tensor, optional
        (length,) int64 class labels.
    attributes : Tensor, optional
        (length, A) bool, which of the A attributes each image has.
    attribute_names : sequence of str
        Names of the A attributes.
    image_size : int, optional
        Side in pixels of the square images returned: area averages if smaller, bilinear if larger.
        None keeps the stored shape.

    Raises
    ------
    ValueError, TypeError
        If ``image_size`` is not an integer >= 1, or the labels or attributes are not as above.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, int, int],
        length: int,
        *,
        labels: Tensor | None = None,
        attributes: Tensor | None = None,
        attribute_names: Sequence[str] = (),
        image_size: int | None = None,
    ) -> None:
        self.name = name
        self._length = length
        self.labels = labels
        self.attributes = attributes
        self.attribute_names = tuple(attribute_names)
        _check_known("labels", labels, torch.int64, length)
        _check_known("attributes", attributes, torch.bool, length, len(self.attribute_names))
        side = None if image_size is None else check_image_size(image_size)
        self._size = (shape[1], shape[2]) if side is None else (side, side)
        self.image_shape = (shape[0], *self._size)

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self)} images of {self.image_shape})"

    def images(self, indices: Indices) -> Tensor:
        """Return the images with the given numbers, (N, C, H, W) float32 in [0, 1].

        Raises
        ------
        TypeError, ValueError
            If ``indices`` are not integers, not one-dimensional, or outside [0, len).
        """
        return self._fit(self._read(self._check_indices(indices)))

    def __getitem__(self, index: int | slice | Indices) -> Any:
        """Return an image with its factors, attributes or label, or several images.

        Parameters
        ----------
        index : int, slice or sequence of int
            One or several numbers; negative ones count from the end.

        Returns
        -------
        Tensor, or tuple of two Tensors
            The image, (C, H, W) float32 in [0, 1], with its factors (f,) int64 if the data has
            factors, else its attributes (A,) bool, else its label () int64; only the image if the
            data has none of these. Several images have a leading axis N.

        Raises
        ------
        TypeError, ValueError
            If ``index`` is neither an integer, a slice nor integers (N,).
        IndexError
            If it is outside [-len, len).
        """
        if isinstance(index, slice):
            numbers = np.arange(*index.indices(len(self)))
        else:
            numbers = self._from_both_ends(integer_array(index, "index"))
        images, known = self.images(np.atleast_1d(numbers)), self._known(np.atleast_1d(numbers))
        if numbers.ndim == 0:
            images, known = images[0], None if known is None else known[0]
        return images if known is None else (images, known)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return a list of single items; `DataLoader` reads batches through this."""
        found = self[list(indices)]
        return list(zip(*found)) if isinstance(found, tuple) else list(found)

    def _known(self, indices: np.ndarray) -> Tensor | None:
        """Return attributes or labels (N, ...) for checked ``indices``; None if there are none."""
        known = self.labels if self.attributes is None else self.attributes
        return None if known is None else known[torch.from_numpy(indices)]

    def _from_both_ends(self, array: np.ndarray) -> np.ndarray:
        if array.size and (array.min() < -len(self) or array.max() >= len(self)):
            raise IndexError(
                f"index must be in [-{len(self)}, {len(self)}), got values from {array.min()} to "
                f"{array.max()}"
            )
        return np.where(array < 0, array + len(self), array)

    @abstractmethod
    def _read(self, indices: np.ndarray) -> Tensor:
        """Return the stored images for checked ``indices``, (N, C, H, W) float32 in [0, 1]."""

    def _fit(self, images: Tensor) -> Tensor:
        return resize(images, self._size).reshape(len(images), *self.image_shape)

    def _check_indices(self, indices: Indices) -> np.ndarray:
        array = integer_array(indices, "indices")
        if array.ndim != 1:
            raise ValueError(f"indices must have shape (N,), got {array.shape}")
        check_range("indices", array, 0, len(self))
        return array


class FactorDataset(ImageDataset):
    """Images of every combination of ground-truth factors, each exactly once.

    Images are numbered in C order, with the last factor fastest; `factors` and `index` are inverses
    of each other.

    Parameters
    ----------
    name, shape, image_size
        As for `ImageDataset`.
    factor_names : sequence of str
        Names of the f factors.
    factor_sizes : sequence of int
        Number of values of each factor.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, int, int],
        factor_names: Sequence[str],
        factor_sizes: Sequence[int],
        *,
        image_size: int | None = None,
    ) -> None:
        self.factor_names = tuple(factor_names)
        self.factor_sizes = tuple(int(size) for size in factor_sizes)
        if len(self.factor_names) != len(self.factor_sizes) or min(self.factor_sizes) < 1:
            raise ValueError(
                f"factor_sizes must be an integer >= 1 for each of {self.factor_names}, "
                f"got {self.factor_sizes}"
            )
        if math.prod(self.factor_sizes) > np.iinfo(np.int64).max:
            raise ValueError(
                f"factor_sizes must be sizes of fewer than 2^63 images, got {self.factor_sizes}"
            )
        super().__init__(name, shape, math.prod(self.factor_sizes), image_size=image_size)

    def factors(self, indices: Indices) -> Tensor:
        """Return the factor values of the given images, (N, f) int64, counted from 0.

        Raises
        ------
        TypeError, ValueError
            If ``indices`` are not integers, not one-dimensional, or outside [0, len).
        """
        grid = np.unravel_index(self._check_indices(indices), self.factor_sizes)
        return torch.from_numpy(np.stack(grid, axis=1).astype(np.int64))

    def index(self, factors: Sequence[Sequence[int]] | np.ndarray | Tensor) -> Tensor:
        """Return the numbers of the images with the given factor values, (N,) int64.

        Raises
        ------
        TypeError, ValueError
            If ``factors`` are not integers, not (N, f), or a value is outside its factor's range.
        """
        array = integer_array(factors, "factors")
        if array.ndim != 2 or array.shape[1] != len(self.factor_sizes):
            raise ValueError(
                f"factors must have shape (N, {len(self.factor_sizes)}), a column for each of "
                f"{self.factor_names}, got shape {array.shape}"
            )
        if array.size and ((array < 0) | (array >= np.array(self.factor_sizes))).any():
            raise ValueError(
                f"factors must be in [0, size) for the sizes {self.factor_sizes} of "
                f"{self.factor_names}, got columns from {array.min(0)} to {array.max(0)}"
            )
        return torch.from_numpy(np.ravel_multi_index(tuple(array.T), self.factor_sizes))

    def _known(self, indices: np.ndarray) -> Tensor:
        return self.factors(indices)

    def sample_factors(self, n: int, generator: np.random.Generator) -> Tensor:
        """Draw ``n`` factor combinations uniformly from the grid, (n, f) int64.

        Raises
        ------
        TypeError, ValueError
            If ``generator`` is not a `numpy.random.Generator`, or ``n`` not an integer >= 0.
        """
        if not isinstance(generator, np.random.Generator):
            raise TypeError(
                f"generator must be a numpy.random.Generator, got {type(generator).__name__}"
            )
        check_integer("n", n, at_least=0)
        drawn = generator.integers(0, self.factor_sizes, size=(n, len(self.factor_sizes)))
        return torch.from_numpy(drawn)


class ArrayDataset(ImageDataset):
    """Images in memory, as bytes.

    Parameters
    ----------
    name, image_size
        As for `ImageDataset`.
    array : numpy.ndarray
        (N, C, H, W) uint8, or (N, H, W, C) if ``channels`` is "last".
    white : int
        The byte value that stands for 1.
    labels : Tensor, optional
        (N,) int64.
    channels : {"first", "last"}, optional
        Whether the axis of channels, of any number, is before or after those of rows and columns.
        By default it is before, and has at most 4: more are likely to be rows.

    Raises
    ------
    TypeError, ValueError
        If ``array`` is not a NumPy array of bytes without masked entries, as above, with at least 1
        image; or another argument is not as above.
    """

    def __init__(
        self,
        name: str,
        array: np.ndarray,
        *,
        white: int = 255,
        labels: Tensor | None = None,
        channels: str | None = None,
        image_size: int | None = None,
    ) -> None:
        check_integer("white", white, at_least=1, at_most=255)
        if channels is not None:
            check_one_of("channels", channels, ("first", "last"))
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
            got = f"{type(array).__name__} of {getattr(array, 'dtype', 'no dtype')}"
            raise TypeError(f"array must be a NumPy array of uint8, from 0 to {white}, got {got}")
        plain_array(array, "array")  # refuses masked entries
        axes = "(N, H, W, C)" if channels == "last" else "(N, C, H, W)"
        rule = f"{axes}, at least 1 image"
        if channels is None:
            rule += ", with 1 to 4 channels C if channels='first' or 'last' is not given"
        fits = array.ndim == 4 and array.size > 0 and (channels is not None or array.shape[1] <= 4)
        check(fits, "array", rule, array.shape)
        if channels == "last":
            array = array.transpose(0, 3, 1, 2)
        if white < 255:
            check(array.max() <= white, "array", f"at most white = {white}", array.max())
        count, depth, height, width = array.shape
        super().__init__(name, (depth, height, width), count, labels=labels, image_size=image_size)
        self._array = array
        self._white = white

    def _read(self, indices: np.ndarray) -> Tensor:
        return torch.from_numpy(self._array[indices]).to(torch.float32).div_(self._white)


def _check_known(name: str, known: Any, dtype: torch.dtype, *shape: int) -> None:
    """Raise unless labels or attributes are None or a tensor of this dtype and shape."""
    if known is None:
        return
    check_tensor(name, known)
    if known.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, got {known.dtype}")
    if known.shape != shape:
        raise shape_error(name, shape, known)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize images (N, C, H, W): area averages if smaller, bilinear if larger."""
    height, width = images.shape[-2:]
    if (height, width) == size or not len(images):
        return images
    if size[0] < min(height, width):
        if height % size[0] == width % size[1] == 0:  # equivalent, but much faster
            return F.avg_pool2d(images, (height // size[0], width // size[1]))
        return F.interpolate(images, size, mode="area")
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


def check_image_size(image_size: int) -> int:
    """Return ``image_size`` as an int; TypeError or ValueError unless it is an integer >= 1."""
    check_integer("image_size", image_size, at_least=1)
    return int(image_size)
