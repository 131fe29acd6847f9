"""The choice of each batch's images, a pure function of seed and step."""

import numpy as np

# Permutations of larger data sets are computed on the fly instead of stored.
STORED = 1 << 25


class BatchSampler:
    """Batches of a data set that is reshuffled every epoch; an incomplete last batch is dropped.

    Parameters
    ----------
    size : int
        Number of images in the data set.
    batch_size : int
        Number of images in a batch, at most `size`.
    seed : int
        Determines the order of every epoch.

    Raises
    ------
    ValueError
        If `batch_size` is not in [1, size].
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        if not 1 <= batch_size <= size:
            raise ValueError(
                f"batch_size must be an integer from 1 to {size}, the data set's images, "
                f"got {batch_size}"
            )
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self._epoch = -1
        self._order: np.ndarray | Shuffle = np.empty(0, dtype=np.int64)

    def __call__(self, step: int) -> np.ndarray:
        """Return the int64 indices (batch_size,) of the batch of `step`, counted from 0."""
        epoch, position = divmod(step, self.size // self.batch_size)
        if epoch != self._epoch:
            random = np.random.default_rng([self.seed, epoch])
            stored = self.size <= STORED
            self._order = random.permutation(self.size) if stored else Shuffle(self.size, random)
            self._epoch = epoch
        start = position * self.batch_size
        return self._order[start : start + self.batch_size]

    def mirrored(self, step: int) -> np.ndarray:
        """Return a mask (batch_size,) of mirrored images at `step`, each with probability 1/2."""
        return np.random.default_rng([self.seed, step, 1]).random(self.batch_size) < 0.5


class Shuffle:
    """A pseudorandom permutation of [0, size) in constant memory: a keyed Feistel cipher.

    The cipher permutes the numbers of 2 h bits, with the smallest sufficient h. Numbers outside
    [0, size) are encrypted again until they are inside (cycle walking).

    Parameters
    ----------
    size : int
        Size of the permuted range, below 2^62.
    random : numpy.random.Generator
        Draws the keys.
    """

    ROUNDS = 6

    def __init__(self, size: int, random: np.random.Generator) -> None:
        self.size = size
        self.half = np.uint64(max(1, -(-(size - 1).bit_length() // 2)))
        self.mask = (np.uint64(1) << self.half) - np.uint64(1)
        self.keys = random.integers(0, 2**64, self.ROUNDS, dtype=np.uint64)

    def __getitem__(self, positions: slice) -> np.ndarray:
        """Return the int64 numbers at positions `start:stop`, with both bounds in [0, size]."""
        numbers = self._encrypt(np.arange(positions.start, positions.stop, dtype=np.uint64))
        outside = numbers >= self.size
        while outside.any():
            numbers[outside] = self._encrypt(numbers[outside])
            outside = numbers >= self.size
        return numbers.astype(np.int64)

    def _encrypt(self, numbers: np.ndarray) -> np.ndarray:
        left, right = numbers >> self.half, numbers & self.mask
        for key in self.keys:
            left, right = right, left ^ (_mixed(right + key) & self.mask)
        return left << self.half | right


def _mixed(words: np.ndarray) -> np.ndarray:
    """Apply the finaliser of SplitMix64 to 64-bit words."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
