"""Class swaps: whether the class follows the factors when two images swap them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pydisent._checks import check_counts, check_integer, check_one_of
from pydisent.data.indices import integer_array
from pydisent.metrics._decoded import Decoder, decode_checked
from pydisent.metrics._edited import (
    Classify,
    Device,
    Images,
    check_columns,
    check_image_batch,
    encode_images,
    verdicts_on_reconstructions,
)
from pydisent.metrics._encode import Encoder
from pydisent.metrics._result import MetricResult
from pydisent.metrics.perceptual import full_precision


def class_swaps(
    encode: Encoder,
    decode: Decoder,
    images: Images,
    labels: Sequence[int] | np.ndarray | Tensor,
    classify: Classify,
    *,
    factors: Sequence[int],
    pairs: int = 10_000,
    seed: int = 0,
    variant: Literal["paper", "author_code"] = "paper",
    batch_size: int = 256,
    device: Device = None,
) -> MetricResult:
    """Fraction of successful class swaps between images of two classes (Lezama 2019, Table 1).

    Pairs of images are drawn uniformly from all pairs of different classes. Each of the two is
    decoded with the other's factors y and the rest z of its own code; the swap succeeds if the
    decoded image has the class that y came from.

    Parameters
    ----------
    encode : callable
        From images (N, C, H, W) to codes (N, d).
    decode : callable
        From codes (N, d) to images (N, C, H, W).
    images : Tensor or ImageDataset
        (N, C, H, W) in [0, 1]; a data set's images are read on demand, a batch at a time.
    labels : sequence of int
        (N,) classes, numbered as by ``classify``.
    classify : callable
        From images (N, C, H, W) to logits (N, K) or integer classes (N,); deterministic, such as a
        module in eval mode.
    factors : sequence of int
        Code columns of y; (0, 1) in the paper.
    pairs : int
        Number of pairs; twice as many images are decoded.
    seed : int
        Seed of the draw.
    variant : {"paper", "author_code"}
        Definition of an image's class: its label, or, as in the authors' code, the prediction of
        ``classify`` for its reconstruction, which ignores what the reconstruction has already lost.
        (That code also keeps batch norms in training mode, in batches of 128, which is up to
        ``encode``.)
    batch_size : int
        Images per call.
    device : torch.device, optional
        Device of the images passed to ``encode`` and the codes passed to ``decode``; the CPU by
        default.

    Returns
    -------
    MetricResult
        Score in [0, 1]. Details: ``classes`` (K,), the values for rows and columns of matrices;
        ``by_pair`` (K, K), the success rate by own class (row) and the class that y came from
        (column), None without pairs; ``confusion`` (K, K), counts by the class that y came from
        (row) and the decoded image's (column); ``kept``, the fraction of images that keep their own
        class; ``reconstruction_accuracy``, the fraction of all reconstructions in the class of
        their label; ``reconstruction_mse`` per pixel.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type, shape or range, there are no images, all are of one
        class, or a callable does not return what is described.
    """
    check_counts(pairs=pairs, batch_size=batch_size)
    check_integer("seed", seed, at_least=0)
    check_image_batch(images)
    true = _checked_labels(labels, len(images))
    columns = check_columns(factors)
    check_one_of("variant", variant, ("paper", "author_code"))
    if variant == "paper":
        _check_several(true, "labels")
    where = device if device is not None else "cpu"
    codes = encode_images(encode, images, columns, batch_size, where)
    found, error = verdicts_on_reconstructions(
        decode, codes, images, lambda made: predicted_classes(classify, made), batch_size
    )
    own = true if variant == "paper" else found.numpy()
    if variant == "author_code":
        _check_several(own, "classes of reconstructions")
    first, second = draw_pairs(own, pairs, np.random.default_rng(seed))
    content, taken = np.concatenate([first, second]), np.concatenate([second, first])
    made = _classes_of_swapped(decode, classify, codes, columns, (content, taken), batch_size)
    return MetricResult(
        float((made == own[taken]).mean()),
        {
            **_tables(own[content], own[taken], made),
            "kept": float((made == own[content]).mean()),
            "reconstruction_accuracy": float((found.numpy() == true).mean()),
            "reconstruction_mse": error,
            "pairs": pairs,
            "images": len(images),
            "variant": variant,
        },
    )


def predicted_classes(classify: Classify, images: Tensor) -> Tensor:
    """Return the predicted classes (N,) int64 of images, on the CPU.

    Raises
    ------
    TypeError, ValueError
        If ``classify`` returns neither finite logits (N, K) nor integers (N,).
    """
    with torch.no_grad(), full_precision():
        found = classify(images)
    if not isinstance(found, Tensor):
        raise TypeError(f"classify must return a Tensor, got {type(found).__name__}")
    if found.is_floating_point() and found.ndim == 2 and found.shape[1] > 1:
        if found.isnan().any():
            raise ValueError("classify must return logits, got NaN")
        found = found.argmax(1)
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise TypeError(
            f"classify must return logits (N, K), K at least 2, or integers (N,), got "
            f"{found.dtype} {tuple(found.shape)}"
        )
    if found.shape != (len(images),):
        raise ValueError(
            f"classify must return a class for each of {len(images)} images, got "
            f"{tuple(found.shape)}"
        )
    return found.to("cpu", torch.int64, copy=True)  # the next call may write to the same memory


def draw_pairs(
    classes: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw ``count`` pairs of image numbers of different classes, uniformly.

    With images sorted by class, those of other classes follow the first image's block, cyclically:
    one integer draws the second image.
    """
    order = np.argsort(classes, kind="stable")
    _, block, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    others = len(classes) - sizes[block]
    first = rng.choice(len(classes), count, p=others / others.sum())
    second = ends[block[first]] + rng.integers(0, others[first])
    return first, order[second % len(classes)]


def _classes_of_swapped(
    decode: Decoder,
    classify: Classify,
    codes: Tensor,
    columns: np.ndarray,
    images: tuple[np.ndarray, np.ndarray],
    batch_size: int,
) -> np.ndarray:
    """Return the classes (n,) of codes with z from one image and y from another."""
    y = torch.from_numpy(columns).to(codes.device)
    found = []
    content, taken = (torch.from_numpy(number) for number in images)
    for own, other in zip(content.split(batch_size), taken.split(batch_size)):
        edited = codes[own.to(codes.device)]
        edited[:, y] = codes[other.to(codes.device)][:, y]
        found.append(predicted_classes(classify, decode_checked(decode, edited)))
    return torch.cat(found).numpy()


def _tables(own: np.ndarray, taken: np.ndarray, made: np.ndarray) -> dict[str, Any]:
    values = np.unique(np.concatenate([own, taken, made]))
    own, taken, made = (np.searchsorted(values, numbers) for numbers in (own, taken, made))
    size = (len(values), len(values))
    confusion, drawn, right = (np.zeros(size, np.int64) for _ in range(3))
    np.add.at(confusion, (taken, made), 1)
    np.add.at(drawn, (own, taken), 1)
    np.add.at(right, (own, taken), made == taken)
    by_pair = [
        [int(r) / int(n) if n else None for r, n in zip(*rows)] for rows in zip(right, drawn)
    ]
    return {"classes": values.tolist(), "by_pair": by_pair, "confusion": confusion.tolist()}


def _checked_labels(labels: Sequence[int] | np.ndarray | Tensor, count: int) -> np.ndarray:
    values = integer_array(labels, "labels")
    if values.shape != (count,):
        raise ValueError(f"labels must be ({count},), one per image, got {values.shape}")
    return values


def _check_several(classes: np.ndarray, what: str) -> None:
    if (classes == classes[0]).all():
        raise ValueError(
            f"{what} must be at least two different ones; all {len(classes)} are {classes[0]}"
        )
