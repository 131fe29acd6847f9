"""The batches of a run, prefetched by a thread."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

from pydisent import parallel
from pydisent.data import ImageDataset
from pydisent.systems import System
from pydisent.training.sampling import BatchSampler

Batch = tuple[Tensor, ...]


class Batches:
    """Batches on the system's device, each determined by the step alone.

    A batch is images (B, C, H, W), and attributes (B, A) in {-1, +1} if the system needs them. With
    several processes, B is the size of this rank's shard.

    Parameters
    ----------
    dataset : ImageDataset
        The images.
    sampler : BatchSampler
        Chooses the images of a batch.
    system : System
        Determines the parts of a batch and their device.
    mirror : bool
        Whether each image is mirrored left to right with probability 1/2.
    """

    def __init__(
        self, dataset: ImageDataset, sampler: BatchSampler, system: System, mirror: bool = False
    ) -> None:
        self.dataset, self.sampler, self.system = dataset, sampler, system
        self.mirror = mirror
        self._worker: ThreadPoolExecutor | None = None
        self._ahead: tuple[int, Future[Batch]] | None = None

    @contextmanager
    def working(self) -> Iterator["Batches"]:
        """Prefetch the next batch in a thread within the context."""
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as self._worker:
            try:
                yield self
            finally:
                self._worker, self._ahead = None, None

    def __call__(self, step: int) -> Batch:
        """Return the batch of `step`, counted from 0, and start prefetching the next."""
        if self._ahead is not None and self._ahead[0] == step:
            batch = self._ahead[1].result()
        else:
            batch = self._make(step)
        if self._worker is not None:
            self._ahead = step + 1, self._worker.submit(self._make, step + 1)
        device = self.system.device
        return tuple(part.to(device, non_blocking=True) for part in batch)

    def _make(self, step: int) -> Batch:
        whole = torch.from_numpy(self.sampler(step))
        indices = parallel.own_rows(whole, self.system.batches_per_step)
        images = self.dataset.images(indices)
        if self.mirror:
            mirrored = torch.from_numpy(self.sampler.mirrored(step))
            mirrored = parallel.own_rows(mirrored, self.system.batches_per_step)
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        batch: Batch = (images,)
        if self.system.needs_attributes:
            assert self.dataset.attributes is not None
            batch += (2 * self.dataset.attributes[indices].float() - 1,)
        if self.system.device.type == "cuda":
            batch = tuple(part.pin_memory() for part in batch)  # for an asynchronous copy
        return batch
