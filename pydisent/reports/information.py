"""Plots of bounds on the mutual information between codes and images over training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pydisent._extras import optional
from pydisent.evaluation.divergences import LOGGED
from pydisent.evaluation.subject import Subject
from pydisent.reports._section import Picture, Section, section_of
from pydisent.reports.figures import smooth
from pydisent.reports.style import INK, MUTED, SERIES, figure, figure_png

with optional():
    from matplotlib.ticker import MaxNLocator


def bounds_of(log: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return the logged bounds by name and their "step", empty if there are none."""
    lines = [line for line in log if "mi_upper" in line]
    names = [n for n in (lines[0] if lines else {}) if n.startswith(("mi_", LOGGED))]
    return {name: np.array([line[name] for line in lines], float) for name in ("step", *names)}


def draw_information(
    log: Sequence[dict[str, Any]],
    title: str,
    scores: Mapping[int, float] | None = None,
    score_name: str = "FactorVAE score",
) -> bytes:
    """Draw both bounds and the KL of each dimension against the step (Jeon et al., Figs. 4 and 7).

    Parameters
    ----------
    log : sequence of dict
        Log lines of a run.
    title : str
        Printed above.
    scores : dict of int to float, optional
        Scores in [0, 1] by the step of their measurement; a vertical line marks the best.
    score_name : str
        Name of the score.

    Raises
    ------
    ValueError
        If the log has no bounds.
    """
    found = bounds_of(log)
    if not len(found["step"]):
        raise ValueError("no bounds on the mutual information have been logged")
    with figure(760, 420) as drawn:
        panel = drawn.subplots()
        _draw_bounds(panel, found)
        panel.set_title(title)
        panel.set_xlabel("step")
        panel.set_ylabel("nats")
        panel.set_ylim(bottom=min(0.0, float(smooth(found["mi_lower"]).min())))
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if scores:
            _draw_scores(panel, scores, score_name)
        drawn.legend(loc="outside right upper", fontsize=7.5)
        return figure_png(drawn)


def _draw_bounds(panel: Any, found: dict[str, np.ndarray]) -> None:
    steps = found["step"]
    for name, label, colour in (
        ("mi_upper", "upper bound Iᵁ", SERIES[1]),
        ("mi_lower", "lower bound Iᴸ", SERIES[0]),
    ):
        panel.plot(steps, found[name], color=colour, alpha=0.2, linewidth=0.8)
        panel.plot(steps, smooth(found[name]), color=colour, linewidth=2, label=label)
    dimensions = [name for name in found if name.startswith(LOGGED)]
    order = sorted(dimensions, key=lambda name: -smooth(found[name])[-1])
    for number, name in enumerate(order):
        panel.plot(
            steps,
            smooth(found[name]),
            color=SERIES[(number + 2) % len(SERIES)],
            linewidth=1.1,
            linestyle=((0, (4, 2)), (0, (1, 1.5)))[number // len(SERIES) % 2],
            label=f"KL of {name.removeprefix(LOGGED)}",
        )


def _draw_scores(panel: Any, scores: Mapping[int, float], name: str) -> None:
    other = panel.twinx()
    other.grid(False)
    steps = sorted(scores)
    other.plot(steps, [scores[s] for s in steps], color=INK, marker="o", markersize=3, label=name)
    other.set_ylim(0, 1)
    other.set_ylabel(name)
    other.spines["right"].set_visible(True)
    best = max(steps, key=scores.__getitem__)
    other.axvline(best, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))


def section(subjects: Sequence[Subject]) -> Section | None:
    """Return the section of the bounds; None if no run has logged any."""
    informed = [s for s in subjects if bounds_of(s.run.log)["step"].size]
    if not informed:
        return None
    return section_of(
        "Information",
        "Bounds on the mutual information between the noise and the image over training: from "
        "above by the encoder's divergence from the prior, dimension by dimension, and from below "
        "by how well the noise is reconstructed (Jeon et al., Fig. 4). Dimensions that rise, one "
        "after another, have each picked up some information; those that stay at zero carry none.",
        subjects,
        _picture,
        only=informed,
    )


def _picture(subject: Subject) -> Picture:
    return Picture(
        "information.png",
        draw_information(subject.run.log, f"{subject.label}: mutual information"),
        f"Curves over the training steps of {subject.label}: an upper and a lower bound on the "
        "mutual information, and the divergence of each dimension of the code.",
        f"{subject.label}: running means and, faint, the logged bounds.",
    )
