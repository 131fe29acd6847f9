"""A generator in the form the engine uses: any callable, or object with a method ``decode``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pydisent._checks import check_integer
from pydisent.jacobian._arguments import Coupled
from pydisent.jacobian._buffers import spare_buffers
from pydisent.jacobian.linearization import Linearization, linearize

#: Attributes that may give the shape of a code, as an integer or a tuple of integers.
SIZES = ("z_dim", "latent_dim", "latent_size", "dim_z")


class Generator:
    """Decodes codes to a list of tensors.

    Parameters
    ----------
    source
        The user's generator.
    decode
        How codes are decoded; the method ``decode`` of ``source`` by default, if it has one.
    keywords
        Passed at each call.
    seed
        Seed of the random numbers, which are the same for all images and derivatives.
    """

    def __init__(
        self,
        source: Any,
        decode: Callable[..., Any] | None,
        keywords: Mapping[str, Any] | None,
        seed: int,
    ) -> None:
        if decode is not None and not callable(decode):
            raise TypeError(f"decode must be callable, got {type(decode).__name__}")
        own = getattr(source, "decode", None)
        found = decode if decode is not None else own if callable(own) else source
        if not callable(found):
            raise TypeError(
                f"generator must be callable, or have a method decode, got {type(source).__name__}"
            )
        if keywords is not None and not isinstance(keywords, Mapping):
            raise TypeError(f"fn_kwargs must map names to values, got {keywords!r:.60}")
        check_integer("seed", seed, at_least=0)
        self.source, self._decode, self._keywords = source, found, dict(keywords or {})
        self._seed = seed
        self.draws = False  # whether it draws random numbers
        self.image: int | None = None  # which of the outputs holds images

    def __call__(self, z: Tensor) -> list[Tensor]:
        with spare_buffers(self.source, self._decode):
            return tensors_of(self._decode(z, **self._keywords))

    def look_at(self, z: Tensor) -> list[Tensor]:
        """Decode codes; find out which output holds images, and whether decoding is random."""
        with torch.no_grad():
            found, again = (self._drawn(z, self._seed + i) for i in range(2))
        self.draws = any(_differ(a, b) for a, b in zip(found, again))
        self.image = next((i for i, tensor in enumerate(found) if _are_images(tensor)), None)
        return found

    def images(self, z: Tensor) -> Tensor:
        """The images (B, C, H, W) of codes."""
        assert self.image is not None
        with torch.no_grad():
            return self._drawn(z, self._seed)[self.image]

    def linearized(
        self,
        z: Tensor,
        *,
        mask: Tensor | None = None,
        chunk: int | None = None,
        coupled: Coupled = "error",
    ) -> Linearization[list[Tensor]]:
        """The derivative at codes; with a ``mask`` (H, W), that of mask ∘ image alone."""
        if mask is None:
            fn: Callable[[Tensor], list[Tensor]] = self
        else:
            fn = lambda z: [self(z)[self.image] * mask]  # type: ignore[index]  # noqa: E731
        with same_draws(self._seed, z.device):
            return linearize(fn, z, chunk=chunk, coupled=coupled)

    def _drawn(self, z: Tensor, seed: int) -> list[Tensor]:
        with same_draws(seed, z.device):
            return self(z)

    def refuse_batch_statistics(self) -> None:
        """Raise ValueError if a batch norm makes images depend on the others of their batch."""
        parts = (self.source, self._decode, getattr(self._decode, "__self__", None))
        for part in parts:
            for module in part.modules() if isinstance(part, nn.Module) else ():
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
                    raise ValueError(
                        "generator must be in eval mode (call eval() first), got a "
                        f"{type(module).__name__} in training mode"
                    )


def sampled(source: Any, count: Any, seed: int) -> Tensor:
    """``count`` codes of a generator that defines how they are sampled.

    They come from its method ``sample_code(n, generator)``, or from N(0, I) in the shape that one
    of `SIZES` gives.

    Raises
    ------
    TypeError
        If ``count`` is not an integer, or the generator has none of these.
    ValueError
        If ``count`` is below 1.
    """
    check_integer("z", count, at_least=1)
    random = torch.Generator("cpu").manual_seed(seed)
    if callable(sample := getattr(source, "sample_code", None)):
        return sample(int(count), random)
    for name in SIZES:
        size = getattr(source, name, None)
        shape = (size,) if isinstance(size, int) else size
        whole = isinstance(shape, (tuple, list, torch.Size)) and len(shape) > 0
        if whole and all(type(n) is int and n >= 1 for n in shape):  # type: ignore[union-attr]
            codes = torch.randn(int(count), *shape, generator=random, device="cpu")  # type: ignore[misc]
            like = next((p for p in _weights(source) if p.is_floating_point()), codes)
            return codes.to(like.device, like.dtype)
    raise TypeError(
        f"z must be a tensor of codes (B, *latent) for a generator without sample_code or any of "
        f"{', '.join(SIZES)}, got the number {count} for {type(source).__name__}"
    )


def tensors_of(value: Any) -> list[Tensor]:
    """The floating-point tensors in a generator's output.

    The output is a tensor, lists or dicts of them, or an object whose ``sample`` is one.
    """
    if isinstance(sample := getattr(value, "sample", None), Tensor):
        return [sample]
    leaves = pytree.tree_leaves(value)
    found = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    if not found:
        raise TypeError(
            "generator must return a floating-point tensor, a list or dict of them, or an object "
            f"with a tensor 'sample', got {type(value).__name__}"
        )
    return found


def shrunk(images: Tensor, side: int) -> Tensor:
    """Images (..., H, W) averaged over areas, so that neither H nor W is above ``side``."""
    height, width = images.shape[-2:]
    factor = side / max(height, width)
    if factor >= 1:
        return images
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return F.adaptive_avg_pool2d(images.reshape(-1, height, width), size).reshape(
        *images.shape[:-2], *size
    )


@contextmanager
def same_draws(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators inside the context, and restore their states afterwards."""
    devices = [device] if device.type not in ("cpu", "meta") else []
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.get_device_module(device).manual_seed(seed)
        yield


def _weights(source: Any) -> Iterator[Tensor]:
    return source.parameters() if isinstance(source, nn.Module) else iter(())


def _are_images(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and tensor.shape[1] in (1, 3) and min(tensor.shape[2:]) > 1


def _differ(a: Tensor, b: Tensor) -> bool:
    return a.shape != b.shape or bool((a - b).abs().max() > 1e-4 * a.abs().max())
