"""Traversals of any decoder, with a rich display in notebooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from pydisent._atomic import write_atomic
from pydisent._checks import check, check_floating, check_integer, check_number, shape_error
from pydisent.evaluation.codes import decode as decode_codes
from pydisent.reports._grid import image_grid
from pydisent.reports.html import page_size, picture_uri
from pydisent.reports.style import SCALE, image_png

_SHOWN = 16  # coordinates by default
_CELL = 40 * SCALE


@dataclass(frozen=True, eq=False)
class Traversal:
    """Images along coordinates of codes.

    Attributes
    ----------
    images : Tensor
        (K, B, T, C, H, W) in [0, 1]: coordinates, codes, values.
    values : Tensor
        (K, T), the coordinates' values.
    names : tuple of str
        Names of the coordinates.
    labels : tuple of str
        Labels of the T columns.
    title : str
        Printed above the picture.
    """

    images: Tensor
    values: Tensor
    names: tuple[str, ...]
    labels: tuple[str, ...]
    title: str

    @cached_property
    def png(self) -> bytes:
        """Return the picture: one row per coordinate and code, one column per value."""
        bases = self.images.shape[1]
        rows = [name if b == 0 else "" for name in self.names for b in range(bases)]
        drawn = image_grid(
            self.images.flatten(0, 1),
            title=self.title,
            rows=rows,
            columns=self.labels,
            groups=[bases] * len(self.names) if bases > 1 else None,
            cell=_CELL,
        )
        return image_png(drawn)

    def save(self, path: str | Path) -> Path:
        """Write the picture as PNG, creating the folder if needed; return the path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, self.png)
        return path

    def __repr__(self) -> str:
        shape = tuple(self.images.shape)
        return f"Traversal({self.title!r}, {', '.join(self.names)}, images {shape})"

    def _repr_html_(self) -> str:
        width, height = page_size(self.png)
        alt = escape(f"{self.title}: {', '.join(self.names)}", quote=True)
        size = f'width="{width}" height="{height}"'
        return f'<img src="{picture_uri(self.png)}" alt="{alt}" {size}>'


def traverse(
    decode: Callable[[Tensor], Tensor],
    bases: Tensor,
    *,
    coordinates: Sequence[int] | None = None,
    span: float = 2.0,
    steps: int = 9,
    centre: Tensor | None = None,
    scale: Tensor | None = None,
    names: Sequence[str] | None = None,
    title: str = "Each coordinate varied",
) -> Traversal:
    """Decode codes in which one coordinate at a time varies.

    Parameters
    ----------
    decode : callable
        From codes (N, d) to images (N, C, H, W) in [0, 1], C 1 or 3; called without gradients.
    bases : Tensor
        (B, d) codes to start from.
    coordinates : sequence of int, optional
        Coordinates to vary, from 0; the first 16 by default.
    span : float
        Coordinate j goes from centre_j − span · scale_j to centre_j + span · scale_j.
    steps : int
        Number of values, at least 2.
    centre, scale : Tensor, optional
        (d,), such as the mean and standard deviation of the data's codes; 0 and 1 by default.
    names : sequence of str, optional
        Names of all d coordinates; z1, z2, ... by default.
    title : str
        Printed above the picture.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or has the wrong shape, or `decode` does not return images.
    """
    check_floating("bases", bases)
    if bases.ndim != 2 or not bases.numel():
        raise shape_error("bases", "(B, d) with B and d at least 1", bases)
    d = bases.shape[1]
    check_number("span", span, above=0)
    check_integer("steps", steps, at_least=2)
    chosen = list(range(min(d, _SHOWN))) if coordinates is None else list(coordinates)
    check(len(chosen) > 0, "coordinates", "at least one, or None", "none")
    for coordinate in chosen:
        check_integer("coordinates", coordinate, at_least=0, at_most=d - 1)
    known = [f"z{i + 1}" for i in range(d)] if names is None else list(names)
    check(len(known) == d, "names", f"of all {d} coordinates", len(known))
    ends = torch.linspace(-span, span, steps, dtype=torch.float64)
    values = _row("centre", centre, bases, 0.0) + _row("scale", scale, bases, 1.0) * ends[:, None]
    codes = bases.detach().repeat(len(chosen), steps, 1, 1)  # (K, T, B, d)
    for row, coordinate in enumerate(chosen):
        codes[row, :, :, coordinate] = values[:, coordinate, None].to(codes)
    images = decode_codes(SimpleNamespace(decode=_checked(decode)), codes)
    unit = "" if scale is None else " σ"
    return Traversal(
        images=images.transpose(1, 2),
        values=values[:, chosen].T,
        names=tuple(known[i] for i in chosen),
        labels=tuple(_signed(v) + unit for v in ends.tolist()),
        title=title,
    )


def _row(name: str, given: Tensor | None, bases: Tensor, default: float) -> Tensor:
    """Return (1, d) float64 on the CPU."""
    d = bases.shape[1]
    if given is None:
        return torch.full((1, d), default, dtype=torch.float64)
    check_floating(name, given)
    if given.shape != (d,):
        raise shape_error(name, f"({d},), a number for each coordinate", given)
    check(bool(given.isfinite().all()), name, "finite", given.tolist())
    return given.detach().cpu().double()[None]


def _checked(decode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def images(codes: Tensor) -> Tensor:
        made = decode(codes)
        if not isinstance(made, Tensor):
            raise TypeError(f"decode must return a torch.Tensor, got {type(made).__name__}")
        if made.ndim != 4 or len(made) != len(codes) or made.shape[1] not in (1, 3):
            raise ValueError(
                f"decode must return images ({len(codes)}, C, H, W), C 1 or 3, of as many codes, "
                f"got {tuple(made.shape)}"
            )
        return made

    return images


def _signed(value: float) -> str:
    return "0" if math.isclose(value, 0, abs_tol=1e-9) else f"{value:+.1f}".replace("-", "−")
