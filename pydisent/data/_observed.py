"""Images with observed factors: a row of values each, not a grid of all combinations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from pydisent._checks import check
from pydisent.data._base import FactorDataset, ImageDataset
from pydisent.data.indices import Indices, check_range, integer_array


class ObservedFactorDataset(ImageDataset):
    """Images of a data set with observed factors; combinations may be missing.

    Unlike in a `FactorDataset`, which has every combination once, factors are distributed as in the
    data, with its correlations. Metrics that fix a factor draw from the rows: the shared value is
    that of an image drawn uniformly, and the images that share it are drawn uniformly from all that
    have it, so that the other factors follow their distribution given that value (v ~ p(v),
    and p(v | v_k), in the notation of Higgins et al. 2017). A factor that depends on another cannot
    be distinguished from it, however good the codes are.

    Parameters
    ----------
    dataset : ImageDataset
        The images.
    values : Tensor or array
        (len(dataset), f) integers, the value of each factor in each image, from 0.
    factor_names : sequence of str
        Names of the f factors, all different.
    factor_values : sequence of sequence of str
        The meanings of each factor's values, one per value.
    classes : sequence of str
        The factors whose values are unordered classes.
    note : str
        How the factors were obtained, for `remark`.

    Raises
    ------
    TypeError, ValueError
        If the values are not integers (len(dataset), f), are outside their factor's range, or do
        not match the names or meanings.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        values: Sequence[Sequence[int]] | np.ndarray | Tensor,
        factor_names: Sequence[str],
        factor_values: Sequence[Sequence[str]],
        *,
        classes: Sequence[str] = (),
        note: str = "",
    ) -> None:
        if not isinstance(dataset, ImageDataset):
            raise TypeError(f"dataset must be an ImageDataset, got {type(dataset).__name__}")
        self.factor_names = tuple(factor_names)
        if not all(isinstance(meanings, Iterable) for meanings in factor_values):
            rule = "sequences of the meanings of each factor's values"
            raise TypeError(f"factor_values must be {rule}, got {factor_values!r:.80}")
        self.factor_values = tuple(tuple(map(str, meanings)) for meanings in factor_values)
        self.factor_sizes = tuple(len(meanings) for meanings in self.factor_values)
        count = len(self.factor_names)
        different = count > 0 and len(set(self.factor_names)) == count
        check(different, "factor_names", "different names, at least 1", self.factor_names)
        check(
            len(self.factor_sizes) == count,
            "factor_values",
            f"of {count} factors",
            len(self.factor_sizes),
        )
        table = integer_array(values, "values")
        shape = (len(dataset), count)
        check(table.shape == shape, "values", f"of shape {shape}, one row per image", table.shape)
        for name, column, size in zip(self.factor_names, table.T, self.factor_sizes):
            check_range(f"values of {name!r}", column, 0, size)
        self.factor_classes = tuple(classes)
        unknown = [name for name in self.factor_classes if name not in self.factor_names]
        check(not unknown, "classes", f"among {self.factor_names}", unknown)
        super().__init__(
            dataset.name,
            dataset.image_shape,
            len(dataset),
            labels=dataset.labels,
            attributes=dataset.attributes,
            attribute_names=dataset.attribute_names,
        )
        self.dataset, self.note, self._values = dataset, note, table

    def factors(self, indices: Indices) -> Tensor:
        """Return the factor values of the given images, (N, f) int64, counted from 0.

        Raises
        ------
        TypeError, ValueError
            If ``indices`` are not integers, not one-dimensional, or outside [0, len).
        """
        return torch.from_numpy(self._values[self._check_indices(indices)])

    @property
    def remark(self) -> str:
        """Return a sentence on what scores against these factors are based on."""
        drawn = (
            f"factors were observed in {len(self)} images; a factor is fixed at the value of a "
            "random image, and the others follow the images with that value"
        )
        return f"{drawn}; {self.note}" if self.note else drawn

    def part(self, dataset: ImageDataset, rows: np.ndarray) -> ObservedFactorDataset:
        """Return ``dataset``, which holds the images of the given rows, with their factors."""
        return ObservedFactorDataset(
            dataset,
            self._values[rows],
            self.factor_names,
            self.factor_values,
            classes=self.factor_classes,
            note=self.note,
        )

    def _read(self, indices: np.ndarray) -> Tensor:
        return self.dataset.images(indices)

    def _known(self, indices: np.ndarray) -> Tensor:
        return self.factors(indices)


def with_attribute_factors(dataset: ImageDataset) -> ObservedFactorDataset:
    """Return a data set with its attributes as factors of two values, "no" and "yes".

    Attributes that all images have, or none, are left out: like a factor with one value, they do
    not distinguish images.

    Raises
    ------
    ValueError
        If the data set has no attributes, or none that some images have and others lack.
    """
    found = dataset.attributes
    if found is None:
        raise ValueError(f"dataset must have attributes, got {dataset.name!r}, which has none")
    values = found.numpy().astype(np.int64)
    varying = np.flatnonzero(values.min(0, initial=1) < values.max(0, initial=0))
    check(len(varying) > 0, "dataset", "of attributes that only some images have", dataset.name)
    left_out = [n for j, n in enumerate(dataset.attribute_names) if j not in varying]
    note = "attributes count as factors of two values"
    note += f"; {', '.join(left_out)} is the same in all images" if left_out else ""
    names = [dataset.attribute_names[j] for j in varying]
    meanings = [("no", "yes")] * len(names)
    return ObservedFactorDataset(
        dataset, values[:, varying], names, meanings, classes=names, note=note
    )


def has_factors(dataset: ImageDataset) -> bool:
    """Return whether `factors_of` accepts the data set."""
    return dataset.attributes is not None or isinstance(
        dataset, FactorDataset | ObservedFactorDataset
    )


def factors_of(dataset: ImageDataset) -> FactorDataset | ObservedFactorDataset:
    """Return a data set with its factors, or with its attributes as factors.

    Raises
    ------
    ValueError
        If it has neither.
    """
    if isinstance(dataset, FactorDataset | ObservedFactorDataset):
        return dataset
    return with_attribute_factors(dataset)
