"""Which images make a batch: a pure function of the seed and the step."""

import numpy as np


class BatchSampler:
    """Shuffle the data anew each epoch and cut it into batches; a last part batch is dropped.

    Parameters
    ----------
    size : int
        Images in the data set.
    batch_size : int
        Images in a batch, at most `size`.
    seed : int
        Fixes every epoch's order.

    Raises
    ------
    ValueError
        If the batch is empty or larger than the data set.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        if not 1 <= batch_size <= size:
            raise ValueError(
                f"batch_size is {batch_size}; accepted: 1 to the data set's {size} images"
            )
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def __call__(self, step: int) -> np.ndarray:
        """Return the int64 indices (batch_size,) of the batch of `step`, counted from zero."""
        epoch, position = divmod(step, self.size // self.batch_size)
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.size)
            self._epoch = epoch
        start = position * self.batch_size
        return self._order[start : start + self.batch_size]
