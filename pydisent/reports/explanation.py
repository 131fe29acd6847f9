"""``explain``: what a generator does, in one call, as arrays and a shareable page."""

from __future__ import annotations

import functools
import html
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pydisent._checks import check, shown
from pydisent.jacobian.explanation import Analysis, Coupled, Method, Report, analyse
from pydisent.reports._explanation_words import counted
from pydisent.reports.files import write_files

_WIDTH = 30  # of the progress bar, in characters


@dataclass(eq=False, repr=False)
class Explanation(Analysis):
    """The result of `explain`: the arrays of `pydisent.jacobian.explanation.Analysis`, and a page.

    Attributes
    ----------
    title : str
        Title of the page.
    """

    title: str = "A generator"

    @functools.cached_property
    def files(self) -> dict[str, bytes]:
        """The page, index.html, and its pictures, by file name; needs the `report` extra."""
        from pydisent.reports._explanation import page_files

        return page_files(self)

    @property
    def page(self) -> str:
        """The page as HTML, with its pictures inside."""
        return self.files["index.html"].decode()

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, except the images."""
        found = {
            name: getattr(self, name)
            for name in (
                "codes", "eigenvalues", "eigenvectors", "residuals", "traces", "trace_errors",
                "heatmap",
            )
        }  # fmt: skip
        for name in ("average", "common"):
            found |= _tensors(name, getattr(self, name))
        if self.pictures is not None:
            found |= {
                "local_maps": self.pictures.local_maps, "average_maps": self.pictures.average_maps
            }  # fmt: skip
        for name, region in self.regions.items():
            found |= _tensors(f"regions.{name}", region)
        if self.paths is not None:
            found["paths"] = self.paths.codes
        return {name: tensor.detach().cpu().float().numpy() if tensor.dtype.itemsize < 4
                else tensor.detach().cpu().numpy() for name, tensor in found.items()}  # fmt: skip

    def save(self, folder: str | Path) -> Path:
        """Write index.html, its pictures, arrays.npz and summary.json; return the page's path.

        Raises
        ------
        ValueError
            If ``folder`` is a file.
        """
        data = io.BytesIO()
        np.savez_compressed(data, **self.arrays())  # type: ignore[arg-type]
        summary = {
            "title": self.title,
            "method": self.method,
            "seconds": round(self.seconds, 3),
            "notes": self.notes,
            "settings": {k: v for k, v in self.settings.items() if _is_plain(v)},
            "eigenvalues": self.average.values.tolist(),
            "shares": self.average.shares.tolist(),
        }
        files = {
            "arrays.npz": data.getvalue(),
            "summary.json": json.dumps(summary, indent=2).encode(),
        }
        page = self.files  # drawn before anything is written
        return write_files(Path(folder), files | page)[list(files | page).index("index.html")]

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.page)}" title="{html.escape(self.title)}" '
            'style="width: 100%; height: 50rem; border: 0"></iframe>'
        )

    def __repr__(self) -> str:
        at = f"{counted(self.k, 'direction')} of m = {self.m} at {counted(len(self.codes), 'code')}"
        return f"Explanation({self.title!r}: {at}, {self.average.shares.sum():.0%} of all change)"


def explain(
    generator: Any,
    z: Tensor | int,
    *,
    k: int | None = None,
    decode: Callable[..., Any] | None = None,
    fn_kwargs: Mapping[str, Any] | None = None,
    regions: Mapping[str, Any] | None = None,
    region_nullspace: int = 0,
    points: int = 4,
    paths: int = 3,
    length: float | None = None,
    value_range: tuple[float, float] | None = None,
    picture_size: int = 128,
    method: Method = "auto",
    tolerance: float = 1e-2,
    time_limit: float | None = 240.0,
    memory_limit: int | None = None,
    coupled: Coupled = "error",
    seed: int = 0,
    out: str | Path | None = None,
    title: str | None = None,
    names: Sequence[str] | None = None,
    progress: bool | Report = True,
) -> Explanation:
    """Explain what a generator does: the directions of its code that matter most, and their effect.

    At each code z, M = J'J of the generator's Jacobian J says how much a direction q changes the
    output: ‖J q‖² = q'M q. Its eigenvectors are the directions at that code; the eigenvectors of
    the mean of M over codes, and the directions that most codes share, describe all codes.

    Parameters
    ----------
    generator
        Maps codes to outputs: any callable, or an object with a method ``decode``. It may return a
        tensor, a list or dict of tensors, or an object whose ``sample`` is a tensor; the squared
        changes of several tensors add. Outputs (B, C, H, W) with C = 1 or 3 are images.
    z
        Codes (B, *latent), such as (B, m), (B, m, 1, 1) or (B, L, 512); or their number, to be
        drawn by ``generator.sample_code(n, torch_generator)``, or else from N(0, I) in the shape
        given by its ``z_dim``, ``latent_dim``, ``latent_size`` or ``dim_z``.
    k
        Number of directions, at most m; by default 8, or m.
    decode
        Used in place of the generator to map codes to outputs, such as ``generator.synthesis``.
    fn_kwargs
        Keyword arguments for each call, such as ``{"c": None, "noise_mode": "const"}`` for
        NVIDIA's StyleGANs.
    regions
        By name, masks w (H, W) in [0, 1] or boxes (top, left, bottom, right) in pixels: also find
        the directions that maximise ‖w ∘ J q‖², at most four per region.
    region_nullspace
        Take a region's directions orthogonal to this many leading eigenvectors U of the change in
        the rest of the image, J' diag(1 − w)² J: they are the leading eigenvectors of
        P J' diag(w)² J P with P = I − U U', projected as in LOCO-Edit (Chen et al. 2024).
    points
        Number of codes, from the first, for which pictures are drawn and regions analysed.
    paths
        Number of eigenpaths, along the first eigenvectors from the first code (Ramesh et al. 2018,
        Algorithm 1); 0 for none.
    length
        The longest step of the pictures along each direction. By default, the step that changes
        pixels by 15 % of the range in root mean square, to first order: along the first direction
        no longer than the codes themselves, along others at most four times as long as that.
    value_range
        The values drawn black and white, (low, high); by default estimated from the images.
    picture_size
        Size to which images are reduced, by averaging over areas.
    method
        "exact" computes all of M; "subspace" only its leading directions, from products J'J V by a
        block Krylov method; "auto" is exact for m <= 64, and up to m = 2048 if that takes less
        than a third of the time.
    tolerance
        The relative residual ‖M v − λ v‖ / λ at which a subspace has converged, in (0, 1).
    time_limit
        Seconds, or None for no limit. The page and ``notes`` say what was left out for lack of
        time; at least one code is explained. Drawing the page takes some seconds more.
    memory_limit
        Bytes for tangents and what they read besides the generator itself; by default the budget
        of `pydisent.linearize`. An estimate, which small temporary tensors may exceed.
    coupled
        As for `pydisent.linearize`.
    seed
        At least 0. Seeds drawn codes, the starts of subspaces, and the random numbers that the
        generator draws from torch. These are the same for each image, and so are the generator's
        buffers, of which each call gets copies.
    out
        Folder in which to save the page and the arrays; see `Explanation.save`.
    title
        Title of the page.
    names
        Names of the m coordinates.
    progress
        Whether to show a bar on a terminal; or a callable, called with (stage, done, total).

    Returns
    -------
    Explanation
        Holds arrays and a page, and has a method `save`; notebooks show the page. Drawing needs
        the `report` extra.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or `pydisent.linearize` refuses it.
    DerivativeError
        If PyTorch's derivative of an operation of the generator is missing or wrong.

    Examples
    --------
    >>> decode = lambda z: torch.sin(z @ torch.eye(6, 3 * 8 * 8)).reshape(-1, 3, 8, 8)
    >>> explained = pydisent.explain(decode, torch.randn(5, 6), k=2, paths=0)
    >>> explained.eigenvalues.shape, explained.average.vectors.shape
    (torch.Size([5, 6]), torch.Size([2, 6]))
    """
    if names is not None:
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise TypeError(f"names must be a sequence of names, got {shown(names)}")
        names = [str(name) for name in names]
    if out is not None and not isinstance(out, str | Path):
        raise TypeError(f"out must be the path of a folder, got {type(out).__name__}")
    if out is not None and Path(out).exists():
        check(Path(out).is_dir(), "out", "a folder or absent", f"the file {out}")
    report = progress if callable(progress) else _bar if progress and _has_bar() else _silent
    found = analyse(
        generator, z, k=k, decode=decode, fn_kwargs=fn_kwargs, regions=regions,
        region_nullspace=region_nullspace, points=points, paths=paths, length=length,
        value_range=value_range, picture_size=picture_size, method=method, tolerance=tolerance,
        time_limit=time_limit, memory_limit=memory_limit, coupled=coupled, seed=seed,
        names=names, progress=report,
    )  # fmt: skip
    heading = title or f"What {_name(generator)} does"
    explanation = Explanation(**vars(found), title=heading)
    if out is not None:
        explanation.save(out)
    return explanation


def _name(generator: Any) -> str:
    name = getattr(generator, "__name__", None)
    if name is None:
        return type(generator).__name__
    return "a function" if name == "<lambda>" else str(name)


def _tensors(name: str, part: Any) -> dict[str, Tensor]:
    found = {each.name: getattr(part, each.name) for each in fields(part)}
    return {f"{name}.{key}": value for key, value in found.items() if isinstance(value, Tensor)}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (int, float, str, list, tuple))


def _silent(name: str, done: int, total: int) -> None:
    pass


def _has_bar() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def _bar(name: str, done: int, total: int) -> None:
    filled = _WIDTH * done // total
    end = "\n" if done == total else ""
    bar = "#" * filled + "." * (_WIDTH - filled)
    print(f"\r{name:<12} {bar} {done}/{total}", end=end, file=sys.stderr, flush=True)
