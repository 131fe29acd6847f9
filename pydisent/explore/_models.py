"""The page's view of a run: images, masks, eigenvectors and codes of pictures."""

import copy
import math
import secrets
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pydisent._checks import check, check_integer
from pydisent.data import ImageDataset
from pydisent.data.images import picture_of
from pydisent.evaluation.alignment import leading, penalty_weight
from pydisent.evaluation.codes import base_codes, decode, images_of, prior_codes
from pydisent.evaluation.divergences import divergences
from pydisent.evaluation.lengths import known_lengths
from pydisent.evaluation.masks import code_masks, has_masks
from pydisent.jacobian.eigen import eigenvectors, next_direction
from pydisent.reports.codes import labels_of
from pydisent.reports.masks import overlay
from pydisent.reports.style import rgb_bytes
from pydisent.systems import NotTrainedError
from pydisent.training.run import Run

IMAGE, MASKED = 0, 1  # kinds of frames
LARGEST_MATRIX = 1024  # the largest code size for which M = J'J is computed live
PICTURE_PIXELS = 2**25  # at most, in a picture to encode
_SHOWN = 8  # eigenvectors, unless more are aligned
_MOST_SHOWN = 16
_DRAWN = 4096  # codes that determine the sliders' ranges


def _as_typed(path: Path) -> str:
    """Return a path relative to the working folder; its last part if it lies elsewhere."""
    whole = path.resolve()
    here = Path.cwd().resolve()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else whole.name


class Model:
    """A run as the page uses it.

    Frames are decoded by a copy of the system, `live`, as they have their own thread.

    Parameters
    ----------
    run : Run
        The run.
    label : str
        Its name on the page.
    """

    def __init__(self, run: Run, label: str) -> None:
        self.run, self.label = run, label
        self.system, self.live = run.system, copy.deepcopy(run.system)
        self.names = list(run.system.code_names)
        self.has_masks = has_masks(run)

    @property
    def size(self) -> int:
        """Return the size d of the code."""
        return len(self.names)

    @cached_property
    def why_no_encoder(self) -> str:
        """Return why the system cannot encode; an empty string if it can."""
        picture = torch.zeros(1, *self.system.image_shape, device=self.system.device)
        try:
            with torch.no_grad():
                found = self.system.encode(picture).shape[-1]
        except (NotTrainedError, NotImplementedError) as error:
            return str(error) or f"{self.system.name} has no encoder"
        if found == self.size:
            return ""
        return f"{self.system.name} encodes {found} of the {self.size} numbers of a code"

    @cached_property
    def shown(self) -> int:
        """Return the number of eigenvectors that the page shows."""
        return min(self.size, max(_SHOWN, min(leading(self.run) or 0, _MOST_SHOWN)))

    def about(self) -> dict[str, Any]:
        """Return what the page needs at start."""
        plan = self.run.plan
        return {
            "label": self.label,
            "system": self.system.name,
            "data": plan.data,
            "folder": _as_typed(self.run.path),
            "step": self.run.step,
            "shape": list(self.system.image_shape),
            "names": self.names,
            "ranges": self.ranges(),
            "start": base_codes(self.system, 1, 0)[0].tolist(),
            "masks": self.has_masks,
            "encoder": self.why_no_encoder,
            "aligned": (leading(self.run) or 0) if penalty_weight(self.run) > 0 else 0,
            "eigenvectors": self.shown if self.size <= LARGEST_MATRIX else 0,
        }

    def ranges(self) -> list[tuple[float, float]]:
        """Return the range of each coordinate under the prior.

        That is three standard deviations about the mean, within the drawn range, rounded to halves.
        """
        codes = prior_codes(self.system, _DRAWN, 0).double().cpu()
        mean, spread = codes.mean(0), 3 * codes.std(0)
        low = torch.maximum(mean - spread, codes.amin(0))
        high = torch.minimum(mean + spread, codes.amax(0))
        low, high = (low * 2).round() / 2, (high * 2).round() / 2
        return [(a, max(b, a + 0.5)) for a, b in zip(low.tolist(), high.tolist())]

    def strengths(self) -> dict[str, Any]:
        """Return how much each coordinate matters, where known, and the number of images.

        `tpl` comes from the scores, if there; `kl` is measured here; `part` says which images.
        """
        lengths = known_lengths(self.run)
        found: dict[str, Any] = {
            "tpl": None if lengths is None else list(lengths.values),
            "kl": None,
            "images": 0,
            "part": "",
            "missing": "",
        }
        try:
            images, found["part"] = self.pictured
            found["images"] = len(images)
            found["kl"] = divergences(self.run)
        except (OSError, ValueError) as error:  # the data has moved
            found["missing"] = str(error)
        return found

    @property
    def pictured(self) -> tuple[ImageDataset, str]:
        """Return the images to encode, unseen ones if any, and which part of the data they are."""
        return images_of(self.run, usual="test")

    @torch.no_grad()
    def frames(self, code: Tensor, mask: int | None = None) -> list[tuple[int, np.ndarray]]:
        """Return the image of a code (d,), and the same image under a coordinate's mask.

        Returns
        -------
        list of (int, array)
            The kind, and RGBA bytes (H, W, 4).
        """
        codes = code[None].to(self.live.device)
        images = decode(self.live, codes)
        frames = [(IMAGE, _rgba(images)[0])]
        if mask is not None and self.has_masks:
            masks = code_masks(self.live, codes)
            assert masks is not None
            frames.append((MASKED, _rgba(overlay(images, masks[:, mask]))[0]))
        return frames

    def pictures(self, codes: Tensor) -> np.ndarray:
        """Return the images of codes (N, d) as bytes (N, H, W, 4)."""
        return _rgba(decode(self.system, codes.to(self.system.device)))

    def analysis(self, code: Tensor) -> dict[str, Any]:
        """Return the spectrum of M = J'J at a code (d,), and leading eigenvectors.

        Returns
        -------
        dict
            `eigenvalues` (d,), descending; `vectors`, the leading ones, (shown, d). Their squares
            are the columns of F (Ramesh et al., Eq. 6) at this code.

        Raises
        ------
        ValueError
            If the code is too large, or the Jacobian not finite.
        """
        values, vectors = self._eigenvectors(code[None].to(self.system.device))
        return {
            "eigenvalues": values[0].tolist(),
            "vectors": vectors[0, :, : self.shown].mT.tolist(),
        }

    def walk(
        self,
        code: Tensor,
        ordinal: int,
        *,
        forwards: bool,
        length: float,
        steps: int,
        direction: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Follow an eigenvector from a code (d,), as `trace_eigenpath` does (Alg. 1, no decay).

        Parameters
        ----------
        code : Tensor
            (d,).
        ordinal : int
            Index of the eigenvector, from 1.
        forwards : bool
            Whether to step along it; Algorithm 1 steps against it.
        length : float
            α, the length of a step.
        steps : int
            N, the number of steps.
        direction : Tensor, optional
            w (d,) of the last step, to continue a path.

        Returns
        -------
        tuple of Tensor
            The codes (steps, d), and w (d,) of the last of them.
        """
        z = code[None].to(self.system.device)
        along = None if direction is None else direction[None].to(z)
        path = []
        for _ in range(steps):
            along = next_direction(self._eigenvectors(z)[1][..., ordinal - 1].to(z), along)
            z = z + (length if forwards else -length) * along
            path.append(z)
        assert along is not None
        return torch.cat(path).cpu(), along[0].cpu()

    def _eigenvectors(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        check(
            self.size <= LARGEST_MATRIX,
            "code",
            f"of at most {LARGEST_MATRIX} numbers for live eigenvectors",
            self.size,
        )
        return eigenvectors(self.system.decode, codes)

    def encode_stored(self, stored: bytes) -> tuple[Tensor, np.ndarray]:
        """Return the code (d,) of a picture file, and the picture as the encoder sees it.

        Raises
        ------
        ValueError
            If it is not an intact picture or has too many pixels, or the system cannot encode.
        """
        channels, side, _ = self.system.image_shape
        most = PICTURE_PIXELS
        return self._encode(picture_of(stored, channels, side, name="the picture", most=most))

    def encode_image(self, index: int | None) -> tuple[int, Tensor, np.ndarray]:
        """Return an image's number in the data set, its code (d,) and its pixels (H, W, 4).

        Raises
        ------
        ValueError, OSError
            If there is no image with that number, the data is missing, or the system cannot encode.
        """
        images, _ = self.pictured
        if index is None:
            index = secrets.randbelow(len(images))
        check_integer("index", index, at_least=0, at_most=len(images) - 1)
        return index, *self._encode(images.images([index])[0])

    @torch.no_grad()
    def _encode(self, picture: Tensor) -> tuple[Tensor, np.ndarray]:
        if self.why_no_encoder:
            raise ValueError(self.why_no_encoder)
        code = self.system.encode(picture[None].to(self.system.device))[0].float().cpu()
        if not all(map(math.isfinite, code.tolist())):
            raise ValueError(f"{self.system.name} encodes the picture as a code that is not finite")
        return code, _rgba(picture)


def models_of(runs: Sequence[Run]) -> list[Model]:
    """Return one or two runs as models that share a code.

    Raises
    ------
    ValueError
        If there are none or more than two, or their codes differ in size.
    """
    check(1 <= len(runs) <= 2, "runs", "one or two", len(runs))
    models = [Model(run, label) for run, label in zip(runs, labels_of(runs))]
    sizes = [model.size for model in models]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"runs must have codes of one size to be moved together, got {sizes[0]} for "
            f"{runs[0].path} and {sizes[1]} for {runs[1].path}"
        )
    return models


def _rgba(images: Tensor) -> np.ndarray:
    """Return images (*N, C, H, W) in [0, 1] as bytes (*N, H, W, 4)."""
    rgb = rgb_bytes(images)
    return np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], -1)
