"""scikit-learn's handwritten digits: real data that needs no files."""

from __future__ import annotations

import numpy as np
import torch

from pydisent._extras import optional
from pydisent.data._base import ArrayDataset


class Digits(ArrayDataset):
    """The 1797 real handwritten digits that ship with scikit-learn, 1x8x8 in [0, 1], with labels.

    Parameters
    ----------
    image_size : int, optional
        Side in pixels of the images returned; larger ones are bilinear.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    """

    def __init__(self, *, image_size: int | None = None) -> None:
        with optional("the data set digits"):
            from sklearn.datasets import load_digits

        data = load_digits()
        super().__init__(
            "digits",
            data.images.astype(np.uint8)[:, None],
            white=16,
            labels=torch.from_numpy(data.target.astype(np.int64)),
            image_size=image_size,
        )
