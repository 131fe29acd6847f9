"""A small convolutional classifier, trained on demand to avoid external weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pydisent._checks import check_counts, check_one_of
from pydisent.metrics._edited import Images, batches, check_image_batch, image_shape
from pydisent.metrics._kept import check_file_name, kept_weights

# Version of the net and its training; cached weights of other versions are ignored.
VERSION = 1
FIRST_WIDTH, MOST_WIDTH, SMALLEST_SIDE, STAGES = 16, 96, 4, 3
BATCH, RATE, DECAY = 64, 3e-3, 1e-2
# Images are shifted by up to 1/14 of their side (2 pixels of a 28-pixel digit); faces, whose
# attributes are finer, by half as much.
SHIFTS = {"label": 14, "attributes": 28}
# Up to this side an attribute can depend on a single pixel: on 32 x 32 faces, the mean balanced
# accuracy of 32 attributes is 0.89 with max pooling in the first stage and 0.94 without.
SMALL = 32
# Largest weight of a rare attribute relative to a common one, so that no single image dominates.
MOST_WEIGHT = 10.0


class Classifier(nn.Module):
    """Map images (N, C, H, W) in [0, 1] to logits (N, K).

    Stages of a 3 x 3 convolution (16, 32, 64, then 96 channels), 2 x 2 max pooling, batch norm and
    ReLU until the side is 4, at least three of them; then a hidden layer of twice the last width.
    To keep details of small images, the first stage can omit the pooling.

    Parameters
    ----------
    image_shape : tuple of int
        (C, H, W).
    outputs : int
        K, classes or attributes.
    detailed : bool
        Whether the first stage keeps full resolution, at about three times the cost.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], outputs: int, detailed: bool = False
    ) -> None:
        super().__init__()
        self.image_shape, self.outputs = image_shape, outputs
        channels, height, width = image_shape
        like: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}
        layers: list[nn.Module] = []
        while len(layers) < 4 * STAGES or max(height, width) > SMALLEST_SIDE:
            wide = min(MOST_WIDTH, FIRST_WIDTH << (len(layers) // 4))
            halved = max(height, width) > SMALLEST_SIDE and not (detailed and not layers)
            layers += [
                nn.Conv2d(channels, wide, 3, padding=1, bias=False, **like),
                # Pooled before the norm, which then processes a quarter of the values.
                nn.MaxPool2d(2, ceil_mode=True) if halved else nn.Identity(),
                nn.BatchNorm2d(wide, **like),
                nn.ReLU(),
            ]
            channels = wide
            if halved:
                height, width = -(-height // 2), -(-width // 2)
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * height * width, 2 * channels, bias=False, **like),
            nn.BatchNorm1d(2 * channels, **like),
            nn.ReLU(),
            nn.Linear(2 * channels, outputs, **like),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) for images (N, C, H, W) in [0, 1].

        Raises
        ------
        ValueError
            If the images do not have the shape that the net was made for.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"images must be (N, {', '.join(map(str, self.image_shape))}), got "
                f"{tuple(images.shape)}"
            )
        centred = (
            images.to(next(self.parameters())).contiguous(memory_format=torch.channels_last) - 0.5
        )
        return self.head(self.features(centred))


def trained_classifier(
    images: Images,
    targets: Tensor,
    *,
    kind: Literal["label", "attributes"] = "label",
    name: str,
    seed: int = 0,
    updates: int = 1000,
) -> Classifier:
    """Return a classifier trained on the given images, or cached from earlier training.

    Training uses AdamW with a one-cycle schedule and random shifts by a few pixels; both values of
    an attribute have equal weight, so that a logit of 0 is a balanced threshold. The same data,
    seed and number of threads give the same weights on one machine. The caller's random state is
    unchanged.

    Parameters
    ----------
    images : Tensor or ImageDataset
        (N, C, H, W) in [0, 1]; a data set's images are read on demand, a batch at a time, and give
        the same weights.
    targets : Tensor
        Labels (N,), integers from 0, or attributes (N, A) bool.
    kind : {"label", "attributes"}
        The kind of targets; logits are of classes (softmax) or of attributes (sigmoid).
    name : str
        Prefix of the cached file's name; the rest is a hash of the images, targets, seed and
        settings. PYDISENT_CACHE=off trains each time and caches nothing.
    seed : int
        Seed of initial weights, order and shifts.
    updates : int
        Steps of 64 images. 1000 take about 20 s on a core for 28 x 28 digits, 100 s for colour
        images of 64 x 64.

    Returns
    -------
    Classifier
        In eval mode, on the CPU, with weights that require no gradients.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type, shape or range, there are no images or only one class, or
        an attribute is the same in all images.
    """
    check_counts(updates=updates)
    check_file_name(name)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be an integer, got {seed!r}")
    check_one_of("kind", kind, tuple(SHIFTS))
    if isinstance(images, Tensor):
        _check_images(images)
    else:
        check_image_batch(images)
    targets = _checked_targets(targets, kind, len(images))
    outputs = int(targets.max()) + 1 if kind == "label" else targets.shape[1]
    channels, height, width = image_shape(images)
    shape = (channels, height, width)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.random.fork_rng(devices=[]),
    ):
        # Not torch.manual_seed, which would also seed, and initialise, other devices.
        torch.default_generator.manual_seed(seed)
        detailed = kind == "attributes" and max(shape[1:]) <= SMALL
        net = Classifier(shape, outputs, detailed)
        settings = (VERSION, kind, seed, updates, outputs, shape)
        digest = _digest(settings, images, targets)
        shapes = {key: tuple(value.shape) for key, value in _floating(net).items()}

        def train() -> dict[str, Tensor]:
            _train(net, images, targets, kind, seed, updates)
            return _floating(net)

        net.load_state_dict(kept_weights(name, digest, shapes, train), strict=False)
    return net.eval().requires_grad_(False)


def _floating(net: nn.Module) -> dict[str, Tensor]:
    """Return weights and statistics, without the update counts of batch norms."""
    return {k: v.detach() for k, v in net.state_dict().items() if v.is_floating_point()}


def _train(
    net: Classifier, images: Images, targets: Tensor, kind: str, seed: int, updates: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    # Below 4 updates the schedule's two phases would be empty.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(4, updates))
    weight = None
    if kind == "attributes":
        weight = ((~targets).sum(0) / targets.sum(0)).clamp(1 / MOST_WEIGHT, MOST_WEIGHT)
    net.train()
    for rows in _batches(len(images), updates, generator):
        if isinstance(images, Tensor):
            batch = images.detach()[rows.to(images.device)].to("cpu", torch.float32)
        else:
            batch = images.images(rows)
        logits = net(_moved(batch, max(batch.shape[2:]) // SHIFTS[kind], generator))
        if weight is None:
            loss = F.cross_entropy(logits, targets[rows])
        else:
            wanted = targets[rows].to(logits)
            loss = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _batches(count: int, updates: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield (64,) numbers below ``count`` from consecutive random permutations."""
    waiting = torch.empty(0, dtype=torch.int64)
    for _ in range(updates):
        while len(waiting) < BATCH:
            waiting = torch.cat([waiting, torch.randperm(count, generator=generator)])
        yield waiting[:BATCH]
        waiting = waiting[BATCH:]


def _moved(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Shift each image by up to ``most`` pixels along both axes, replicating borders."""
    if not most:
        return images
    count, channels, height, width = images.shape
    padded = F.pad(images, (most,) * 4, mode="replicate")
    start = torch.randint(2 * most + 1, (2, count, 1), generator=generator)
    rows, columns = start[0] + torch.arange(height), start[1] + torch.arange(width)
    image = torch.arange(count)[:, None, None, None]
    channel = torch.arange(channels)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a floating point Tensor, got {kind}")
    if images.ndim != 4 or not images.numel():
        raise ValueError(f"images must be (N, C, H, W), all at least 1, got {tuple(images.shape)}")
    low, high = torch.aminmax(images)
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images must be in [0, 1], got {float(low)} to {float(high)}")


def _checked_targets(targets: Tensor, kind: str, count: int) -> Tensor:
    """Return labels (N,) int64, or attributes (N, A) bool, on the CPU."""
    if not isinstance(targets, Tensor):
        raise TypeError(f"targets must be a Tensor, got {type(targets).__name__}")
    targets = targets.detach().cpu()
    if kind == "attributes":
        return _checked_attributes(targets, count)
    if targets.dtype == torch.bool or targets.is_floating_point() or targets.is_complex():
        raise TypeError(f"targets must be integers, kind is 'label', got {targets.dtype}")
    if targets.shape != (count,):
        raise ValueError(f"targets must be ({count},), one per image, got {tuple(targets.shape)}")
    low, high = targets.aminmax()
    if low < 0:
        raise ValueError(f"targets must be at least 0, got {int(low)}")
    if low == high:
        raise ValueError(f"targets must have at least two classes; all are {int(low)}")
    return targets.long()


def _checked_attributes(targets: Tensor, count: int) -> Tensor:
    if targets.dtype != torch.bool:
        raise TypeError(f"targets must be bool, kind is 'attributes', got {targets.dtype}")
    if targets.ndim != 2 or len(targets) != count or not targets.shape[1]:
        raise ValueError(f"targets must be ({count}, A), got {tuple(targets.shape)}")
    if (alone := (targets.all(0) | ~targets.any(0)).nonzero()).numel():
        column = int(alone[0])
        raise ValueError(
            f"targets must have both values of each attribute; column {column} is "
            f"{bool(targets[0, column])} in all {count} rows"
        )
    return targets


def _digest(settings: tuple, images: Images, targets: Tensor) -> str:
    """Return a hash of the settings and all values, updated in chunks to avoid a copy."""
    digest = hashlib.sha256(repr(settings).encode())
    for values in (images, targets):
        digest.update(f"\0{(len(values), *image_shape(values))}".encode())
        for part in batches(values, 1024):
            plain = part.detach().float() if part.is_floating_point() else part
            digest.update(plain.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:20]
