"""What each op is measured on, and the bytes and operations that a call cannot do without.

The counts are the ops' own, ``OpSpec.bytes`` and ``OpSpec.flops``: each input read once and each
output written once, and the arithmetic of the formula. The first over the speed of a copy and the
second over that of a matrix product are two times; no version of an op is faster than the longer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pydisent.ops._registry import REGISTRY

#: Arguments that get no gradient: constants by definition.
CONSTANTS = ("mask", "threshold", "dimension")
BACKWARD = "_backward"


class Draw:
    """Random arguments, the same for a device at each call."""

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        self.dtype, self.device = dtype, device
        self.generator = torch.Generator(device).manual_seed(0)

    def __call__(self, *shape: int, mean: float = 0.0, std: float = 1.0) -> Tensor:
        x = torch.randn(shape, generator=self.generator, device=self.device)
        return x.mul_(std).add_(mean).to(self.dtype)

    def integers(self, below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=self.generator, device=self.device)


@dataclass(frozen=True)
class Problem:
    """Arguments of an op in several sizes.

    ``sizes`` has numbers for each of ``axes``: "large" fills a GPU, "medium" a few CPU cores,
    "small" is one step of training, "tiny" only shows that the way there works. The first
    ``outputs`` of the op's are differentiated. ``is_product``: the operations are those of matrix
    products, which matrix units could do in a narrow dtype.
    """

    make: Callable[..., tuple[Any, ...]]
    axes: str
    sizes: dict[str, tuple[int, ...]]
    outputs: int = 1
    is_product: bool = False

    def shape(self, size: str) -> str:
        """The size in words, as ``B 64, d 10``."""
        return ", ".join(f"{a} {n}" for a, n in zip(self.axes.split(), self.sizes[size]))


def _sizes(tiny: tuple, small: tuple, medium: tuple, large: tuple) -> dict[str, tuple[int, ...]]:
    return {"tiny": tiny, "small": small, "medium": medium, "large": large}


def _constriction(draw: Draw, b: int, c: int, h: int, w: int, n: int) -> tuple[Any, ...]:
    masks = draw(b, n, h, w).sigmoid()
    return draw(b, c, h, w), masks, draw(b, n, c, mean=1.0), draw(b, n, c), 1e-8


def _covariance(draw: Draw, b: int, d: int) -> tuple[Any, ...]:
    return draw(b, d), draw(b, d, mean=-1.0, std=0.5), 5.0, 10.0


def _density(draw: Draw, b: int, d: int) -> tuple[Any, ...]:
    mu, logvar = draw(b, d), draw(b, d, mean=-2.0)
    return mu + torch.exp(0.5 * logvar) * draw(b, d), mu, logvar, 737280, "mws"


def _masks(draw: Draw, m: int, j: int, h: int, w: int) -> tuple[Any, ...]:
    return tuple(draw(m, j, length) for length in (h, h, w, w))


def _simplicity(draw: Draw, b: int, d: int) -> tuple[Any, ...]:
    return *(draw(b, d) for _ in range(4)), draw.integers(d, b), 0.7


def _power(draw: Draw, b: int, m: int, k: int, t: int) -> tuple[Any, ...]:
    wide = Draw(torch.float32, draw.device)
    jacobian = wide(b, 2 * m, m)
    gram = (jacobian.mT @ jacobian / m).to(draw.dtype)
    mask = torch.ones(m, k, dtype=draw.dtype, device=draw.device).tril()
    return gram, draw(b, m, k).sign(), mask, t, 1e-8


def _tangent(draw: Draw, k: int, b: int, c: int, h: int, w: int) -> tuple[Any, ...]:
    h_map = draw(b, c, h, w)
    return h_map, draw(k, b, c, h, w), "silu", None, None, 0.0, 1.0, 20.0, False


_CODES = _sizes((4, 3), (64, 10), (65536, 32), (524288, 128))
_ROWS = _sizes((3, 5), (320, 16), (16384, 128), (65536, 512))
_MAPS = _sizes((1, 2, 2, 3, 3), (8, 8, 64, 16, 16), (4, 8, 64, 32, 32), (8, 32, 64, 64, 64))

PROBLEMS: dict[str, Problem] = {
    "spatial_constriction": Problem(
        _constriction,
        "B C H W N",
        _sizes((1, 3, 4, 4, 2), (16, 256, 16, 16, 5), (16, 64, 64, 64, 5), (32, 64, 128, 128, 5)),
    ),
    "covariance_penalty": Problem(
        _covariance, "B d", _sizes((4, 3), (64, 10), (1024, 256), (4096, 1024)), is_product=True
    ),
    "cross_covariance_penalty": Problem(
        lambda draw, b, k, d: (draw(b, k), draw(b, d)),
        "B k d",
        _sizes((4, 2, 3), (64, 10, 512), (64, 40, 8192), (1024, 40, 65536)),
        is_product=True,
    ),
    "third_central_moment_penalty": Problem(
        lambda draw, b, d: (draw(b, d), draw(b, d, mean=-1.0, std=0.5)),
        "B d",
        _sizes((4, 3), (64, 10), (16384, 128), (65536, 1024)),
    ),
    "aggregate_posterior": Problem(
        _density, "B d", _sizes((4, 2), (64, 10), (512, 10), (2048, 10)), outputs=2
    ),
    "doubling_convolution": Problem(
        lambda draw, b, c, h, w, d: (draw(b, c, h, w), draw(c, d, 4, 4)),
        "B C H W D",
        _sizes((2, 3, 2, 3, 1), (64, 32, 32, 32, 1), (64, 32, 64, 64, 3), (256, 64, 64, 64, 3)),
        is_product=True,
    ),
    "cumax": Problem(lambda draw, b, n: (draw(b, n),), "B n", _ROWS),
    "band_gate": Problem(lambda draw, b, n: (draw(b, n), draw(b, n)), "B n", _ROWS),
    "band_mask": Problem(
        _masks,
        "M J H W",
        _sizes((2, 2, 3, 4), (80, 4, 16, 16), (80, 4, 64, 64), (1024, 4, 128, 128)),
    ),
    "gaussian_kl": Problem(lambda draw, b, d: (draw(b, d), draw(b, d)), "B d", _CODES),
    "reparameterized_sample": Problem(
        lambda draw, b, d: (draw(b, d), draw(b, d), draw(b, d)), "B d", _CODES, outputs=2
    ),
    "perceptual_simplicity_loss": Problem(_simplicity, "B d", _CODES),
    "masked_power_iteration": Problem(
        _power,
        "B m k T",
        _sizes((1, 4, 2, 2), (32, 128, 8, 8), (32, 128, 32, 8), (512, 128, 32, 8)),
        outputs=2,
        is_product=True,
    ),
    "activation_tangent": Problem(_tangent, "K B C H W", _MAPS),
    "activation_tangent_": Problem(_tangent, "K B C H W", _MAPS),
}


def problem(name: str, size: str, dtype: torch.dtype, device: str) -> tuple[Any, ...]:
    """Arguments of an op, those that have a gradient as leaves that ask for it."""
    found = PROBLEMS[name]
    args = found.make(Draw(dtype, device), *found.sizes[size])
    if REGISTRY[name].spec.mutates:
        return args
    return tuple(
        x.detach().requires_grad_()
        if isinstance(x, Tensor) and x.is_floating_point() and n not in CONSTANTS
        else x
        for n, x in zip(argument_names(name), args)
    )


def argument_names(name: str) -> list[str]:
    return [argument.name for argument in REGISTRY[name].overload._schema.arguments]


def work(name: str, args: tuple[Any, ...], backward: bool = False) -> tuple[int, int]:
    """Bytes and operations of a forward pass, or of that and a backward pass."""
    spec = REGISTRY[name].spec
    moved, done = spec.bytes(*args), spec.flops(*args)
    if backward and name + BACKWARD not in REGISTRY:  # two products as large, of torch's own
        return 3 * moved, 3 * done
    if backward:
        adjoint = REGISTRY[name + BACKWARD].spec
        its_args = adjoint_arguments(name, args)
        moved, done = moved + adjoint.bytes(*its_args), done + adjoint.flops(*its_args)
    return moved, done


def adjoint_arguments(name: str, args: tuple[Any, ...]) -> list[Any]:
    """Arguments of the op's adjoint, without data: gradients of outputs, inputs, saved outputs."""
    op = REGISTRY[name]
    meta = [x.detach().to("meta") if isinstance(x, Tensor) else x for x in args]
    outputs = op.spec.fake(*meta)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    named = dict(zip((r.name for r in op.overload._schema.returns), outputs))
    named |= dict(zip(argument_names(name), meta))
    wanted = argument_names(name + BACKWARD)
    cotangents = iter(outputs)
    return [named[n] if n in named else next(cotangents) for n in wanted]
