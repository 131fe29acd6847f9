"""A run under evaluation."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from torch import Tensor

from pydisent.data import ImageDataset, ObservedFactorDataset, factors_of
from pydisent.evaluation.alignment import alignment_summary
from pydisent.evaluation.codes import Part, Split, dataset_images, images_of, reconstruct
from pydisent.evaluation.masks import mask_summary
from pydisent.evaluation.perception import Perception
from pydisent.metrics import EncodedDataset, MetricResult, Samples, encode_once, sample_codes
from pydisent.training.run import Run

# z-diff and FactorVAE draw from this many images of a larger grid: the mean over seeds changes by
# less than the spread over seeds, and most of the encoding is saved.
MAX_IMAGES = 100_000
_RECONSTRUCTED = 512

Progress = Callable[[str, int, int], None]


class Subject:
    """A run under evaluation; quantities shared by metrics or figures are computed once.

    Parameters
    ----------
    run : Run
        The run.
    label : str, optional
        Name in a report; the system's by default.
    seed : int
        Seed of every draw.
    k : int, optional
        Number of leading eigenvectors that count for F; as in `alignment_summary`.
    max_images : int, optional
        Factor metrics draw from this many images of the grid; None for all.
    perception : Perception, optional
        The nets of TPL, PPL and FID.
    split : str
        "train" or "test": the images that scores use; "auto" for each metric's default.
    published : bool
        Whether TPL, PPL and FID take as many images as the published figures.
    progress : callable, optional
        Called with a metric's name, the number of images decoded so far and their total.
    """

    def __init__(
        self,
        run: Run,
        label: str | None = None,
        *,
        seed: int = 0,
        k: int | None = None,
        max_images: int | None = MAX_IMAGES,
        perception: Perception | None = None,
        split: Split = "auto",
        published: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.split, self.published, self.progress = split, published, progress
        self.run, self.label = run, label or run.system.name
        self.seed, self.k, self.max_images = seed, k, max_images
        self.perception = perception or Perception()

    @property
    def data_key(self) -> tuple[Any, ...]:
        """Return a key that identifies the run's data."""
        plan = self.run.plan
        return tuple(plan.data_arguments().values())

    def images_of(self, usual: Part = "train") -> tuple[ImageDataset, Part]:
        """Return images of the data, and whether training saw them; see `images_of`."""
        return images_of(self.run, self.split, usual)

    def counted(
        self, name: str, total: int, made: Callable[[Tensor], Tensor]
    ) -> Callable[[Tensor], Tensor]:
        """Return `made`, wrapped to report how many of `total` rows it has been called with."""
        done = 0

        def call(rows: Tensor) -> Tensor:
            nonlocal done
            done += len(rows)
            if self.progress is not None:
                self.progress(name, min(done, total), total)
            return made(rows)

        return call

    @cached_property
    def codes(self) -> EncodedDataset:
        """Return the codes of the data set."""
        system = self.run.system
        return encode_once(
            system.encode,
            factors_of(self.images_of()[0]),
            max_images=self.max_images,
            seed=self.seed,
            device=system.device,
        )

    @cached_property
    def samples(self) -> Samples:
        """Return codes and factors for training and testing."""
        return sample_codes(self.codes.encode, self.codes, seed=self.seed)

    @property
    def observed(self) -> dict[str, str]:
        """Return a remark on how observed factors were drawn from; empty for a grid."""
        source = self.codes.source
        return {"observed": source.remark} if isinstance(source, ObservedFactorDataset) else {}

    @property
    def axes(self) -> dict[str, Any]:
        """Return the names of codes and factors, and the images that samples are drawn from."""
        pool = self.codes.pool
        return {
            "split": self.images_of()[1],
            "codes": self.run.system.code_names,
            "factors": list(self.codes.factor_names),
            "images_drawn_from": len(self.codes) if pool is None else len(pool),
            **self.observed,
        }

    @cached_property
    def alignment(self) -> dict[str, Any]:
        """Return F, the mean of its diagonal and the spectra; see `alignment_summary`."""
        return alignment_summary(self.run, seed=self.seed, k=self.k)

    @cached_property
    def masks(self) -> MetricResult:
        """Return the overlap of the codes' masks; see `pydisent.metrics.mask_overlap`."""
        return mask_summary(self.run, seed=self.seed)

    @cached_property
    def reconstructions(self) -> tuple[Tensor, Tensor]:
        """Return images (N, C, H, W), unseen ones if any, and their reconstructions."""
        images = dataset_images(self.images_of("test")[0], _RECONSTRUCTED, self.seed)
        return images, reconstruct(self.run.system, images)

    @property
    def reconstruction_error(self) -> float:
        """Return the mean squared error per pixel over `reconstructions`."""
        images, again = self.reconstructions
        return float((images - again).square().mean())
