"""A Lightning callback that logs scores of the codes and a picture of traversals.

It supports both `lightning` and `pytorch_lightning`, whichever is imported or installed.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pydisent import metrics, reports
from pydisent._checks import check, check_counts, check_integer, check_number, check_one_of
from pydisent._extras import optional
from pydisent._notice import warn
from pydisent.data import (
    FactorDataset,
    ImageDataset,
    ObservedFactorDataset,
    factors_of,
    has_factors,
)
from pydisent.metrics import MetricResult, Samples


def _callback_class() -> Any:
    """Return the base class of callbacks, whose hooks are the same in both packages."""
    for name in ("lightning.pytorch", "pytorch_lightning"):
        if name in sys.modules:
            return sys.modules[name].Callback
    if find_spec("lightning") is not None:
        return import_module("lightning.pytorch").Callback
    with optional("the Lightning callback"):
        from pytorch_lightning import Callback
    return Callback


if TYPE_CHECKING:
    from pytorch_lightning import Callback
else:
    Callback = _callback_class()

__all__ = ["SCORES", "DisentanglementCallback"]

_TRAIN, _TEST = 10_000, 5_000  # samples, as `sample_codes` draws

SCORES: dict[str, Callable[[Samples], MetricResult]] = {
    "mig": lambda samples: metrics.mig(*samples[:2]),
    "sap": lambda samples: metrics.sap(*samples),
    "dci": lambda samples: metrics.dci(*samples),
    "modularity": lambda samples: metrics.modularity(*samples[:2]),
    "irs": lambda samples: metrics.irs(*samples[:2]),
    "mcc": lambda samples: metrics.mcc(*samples[:2]),
    "infomec": lambda samples: metrics.infomec(*samples[:2]),
}


class DisentanglementCallback(Callback):
    """Every n epochs, log scores of a module's `encode` and a picture of its `decode`.

    Scores are logged under `prefix` + their name with the module's own `log`, so loggers receive
    them and `ModelCheckpoint(monitor="disentanglement/mig", mode="max",
    save_on_train_epoch_end=True)` can monitor them. The picture goes to loggers whose experiment
    has `add_image`, such as TensorBoard's, or else as a PNG to the subfolder `traversals` of the
    log folder. With several processes, the first one measures and the others wait for it. If the
    codes cannot be scored, for example because training has diverged, the epoch's scores are left
    out with a warning.

    Parameters
    ----------
    dataset : FactorDataset or ObservedFactorDataset
        Images with ground-truth factors, such as `pydisent.data.load("sprites", image_size=64)`.
    scores : sequence of str
        Names in `SCORES`.
    every_n_epochs : int
        Epochs between measurements; the last epoch of training is always measured.
    encode, decode : callable, optional
        From the module and images (N, C, H, W) to codes (N, d), and from the module and codes to
        images; `module.encode` and `module.decode` by default.
    traversals : bool
        Whether to draw the picture, for which the module needs `decode`.
    max_images : int
        Maximum number of images to encode; a fixed draw.
    bases, steps, span
        For the picture: the number of codes to start from, and the number of values of a
        coordinate, from −span to span standard deviations about its mean over the data.
    coordinates : sequence of int, optional
        Coordinates to draw; the first 16 by default.
    seed : int
        Seed of the draws.
    prefix : str
        Prefix of logged names.

    Attributes
    ----------
    results : dict of str to MetricResult
        The last scores with their details, in the process that measured them.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or a score unknown, or if the data set has no factors.
    """

    def __init__(
        self,
        dataset: FactorDataset | ObservedFactorDataset,
        *,
        scores: Sequence[str] = ("mig", "sap", "modularity"),
        every_n_epochs: int = 1,
        encode: Callable[[Any, Tensor], Tensor] | None = None,
        decode: Callable[[Any, Tensor], Tensor] | None = None,
        traversals: bool = True,
        max_images: int = _TRAIN + _TEST,
        bases: int = 1,
        steps: int = 9,
        span: float = 2.0,
        coordinates: Sequence[int] | None = None,
        seed: int = 0,
        prefix: str = "disentanglement/",
    ) -> None:
        super().__init__()
        for name in scores:
            check_one_of("scores", name, tuple(SCORES))
        check_counts(every_n_epochs=every_n_epochs, max_images=max_images, bases=bases)
        check_integer("steps", steps, at_least=2)
        check_integer("seed", seed, at_least=0)
        check_number("span", span, above=0)
        with_factors = isinstance(dataset, ImageDataset) and has_factors(dataset)
        check(with_factors, "dataset", "of images with factors", type(dataset).__name__)
        self.dataset = factors_of(dataset)
        self.scores, self.every_n_epochs = tuple(scores), every_n_epochs
        self._encode, self._decode, self.traversals = encode, decode, traversals
        self.max_images, self.bases, self.seed, self.prefix = max_images, bases, seed, prefix
        self._picture: dict[str, Any] = {"steps": steps, "span": span, "coordinates": coordinates}
        self.results: dict[str, MetricResult] = {}

    def setup(self, trainer: Any, pl_module: Any, stage: str | None = None) -> None:
        """Refuse a module without `encode`, or without `decode` if traversals are drawn."""
        if stage not in (None, "fit"):
            return
        wanted = [("encode", self._encode)] + [("decode", self._decode)] * self.traversals
        for name, given in wanted:
            if given is None and not callable(getattr(pl_module, name, None)):
                raise TypeError(
                    f"{type(pl_module).__name__} must have a method {name}, or "
                    f"DisentanglementCallback must be given {name}="
                )

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure and log, every `every_n_epochs` epochs and when training ends."""
        if (trainer.current_epoch + 1) % self.every_n_epochs and not _is_last(trainer):
            return
        found: dict[str, float] = {}
        # Outside of the block below, as all processes must take part in choosing the log folder.
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "traversals"
        if trainer.is_global_zero:
            with _evaluating(pl_module), trainer.precision_plugin.forward_context():
                found = self._measure(trainer, pl_module, folder)
        found = trainer.strategy.broadcast(found)
        for name, value in found.items():
            pl_module.log(self.prefix + name, value, on_step=False, on_epoch=True, sync_dist=False)

    def _measure(self, trainer: Any, module: Any, folder: Path) -> dict[str, float]:
        encode = self._encode or (lambda module, images: module.encode(images))
        as_trained = trainer.precision_plugin.convert_input
        train = max(1, 2 * self.max_images // 3)
        try:
            codes = metrics.encode_once(
                lambda images: encode(module, as_trained(images)),
                self.dataset,
                max_images=min(self.max_images, len(self.dataset)),
                seed=self.seed,
                device=module.device,
            )
            samples = metrics.sample_codes(
                codes.encode,
                codes,
                train=min(_TRAIN, train),
                test=min(_TEST, max(1, self.max_images - train)),
                seed=self.seed,
            )
            self.results = {name: SCORES[name](samples) for name in self.scores}
        except ValueError as error:
            warn(f"scores of epoch {trainer.current_epoch} are left out: {error}")
            return {}
        if self.traversals:
            self._log_picture(trainer, self._drawn(module, samples.codes, as_trained), folder)
        return {name: result.score for name, result in self.results.items()}

    def _drawn(
        self, module: Any, codes: np.ndarray, as_trained: Callable[[Tensor], Tensor]
    ) -> reports.Traversal:
        decode = self._decode or (lambda module, z: module.decode(z))
        table = torch.from_numpy(codes)
        return reports.traverse(
            lambda z: decode(module, as_trained(z)),
            table[: self.bases].to(module.device, torch.float32),
            centre=table.mean(0),
            scale=table.std(0, correction=0),
            title=f"{type(module).__name__}: each coordinate varied",
            **self._picture,
        )

    def _log_picture(self, trainer: Any, drawn: reports.Traversal, folder: Path) -> None:
        takers = [
            logger.experiment
            for logger in trainer.loggers
            if hasattr(getattr(logger, "experiment", None), "add_image")
        ]
        for experiment in takers:
            pixels = _pixels(drawn.png)
            step = trainer.current_epoch
            experiment.add_image(f"{self.prefix}traversals", pixels, step, dataformats="HWC")
        if not takers:
            drawn.save(folder / f"epoch-{trainer.current_epoch:04d}.png")


def _is_last(trainer: Any) -> bool:
    """Return whether training ends with this epoch."""
    out_of_steps = 0 <= trainer.max_steps <= trainer.global_step
    return bool(
        trainer.should_stop or out_of_steps or trainer.current_epoch + 1 == trainer.max_epochs
    )


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Put a module in eval mode; restore each submodule's mode and the random state afterwards."""
    training = {part: part.training for part in module.modules()}
    devices = [module.device] if module.device.type == "cuda" else []
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            yield
    finally:
        for part, was in training.items():
            part.training = was


def _pixels(png: bytes) -> np.ndarray:
    with optional("the picture of traversals"):
        from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))
