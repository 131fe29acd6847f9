"""Plots that compare runs: alignment, spectra and losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pydisent._extras import optional
from pydisent.reports._section import Picture, Section
from pydisent.reports.style import INK, MUTED, SERIES, figure, figure_png

with optional():
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:  # needs the packages that training needs
    from pydisent.evaluation.subject import Subject


_WRITTEN = 12  # largest F whose entries are printed
_CODES = 24  # spectra drawn one by one


def _arrangement(count: int) -> tuple[int, int]:
    """Return rows and columns of a layout of `count` panels."""
    columns = 2 if count == 4 else min(3, count)
    return math.ceil(count / columns), columns


def heatmaps(summaries: Mapping[str, dict[str, Any]]) -> bytes:
    """Draw F of each run side by side, the first k × k entries boxed (Ramesh et al., Fig. 5).

    Parameters
    ----------
    summaries : dict
        `alignment_summary` of each run, by the run's label.
    """
    with optional():
        from matplotlib.colors import PowerNorm

    rows, columns = _arrangement(len(summaries))
    with figure(90 + 400 * columns, 470 * rows) as drawn:
        panels = drawn.subplots(rows, columns, squeeze=False).ravel()
        shades = PowerNorm(0.5, 0, 1)  # makes small entries of a large F visible
        for panel, (label, summary) in zip(panels, summaries.items()):
            image = _heatmap(panel, label, summary, shades)
        for panel in panels[len(summaries) :]:
            panel.set_axis_off()
        bar = drawn.colorbar(image, ax=panels, shrink=0.75, aspect=28, pad=0.02)
        bar.set_ticks([0, 0.05, 0.2, 0.5, 1], labels=["0", "0.05", "0.2", "0.5", "1"])
        bar.set_label("mean squared entry")
        bar.outline.set_visible(False)
        return figure_png(drawn)


def _heatmap(panel: Axes, label: str, summary: dict[str, Any], shades: Any) -> Any:
    heatmap, k = summary["heatmap"].numpy(), summary["k"]
    size = len(heatmap)
    image = panel.imshow(heatmap, cmap="Blues", norm=shades, interpolation="nearest")
    panel.add_patch(
        Rectangle((-0.5, -0.5), k, k, fill=False, edgecolor=SERIES[1], linewidth=2, clip_on=False)
    )
    panel.set_title(f"{label}: {summary['mean']:.2f}", pad=20)
    about = "mean of the diagonal" if k == size else f"mean of the first {k} diagonal entries"
    panel.text(0, 1.02, about, transform=panel.transAxes, color=MUTED, fontsize=7.5)
    panel.set_xlabel("eigenvector, leading first")
    panel.set_ylabel("coordinate")
    panel.grid(False)
    panel.spines[:].set_visible(False)
    ticks = range(size) if size <= 16 else range(size // 8 - 1, size, size // 8)
    panel.set_xticks(ticks, [str(i + 1) for i in ticks])
    panel.set_yticks(ticks, [str(i + 1) for i in ticks])
    if size <= _WRITTEN:
        for (i, j), value in np.ndenumerate(heatmap):
            colour = "white" if value > 0.28 else INK
            text = f"{value:.2f}".lstrip("0") if value < 0.995 else "1"
            panel.text(j, i, text, ha="center", va="center", color=colour, fontsize=6.5)
    return image


def spectra(summaries: Mapping[str, dict[str, Any]]) -> bytes:
    """Draw log eigenvalues of M at several codes, and their median (Ramesh et al., Fig. 13 a, b).

    Parameters
    ----------
    summaries : dict
        `alignment_summary` of each run, by the run's label.
    """
    rows, columns = _arrangement(len(summaries))
    with figure(60 + 400 * columns, 340 * rows) as drawn:
        panels = drawn.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for number, (panel, (label, summary)) in enumerate(zip(panels, summaries.items())):
            colour = SERIES[number % len(SERIES)]
            values = summary["eigenvalues"].double().numpy()
            floor = max(values.max() * 1e-12, np.finfo(float).tiny)
            logs = np.log10(np.maximum(values, floor))
            ordinal = np.arange(1, logs.shape[1] + 1)
            panel.plot(ordinal, logs[:_CODES].T, color=colour, alpha=0.18, linewidth=0.8)
            mark = "o" if len(ordinal) <= 32 else ""
            median = np.median(logs, 0)
            panel.plot(ordinal, median, color=colour, linewidth=2, marker=mark, markersize=3.5)
            panel.axvline(summary["k"] + 0.5, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))
            panel.annotate(
                f"k = {summary['k']}",
                (summary["k"] + 0.5, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, -2),
                textcoords="offset points",
                va="top",
                color=MUTED,
                fontsize=7.5,
            )
            panel.set_title(label)
            panel.set_xlabel("eigenvector, leading first")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        for panel in panels[::columns]:
            panel.set_ylabel("log₁₀ eigenvalue of M")
        for panel in panels[len(summaries) :]:
            panel.set_axis_off()
        return figure_png(drawn)


_SCORE = "score/"  # in front of the names of scores in training
_LOSS_TITLES = {
    "generator": "generator loss",
    "discriminator": "discriminator loss",
    "alignment": "alignment penalty",
    "r1": "R1, squared gradient",
    "reconstruction": "reconstruction error",
    "kl": "KL to the prior",
    "covariance": "covariance penalty",
    "total_correlation": "total correlation",
    "active_dimensions": "active dimensions",
    "code_regression": "code regression error",
    "recognition": "code recognition error",
    "mi_lower": "mutual information, lower bound",
    "mi_upper": "mutual information, upper bound",
}


def losses(logs: Mapping[str, Sequence[dict[str, Any]]]) -> bytes:
    """Draw every logged loss and score against the step: smoothed, over the logged values.

    Parameters
    ----------
    logs : dict
        Log lines of each run, by the run's label.

    Raises
    ------
    ValueError
        If nothing is logged.
    """
    curves = _curves(logs)
    if not curves:
        raise ValueError("no loss has been logged yet")
    rows, columns = _arrangement(len(curves))
    with figure(60 + 340 * columns, 30 + 240 * rows) as drawn:
        panels = drawn.subplots(rows, columns, squeeze=False).ravel()
        colours = {label: SERIES[i % len(SERIES)] for i, label in enumerate(logs)}
        for panel, ((phase, name), by_run) in zip(panels, curves.items()):
            title = _title(name)
            panel.set_title(title if phase == "train" else f"{title} ({phase})")
            for label, (steps, values) in by_run.items():
                panel.plot(steps, values, color=colours[label], alpha=0.25, linewidth=0.8)
                panel.plot(steps, smooth(values), color=colours[label], linewidth=1.8)
            panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        for panel in panels[len(curves) :]:
            panel.set_axis_off()
        for panel in panels[max(0, len(curves) - columns) : len(curves)]:
            panel.set_xlabel("step")
        if len(logs) > 1:
            proxies = [panels[0].plot([], [], color=c, linewidth=2)[0] for c in colours.values()]
            drawn.legend(proxies, list(colours), loc="outside upper left", ncols=len(logs))
        return figure_png(drawn)


def _title(name: str) -> str:
    """Return the title of a logged loss or score."""
    if not name.startswith(_SCORE):
        return _LOSS_TITLES.get(name, name.replace("_", " "))
    from pydisent.evaluation.scoring import metric_label  # needs the packages that training needs

    metric, _, detail = name.removeprefix(_SCORE).partition("/")
    return f"{metric_label(metric)}{f', {detail}' if detail else ''}"


def _curves(
    logs: Mapping[str, Sequence[dict[str, Any]]],
) -> dict[tuple[str, str], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return {(phase, loss): {run: (steps, values)}} in the order of first appearance."""
    points: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for label, lines in logs.items():
        for line in lines:
            for name, value in line.items():
                part = "/" in name and not name.startswith(_SCORE)
                if name in ("step", "seconds", "phase") or part:
                    continue  # a part of another value is drawn in its own figure
                by_run = points.setdefault((line.get("phase", "train"), name), {})
                by_run.setdefault(label, []).append((line["step"], value))
    ordered = sorted(points.items(), key=lambda p: (p[0][1].startswith(_SCORE), p[0][0] != "train"))
    return {
        key: {label: tuple(np.array(xy, float).T) for label, xy in by_run.items()}
        for key, by_run in ordered
    }


def smooth(values: np.ndarray) -> np.ndarray:
    """Return the running mean over a twelfth of the values, shorter at the ends."""
    window = np.ones(2 * (len(values) // 24) + 1)
    counts = np.convolve(np.ones(len(values)), window, "same")
    return np.convolve(values, window, "same") / counts


def alignment_section(subjects: Sequence[Subject]) -> Section:
    """Return the section of the heat maps of F."""
    section = Section(
        "Alignment of eigenvectors with coordinates",
        "F averages the squared entries of the eigenvectors of M = J′J, where J is the generator's "
        "Jacobian, over codes from the prior (Ramesh et al., Eq. 6). A dark diagonal means that "
        "the directions that change the image most are single coordinates; an even shade, that "
        "each of them mixes all coordinates. The frame encloses the k leading ones.",
    )
    if measured := _measured(section, subjects):
        section.attempt("the heat maps", _heatmaps, measured)
    return section


def _measured(section: Section, subjects: Sequence[Subject]) -> list[Subject]:
    """Return the subjects whose alignment can be measured; record the errors of the others."""
    return [s for s in subjects if section.attempt(s.label, _measure, s)]


def _measure(subject: Subject) -> list[Picture]:
    _ = subject.alignment  # cached; its picture is drawn beside the others'
    return []


def _heatmaps(measured: Sequence[Subject]) -> Picture:
    said = "; ".join(
        f"{s.label}, mean of the first {s.alignment['k']} diagonal entries "
        f"{s.alignment['mean']:.2f}"
        for s in measured
    )
    codes = measured[0].alignment["codes"]
    return Picture(
        "alignment.png",
        heatmaps({s.label: s.alignment for s in measured}),
        f"Heat map of F: {said}.",
        f"F over {codes} codes; 1 is a perfect match, and the chance level is 1/m for a code of "
        "size m.",
    )


def spectra_section(subjects: Sequence[Subject]) -> Section:
    """Return the section of the spectra of M."""
    section = Section(
        "Spectra",
        "Eigenvalues of M show how much the image changes along each eigenvector, on a "
        "logarithmic scale. Each thin line is one code, the thick line their median. A steep fall "
        "means that few directions carry most of the change.",
    )
    if measured := _measured(section, subjects):
        section.attempt("the spectra", _spectra, measured)
    return section


def _spectra(measured: Sequence[Subject]) -> Picture:
    labels = " and ".join(s.label for s in measured)
    return Picture(
        "spectra.png",
        spectra({s.label: s.alignment for s in measured}),
        f"Falling curves: log eigenvalues of M against the eigenvector's rank, for {labels}.",
        "Squared singular values of the generator's Jacobian.",
    )


def losses_section(subjects: Sequence[Subject]) -> Section:
    """Return the section of the logged losses."""
    section = Section(
        "Training",
        "Every logged loss, and scores measured in training, against the step: the running mean "
        "and, faint behind it, the logged values.",
    )
    logs = {s.label: s.run.log for s in subjects}
    section.attempt("the losses", _losses, logs)
    return section


def _losses(logs: dict[str, list[dict[str, Any]]]) -> Picture:
    return Picture(
        "losses.png",
        losses(logs),
        f"Loss curves of {' and '.join(logs)} over training steps.",
        "Losses of all phases, and scores; a loss that only one run logs has one curve.",
    )
