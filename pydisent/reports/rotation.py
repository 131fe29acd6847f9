"""Accumulated distance along an axis as it rotates in a plane of the code (Zhu et al., Fig. 3)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pydisent.evaluation.codes import base_codes
from pydisent.evaluation.lengths import measured_lengths
from pydisent.metrics import FixedFeatures, accumulated_distance
from pydisent.reports.files import figures_folder, write_files
from pydisent.reports.style import MUTED, SERIES, figure, figure_png
from pydisent.reports.traversals import chosen_coordinates
from pydisent.training.run import Run

_LAST = 180


def write_rotation(
    run: Run,
    out: Path | None = None,
    *,
    coordinates: Sequence[int | str] | None = None,
    step: int = 10,
    seed: int = 0,
) -> Path:
    """Draw the accumulated perceptual distance against rotation into a file; return its path.

    If each of the two coordinates has one simple effect, the distance is least at multiples of
    90°, which are marked (Fig. 3 d).

    Parameters
    ----------
    run : Run
        The run.
    out : Path, optional
        Folder for the picture; RUN/figures by default.
    coordinates : sequence of int or str, optional
        Two coordinates, as numbers from 0 or names; by default those with the longest traversals,
        measured if not among the scores.
    step : int
        Degrees between angles, a divisor of 90.
    seed : int
        Seed of the code, whose other coordinates are kept.

    Raises
    ------
    ValueError
        If an argument is out of range or a name unknown.
    """
    folder = figures_folder(run, out)
    if step < 1 or 90 % step:
        raise ValueError(f"step must be a divisor of 90, got {step}")
    if coordinates is None:
        chosen = measured_lengths(run).order[:2]
    else:
        chosen = chosen_coordinates(run, coordinates)
    if len(set(chosen)) != 2 or len(chosen) != 2:
        names = [run.system.code_names[i] for i in chosen]
        raise ValueError(f"coordinates must be two different ones, got {', '.join(names)}")
    angles = list(range(-90, _LAST + 1, step))
    distance = FixedFeatures()
    code = base_codes(run.system, 1, seed)[0]
    sums = accumulated_distance(
        run.system.decode, code, (chosen[0], chosen[1]), angles, distance=distance
    )
    names = [run.system.code_names[i] for i in chosen]
    title = f"{run.system.name}: rotation in the plane of {names[0]} and {names[1]}"
    files = {f"rotation-{'-'.join(names)}.png": draw_rotation(angles, sums, title, distance.name)}
    return write_files(folder, files)[0]


def draw_rotation(
    angles: Sequence[float], distances: Sequence[float] | np.ndarray, title: str, name: str
) -> bytes:
    """Draw accumulated distances against angles in degrees, with lines at multiples of 90°.

    Parameters
    ----------
    angles, distances : sequence of float
        Sequences of equal length.
    title : str
        Printed above.
    name : str
        Name of the perceptual distance.
    """
    first, last = min(angles), max(angles)
    ticks = np.arange(np.ceil(first / 45), np.floor(last / 45) + 1) * 45
    with figure(520, 300) as drawn:
        panel = drawn.subplots()
        for angle in ticks[ticks % 90 == 0]:
            panel.axvline(angle, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        panel.plot(angles, distances, color=SERIES[0], linewidth=1.8, marker="o", markersize=3)
        panel.set_title(title)
        panel.set_xticks(ticks, [f"{t:.0f}°".replace("-", "−") for t in ticks])
        panel.set_xlabel("rotation α")
        panel.set_ylabel(f"accumulated distance\n(by {name})")
        return figure_png(drawn)
