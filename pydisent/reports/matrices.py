"""Matrices of codes against factors, from which metrics are computed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pydisent._extras import optional
from pydisent.evaluation.subject import Subject
from pydisent.reports._grid import one_line
from pydisent.reports._section import Picture, Section, section_of
from pydisent.reports.files import write_files
from pydisent.reports.style import INK, MUTED, figure, figure_png
from pydisent.training.run import Run

with optional():
    from matplotlib.axes import Axes


# Each metric's title, the key of its matrix (d, f) among the details, and the meaning of an entry.
_MATRICES = {
    "mig": ("MIG", "mutual_information", "mutual information, nats"),
    "sap": ("SAP", "matrix", "balanced accuracy of one code alone"),
    "sap-kumar": ("SAP by Kumar et al.", "matrix", "R² or balanced accuracy of one code alone"),
    "sap-svm": ("SAP, linear SVM", "matrix", "accuracy of one code alone"),
    "dci": ("DCI", "importance", "importance in boosted trees"),
    "factor-vae": ("FactorVAE", "votes", "votes of the least varying code"),
}
_WRITTEN = 16  # most codes whose entries are printed
_COLUMN, _BESIDE = 52, 120  # page pixels of a column, and of what is beside the columns
_LETTER, _LONGEST = 6, 32  # page pixels of a letter, and most letters of a factor's name


def matrices_of(
    scores: dict[str, Any] | None, source: str | Path = "scores.json"
) -> dict[str, np.ndarray]:
    """Return the matrices (d, f) in a run's scores by metric; `source` is the scores' file.

    Raises
    ------
    ValueError
        If one is not a matrix of codes × factors.
    """
    found = {}
    for name, (_, key, _) in _MATRICES.items():
        details = (scores or {}).get(name, {}).get("details", {})
        if key in details and "codes" in details and "factors" in details:
            found[name] = _matrix(name, key, details, source)
    return found


def _matrix(name: str, key: str, details: dict[str, Any], source: str | Path) -> np.ndarray:
    """Return a matrix from a score's details; ValueError unless it is codes × factors."""
    codes, factors = details["codes"], details["factors"]
    try:
        matrix = np.array(details[key], float)
        shape = (len(codes), len(factors))
    except (TypeError, ValueError, OverflowError):
        matrix, shape = np.empty(0), (0, 0)
    if not isinstance(codes, list) or not isinstance(factors, list) or matrix.shape != shape:
        raise ValueError(
            f"{source}: {key} of {name} must be a matrix of codes × factors: evaluate the run again"
        )
    return matrix


def draw_matrices(scores: dict[str, Any], source: str | Path = "scores.json") -> bytes:
    """Draw the codes × factors matrices of a run's scores side by side, each on its own scale.

    Parameters
    ----------
    scores : dict
        `Run.scores`.
    source : path
        Their file, for messages.

    Raises
    ------
    ValueError
        If none of them has a matrix.
    """
    found = matrices_of(scores, source)
    if not found:
        raise ValueError(f"scores must include one of {', '.join(_MATRICES)}, got no matrix")
    columns = 2 if len(found) == 4 else min(3, len(found))
    rows = -(-len(found) // columns)
    codes, factors = next(iter(found.values())).shape
    width = _BESIDE + _COLUMN * max(factors, 4)
    height = 110 + 22 * min(max(codes, 6), 40)
    names = _LETTER * max(len(name) for each in found for name in _factor_names(scores[each]))
    upright = names > (width - _BESIDE // 4) / factors  # they do not fit below the columns
    height += upright * names
    with figure(40 + width * columns, height * rows) as drawn:
        panels = drawn.subplots(rows, columns, squeeze=False).ravel()
        for panel, (name, matrix) in zip(panels, found.items()):
            _draw(panel, name, matrix, scores[name], 90 * upright)
        for panel in panels[len(found) :]:
            panel.set_axis_off()
        return figure_png(drawn)


def _draw(panel: Axes, name: str, matrix: np.ndarray, score: dict[str, Any], turned: int) -> None:
    title, _, about = _MATRICES[name]
    details = score["details"]
    most = matrix.max() or 1.0
    panel.imshow(matrix, cmap="Blues", vmin=0, vmax=most, aspect="auto", interpolation="nearest")
    panel.set_title(f"{title}: {score['score']:.3f}", pad=20)
    panel.text(0, 1.02, about, transform=panel.transAxes, color=MUTED, fontsize=7.5)
    panel.set_xticks(range(matrix.shape[1]), _factor_names(score), rotation=turned)
    step = -(-len(matrix) // 40)
    panel.set_yticks(range(0, len(matrix), step), details["codes"][::step])
    panel.tick_params(length=0)
    panel.grid(False)
    panel.spines[:].set_visible(False)
    if len(matrix) > _WRITTEN:
        return
    digits = 0 if (matrix == matrix.round()).all() else 2
    for (i, j), value in np.ndenumerate(matrix):
        colour = "white" if value > 0.55 * most else INK
        text = f"{value:.{digits}f}" if digits == 0 else f"{value:.2f}".removeprefix("0")
        panel.text(j, i, text, ha="center", va="center", color=colour, fontsize=6.5)


def _factor_names(score: dict[str, Any]) -> list[str]:
    """Return the names of the factors, each on one line of at most `_LONGEST` characters."""
    names = map(one_line, score["details"]["factors"])
    return [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in names]


def write_matrices(run: Run, out: Path) -> list[Path]:
    """Write matrices.png of a run's scores into a folder, and return its path in a list.

    Raises
    ------
    ValueError
        If none of the scores has a matrix, or `out` is a file.
    """
    return write_files(
        out, {"matrices.png": draw_matrices(run.scores or {}, run.path / "scores.json")}
    )


def section(subjects: Sequence[Subject]) -> Section | None:
    """Return the section of the matrices; None if no run has any."""
    if not any(matrices_of(s.run.scores, s.run.path / "scores.json") for s in subjects):
        return None
    return section_of(
        "Codes and factors",
        "How informative each code is about each ground-truth factor, by the quantities that the "
        "scores are computed from. In a disentangled code each column has one dark entry, and no "
        "row has two.",
        subjects,
        _picture,
    )


def _picture(subject: Subject) -> Picture:
    scores, source = subject.run.scores or {}, subject.run.path / "scores.json"
    said = ", ".join(f"{name} {scores[name]['score']:.3f}" for name in matrices_of(scores, source))
    return Picture(
        "matrices.png",
        draw_matrices(scores, source),
        f"Matrices of codes against factors of {subject.label}: {said}.",
        f"{subject.label}: one row per code, one column per factor; each matrix on its own scale.",
    )
