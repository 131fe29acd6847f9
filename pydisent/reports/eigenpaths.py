"""Eigenpaths: curves in latent space along a leading eigenvector (Ramesh et al., Fig. 3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pydisent._extras import optional
from pydisent.evaluation.codes import base_codes, decode
from pydisent.evaluation.subject import Subject
from pydisent.jacobian import trace_eigenpath
from pydisent.reports._grid import ImageGrid, animate, image_grid
from pydisent.reports._section import Picture, Section, described, section_of
from pydisent.reports.files import figures_folder, write_files
from pydisent.reports.style import INK, SCALE, SERIES, figure, figure_png, image_png
from pydisent.training.run import Run

with optional():
    from matplotlib.ticker import MaxNLocator


_SMALL_CELL = 40 * SCALE
_SHOWN, _FRAMES = 11, 31
_PATHS = 6  # at most, in a report


def write_eigenpaths(
    run: Run,
    out: Path | None = None,
    *,
    ordinals: Sequence[int] = (1, 2, 3),
    steps: int = 200,
    step_size: float = 1.5e-2,
    decay: float = 0.0,
    shown: int | None = None,
    bases: int = 3,
    seed: int = 0,
) -> list[Path]:
    """Draw images along eigenpaths, still and moving, and return the files.

    Parameters
    ----------
    run : Run
        The run.
    out : Path, optional
        Folder for the pictures; RUN/figures by default.
    ordinals : sequence of int
        Which eigenvectors to follow; 1 is the leading one.
    steps : int
        N >= 1 of Alg. 1.
    step_size : float
        α > 0.
    decay : float
        ρ in [0, 1).
    shown : int, optional
        Number of iterates in the still pictures, evenly spaced from 0 to N; from 2 to N + 1, by
        default 11 or all.
    bases : int
        Number of codes drawn from the prior, >= 1; with one, one picture fewer is drawn.
    seed : int
        Seed of the codes.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    folder = figures_folder(run, out)
    files = draw_eigenpaths(
        run,
        ordinals=ordinals,
        steps=steps,
        step_size=step_size,
        decay=decay,
        shown=shown,
        bases=bases,
        seed=seed,
    )
    return write_files(folder, files)


def draw_eigenpaths(
    run: Run,
    *,
    ordinals: Sequence[int] = (1, 2, 3),
    steps: int = 200,
    step_size: float = 1.5e-2,
    decay: float = 0.0,
    shown: int | None = None,
    bases: int = 3,
    seed: int = 0,
) -> dict[str, bytes]:
    """Return the files that `write_eigenpaths` writes, by name."""
    if steps < 1:
        raise ValueError(f"steps must be an integer >= 1, got {steps}")
    shown = min(_SHOWN, steps + 1) if shown is None else shown
    if not 2 <= shown <= steps + 1:
        raise ValueError(f"shown must be an integer from 2 to steps + 1 = {steps + 1}, got {shown}")
    base = base_codes(run.system, bases, seed)
    path = trace_eigenpath(
        run.system.decode, base, ordinals=ordinals, step_size=step_size, decay=decay, steps=steps
    )
    still, moving = _evenly(steps, shown), _evenly(steps, min(_FRAMES, steps + 1))
    images = decode(run.system, path[:, :, still])
    main = _main_coordinates(path, list(run.system.code_names))
    title = f"{run.system.name}: following eigenvectors"
    columns = [str(i) for i in still]
    rows = [f"γ{o}\n{main[r][0]}" for r, o in enumerate(ordinals)]
    first = image_grid(images[:, 0], title=title, rows=rows, columns=columns)
    files = {"eigenpaths.png": image_png(first)}
    if bases > 1:
        several = image_grid(
            images.flatten(0, 1),
            title=f"{title}, from {bases} codes",
            rows=[f"γ{o}\n{text}" for r, o in enumerate(ordinals) for text in main[r]],
            columns=columns,
            groups=[bases] * len(ordinals),
            cell=_SMALL_CELL,
        )
        files["eigenpaths-bases.png"] = image_png(several)
    frames = decode(run.system, path[:, :, moving]).permute(2, 1, 0, 3, 4, 5)
    names = [f"γ{o}" for o in ordinals]
    grid = ImageGrid((bases, len(ordinals)), frames.shape[3:], title=title, columns=names)
    files["eigenpaths.gif"] = animate(grid, frames, [f"step {i}" for i in moving])
    if path.shape[-1] > 1:
        files["trajectories.png"] = draw_trajectories(
            path[:, 0].cpu(), ordinals, run.system.code_names, f"{title}, from one code"
        )
    return files


def draw_trajectories(
    paths: Tensor, ordinals: Sequence[int], names: Sequence[str], title: str
) -> bytes:
    """Draw paths in latent space (Ramesh et al., Fig. 2 a), where aligned ones follow an axis.

    Parameters
    ----------
    paths : Tensor
        (ordinals, N + 1, m) from one code, m >= 2.
    ordinals : sequence of int
        The eigenvectors that they follow.
    names : sequence of str
        Names of the m coordinates. If there are more than three, the three along which the paths
        go farthest are drawn.
    title : str
        Printed above.
    """
    moved = (paths - paths[:, :1]).abs().amax((0, 1))
    axes = sorted(moved.argsort(descending=True, stable=True)[:3].tolist())
    points = paths[..., axes].double().numpy()
    space = {"projection": "3d"} if len(axes) == 3 else {}
    with figure(460, 420) as drawn:
        panel: Any = drawn.subplots(subplot_kw=space)
        for number, (ordinal, line) in enumerate(zip(ordinals, points)):
            colour = SERIES[number % len(SERIES)]
            panel.plot(*line.T, color=colour, linewidth=1.8, label=f"γ{ordinal}")
        panel.plot(*points[0, :1].T, color=INK, marker="o", markersize=4, linestyle="")
        ends = points.reshape(-1, len(axes))
        middle, half = (ends.max(0) + ends.min(0)) / 2, np.ptp(ends, 0).max() / 2 or 1.0
        for axis, place, centre in zip(axes, "xyz", middle):
            # One scale for all axes, so that a path along an axis looks like one.
            getattr(panel, f"set_{place}lim")(centre - 1.05 * half, centre + 1.05 * half)
            getattr(panel, f"set_{place}label")(names[axis])
            getattr(panel, f"{place}axis").set_major_locator(MaxNLocator(4))
        panel.set_aspect("equal")
        panel.set_title(title)
        panel.legend(loc="upper left")
        return figure_png(drawn)


def _evenly(last: int, count: int) -> list[int]:
    return torch.linspace(0, last, count, dtype=torch.float64).round().long().tolist()


def _main_coordinates(path: Tensor, names: list[str]) -> list[list[str]]:
    """Return the main axis of each path (ordinals, B, N + 1, m), and how closely it follows it.

    The percentage is the fraction of the steps' squared lengths along that axis.
    """
    squares = path.diff(dim=2).square().sum(2)
    shares, axes = (squares / squares.sum(-1, keepdim=True)).max(-1)
    return [
        [f"{share:.0%} along {names[axis]}" for share, axis in zip(*row)]
        for row in zip(shares.tolist(), axes.tolist())
    ]


def section(subjects: Sequence[Subject]) -> Section:
    """Return the section of eigenpaths."""
    return section_of(
        "Eigenpaths",
        "From a code, small steps are taken along the leading eigenvector of M at each point "
        "(γ1), the second (γ2), and so on: curves along which few factors are mixed, whether or "
        "not the code is disentangled (Ramesh et al., Alg. 1). The figure beside a row says how "
        "much of the path lies along its main coordinate: near 100 % where the penalty has worked.",
        subjects,
        _pictures,
    )


def _pictures(subject: Subject) -> list[Picture]:
    count = min(_PATHS, subject.alignment["k"])
    files = draw_eigenpaths(subject.run, ordinals=range(1, count + 1), seed=subject.seed)
    about = {
        "eigenpaths.png": (
            f"Images of {subject.label} in {count} rows, one per eigenvector, along the path that "
            "follows it from the same code.",
            f"{subject.label}: paths along the first {count} eigenvectors, 200 steps of 0.015.",
        ),
        "eigenpaths.gif": (
            f"Animation of {subject.label}: one column per eigenvector, one row per code.",
            f"{subject.label}: the same in motion, one row per code.",
        ),
        "trajectories.png": (
            f"Curves of {subject.label} in latent space, one per eigenvector, from one code.",
            f"{subject.label}: the paths in the coordinates along which they go farthest (Ramesh "
            "et al., Fig. 2 a); they follow an axis where the code is aligned.",
        ),
        "eigenpaths-bases.png": (
            f"Images of {subject.label} in groups of rows, one group per eigenvector, one row per "
            "code.",
            f"{subject.label}: the same from several codes.",
        ),
    }
    return described(files, {file: words for file, words in about.items() if file in files})
