"""Trade-off curves: each score against the reconstruction error (Kumar et al., 2018, Fig. 1)."""

import math
from collections.abc import Sequence
from typing import Any

from pydisent._extras import optional
from pydisent.evaluation.comparison import (
    RECONSTRUCTION,
    Comparison,
    Estimate,
    Group,
    metric_of,
    place,
)
from pydisent.evaluation.scoring import metric_label
from pydisent.reports.style import MUTED, PAPER, SERIES, figure, figure_png
from pydisent.training.plan import setting_text

with optional():
    from matplotlib.axes import Axes
    from matplotlib.patheffects import withStroke


_MARKS = "osD^vP"
_COLUMNS = 3


class _Curve:
    """A system's groups over one setting, in the order of its values.

    Attributes
    ----------
    setting : str or None
        The setting that varies along the curve.
    fixed : dict
        The settings that differ between this curve and others of the system.
    """

    def __init__(self, setting: str | None, fixed: dict[str, Any], groups: list[Group]) -> None:
        self.setting, self.fixed = setting, fixed
        self.groups = sorted(groups, key=lambda group: place(group.varied.get(setting or "")))

    @property
    def label(self) -> str:
        """Return the system, the varying setting, and the fixed ones."""
        fixed = [f"{name}={setting_text(value)}" for name, value in self.fixed.items()]
        words = ", ".join([*([f"over {self.setting}"] if self.setting else []), *fixed])
        return self.groups[0].system + (f" ({words})" if words else "")

    def points(self, error: str, metric: str) -> list[tuple[Estimate, Estimate, str]]:
        """Return reconstruction error, score and label of each group with both."""
        found = []
        for group in self.groups:
            x, y = group.estimate(error), group.estimate(metric)
            if x is not None and y is not None:
                found.append(
                    (x, y, setting_text(group.varied[self.setting]) if self.setting else "")
                )
        return found


def draw_tradeoff(comparison: Comparison) -> bytes | None:
    """Draw each score against the reconstruction error, with curves for each system.

    Points are means over seeds with bars of one standard deviation, labelled with the value of the
    setting that varies along the curve.

    Parameters
    ----------
    comparison : Comparison
        The groups of runs.

    Returns
    -------
    bytes or None
        A PNG; None if no group has both a reconstruction error and another score.
    """
    curves = _curves(comparison)
    drawn = {
        metric: points
        for metric in comparison.metrics
        if metric_of(metric) != RECONSTRUCTION
        and any(points := [c.points(comparison.reconstruction, metric) for c in curves])
    }
    if not drawn:
        return None
    columns = min(_COLUMNS, len(drawn)) if len(drawn) != 4 else 2
    rows = math.ceil(len(drawn) / columns)
    labels, width = [curve.label for curve in curves], 60 + 380 * columns
    beside = max(1, min(len(labels), width // (55 + 6 * max(map(len, labels)))))
    with figure(width, 40 + 20 * math.ceil(len(labels) / beside) + 300 * rows) as page:
        panels = page.subplots(rows, columns, squeeze=False).ravel()
        for panel, (metric, points) in zip(panels, drawn.items()):
            name = metric_of(metric)
            title = comparison.title(metric).replace(name, metric_label(name), 1)
            _draw_panel(panel, title, points)
        for panel in panels[len(drawn) :]:
            panel.set_axis_off()
        proxies = [panels[0].plot([], [], **_look(n))[0] for n in range(len(curves))]
        page.legend(proxies, labels, loc="outside upper left", ncols=beside)
        return figure_png(page)


def _look(number: int) -> dict[str, Any]:
    return {
        "color": SERIES[number % len(SERIES)],
        "marker": _MARKS[(number + number // len(SERIES)) % len(_MARKS)],
        "linestyle": "-" if number < len(SERIES) else (0, (5, 2)),
        "linewidth": 1.4,
        "markersize": 4.5,
    }


def _draw_panel(
    panel: Axes, title: str, points: Sequence[list[tuple[Estimate, Estimate, str]]]
) -> None:
    for number, curve in enumerate(points):
        if not curve:
            continue
        x, x_bar = zip(*((error.mean, error.std or 0) for error, _, _ in curve))
        y, y_bar = zip(*((score.mean, score.std or 0) for _, score, _ in curve))
        look = _look(number)
        if any(x_bar) or any(y_bar):
            panel.errorbar(
                x, y, y_bar, x_bar, fmt="none", ecolor=look["color"], elinewidth=0.8, alpha=0.55
            )
        panel.plot(x, y, **look)
        # Curves mostly rise, so there is room above to the left and below to the right.
        above = number % 2 == 0
        for error, score, label in curve:
            text = panel.annotate(
                label,
                (error.mean, score.mean),
                xytext=(-5, 4) if above else (5, -4),
                textcoords="offset points",
                ha="right" if above else "left",
                va="bottom" if above else "top",
                color=look["color"],
                fontsize=7.5,
                zorder=4,
            )
            text.set_path_effects([withStroke(linewidth=2.5, foreground=PAPER)])
    panel.set_title(title)
    panel.set_xlabel("reconstruction error (mean square per pixel)", color=MUTED)
    panel.margins(0.1)


def _curves(comparison: Comparison) -> list[_Curve]:
    curves = []
    for system in dict.fromkeys(group.system for group in comparison.groups):
        groups = [group for group in comparison.groups if group.system == system]
        setting = _main_setting(groups)
        # A setting determined by the main one is not a dimension of the grid.
        rest = [n for n in groups[0].varied if n != setting and not _follows(n, setting, groups)]
        families: dict[str, list[Group]] = {}
        for group in groups:
            families.setdefault(repr([group.varied[n] for n in rest]), []).append(group)
        curves += [
            _Curve(setting, {n: family[0].varied[n] for n in rest}, family)
            for family in families.values()
        ]
    return curves


def _main_setting(groups: Sequence[Group]) -> str | None:
    """Return the setting with the most values, the first of several."""
    names = list(groups[0].varied)
    counts = [len({repr(group.varied[name]) for group in groups}) for name in names]
    return names[counts.index(max(counts))] if names else None


def _follows(name: str, setting: str | None, groups: Sequence[Group]) -> bool:
    pairs = {(repr(g.varied[setting or ""]), repr(g.varied[name])) for g in groups}
    return len(pairs) == len({value for value, _ in pairs})
