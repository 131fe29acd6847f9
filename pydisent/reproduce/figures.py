"""Drawing functions for the `Figure`s of an entry, or functions that return one."""

from __future__ import annotations

import re
import statistics
import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from pydisent.evaluation.alignment import alignment_summary
from pydisent.evaluation.codes import base_codes, decode
from pydisent.reproduce.entry import Column
from pydisent.reproduce.results import collect
from pydisent.reproduce.runs import PERCEIVED, Runs

Drawn = Mapping[str, bytes]
Draw = Callable[[Runs, Sequence[str]], Drawn]
_SAMPLES = 32
_ALPHA = 2.0  # of flipped attributes, large enough for a visible effect


def eigenpaths(runs: Runs, rows: Sequence[str]) -> Drawn:
    """Draw images along eigenpaths of a row's run."""
    from pydisent.reports.eigenpaths import draw_eigenpaths

    return draw_eigenpaths(runs.open(rows), bases=1)


def heatmaps(runs: Runs, rows: Sequence[str]) -> Drawn:
    """Draw F of the rows' runs (Ramesh et al., Eq. 6)."""
    from pydisent.reports.figures import heatmaps as drawn

    return {"f.png": drawn({t: alignment_summary(run) for t, run in runs.opened(rows)})}


def spectra(runs: Runs, rows: Sequence[str]) -> Drawn:
    """Draw the spectra of J'J of the rows' runs."""
    from pydisent.reports.figures import spectra as drawn

    return {"spectra.png": drawn({t: alignment_summary(run) for t, run in runs.opened(rows)})}


def small_steps(distance: float) -> Draw:
    """Draw the effect of steps of one length along singular vectors of the Jacobian."""

    def draw(runs: Runs, rows: Sequence[str]) -> Drawn:
        from pydisent.reports.pictures import local_svd
        from pydisent.reports.style import image_png

        return {
            f"steps-{row}.png": image_png(local_svd(run, distance=distance, bases=2))
            for row, (_, run) in zip(rows, runs.opened(rows))
        }

    return draw


def traversals(sort: Literal["tpl", "code"] = "code") -> Draw:
    """Draw traversals of each code of a row's run."""

    def draw(runs: Runs, rows: Sequence[str]) -> Drawn:
        from pydisent.reports.traversals import draw_traversals

        return _stills(draw_traversals(runs.open(rows), sort=sort, bases=1))

    return draw


def masks(runs: Runs, rows: Sequence[str]) -> Drawn:
    """Draw the traversals of a row's run, and its codes' masks if it has them."""
    from pydisent.reports.masks import draw_masks
    from pydisent.reports.traversals import draw_traversals

    run = runs.open(rows)
    drawn = _stills(draw_traversals(run, sort="tpl", bases=1))
    with torch.no_grad():
        has_masks = run.system.code_masks(base_codes(run.system, 1, 0)) is not None
    return {**drawn, **(draw_masks(run) if has_masks else {})}


def transfer(runs: Runs, rows: Sequence[str]) -> Drawn:
    """Draw images with codes copied from other images."""
    from pydisent.reports.transfer import draw_transfer

    return draw_transfer(runs.open(rows))


def rotation(runs: Runs, rows: Sequence[str]) -> Drawn:
    """Draw the accumulated perceptual distance against the angle of rotation."""
    from pydisent.reports.rotation import write_rotation

    return _written(lambda folder: write_rotation(runs.open(rows), folder))


def planes(runs: Runs, rows: Sequence[str]) -> Drawn:
    """Draw the joint effect of the first two factors in each row's run, the rest fixed."""
    from pydisent.reports.planes import factor_plane, write_planes

    drawn = {}
    for title, run in runs.opened(rows):
        source = run.held_out or run.dataset
        with torch.no_grad():
            images = source.images(range(min(500, len(source))))
            codes = run.system.encode(images.to(run.system.device))
        first, second = run.system.factor_columns[:2]
        spans = (2 * float(codes[:, first].std()), 2 * float(codes[:, second].std()))
        drawn[title] = factor_plane(run.system, codes[0], columns=(first, second), spans=spans)
    return _written(lambda folder: write_planes(drawn, folder / "planes.png"))


def attributes(runs: Runs, rows: Sequence[str]) -> Drawn:
    """Draw held-out images with attributes flipped one at a time."""
    from pydisent.reports.attributes import write_attributes

    run = runs.open(rows)
    return _written(
        lambda folder: write_attributes(run, folder / "attributes.png", alpha=_ALPHA, faces=3)
    )


def information(runs: Runs, rows: Sequence[str]) -> Drawn:
    """Draw the bounds on the mutual information over training, and the KL of each dimension."""
    from pydisent.reports.information import bounds_of, draw_information

    return {
        f"information-{number}.png": draw_information(run.log, title)
        for number, (title, run) in enumerate(runs.opened(rows), start=1)
        if bounds_of(run.log)
    }


def walls(runs: Runs, rows: Sequence[str]) -> Drawn:
    """Draw samples of each row's run."""
    from pydisent.reports.pictures import image_wall
    from pydisent.reports.style import image_png

    drawn: dict[str, bytes] = {}
    for number, (title, run) in enumerate(runs.opened(rows), start=1):
        images = decode(run.system, base_codes(run.system, _SAMPLES, 0))
        drawn[f"samples-{number}.png"] = image_png(image_wall(images, title))
    return drawn


def tradeoff(runs: Runs, rows: Sequence[str]) -> Drawn:
    """Draw each score against the reconstruction error (Kumar et al., Fig. 1)."""
    from pydisent.evaluation.comparison import comparison_of
    from pydisent.evaluation.scored_run import scored_run
    from pydisent.reports.tradeoff import draw_tradeoff

    known = {runs.path(*key): runs.record(*key) for key in runs.plans if key[0] in rows}
    found = [(path, record) for path, record in known.items() if record is not None]
    # A run shared with other entries also has their scores.
    own = [({k: v for k, v in r["scores"].items() if k in runs.case.metrics}, r) for _, r in found]
    scored = [scored_run(path, r["plan"], s) for (path, _), (s, r) in zip(found, own)]
    drawn = draw_tradeoff(comparison_of(scored))
    return {"tradeoff.png": drawn} if drawn else {}


_MARKS = "osD^vP"  # as colours repeat


def scatter(across: Column, up: Column) -> Draw:
    """Draw one score against another, with one mark per run."""

    def draw(runs: Runs, rows: Sequence[str]) -> Drawn:
        from pydisent.reports.style import SERIES, figure, figure_png

        pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
        for run in collect(runs):
            point = _pair(run["scores"], across, up) if run["row"] in pairs else None
            if point is not None:
                pairs[run["row"]].append(point)
        measured = {name: points for name, points in pairs.items() if points}
        if not measured:
            return {}
        with figure(760, 400) as drawn:
            axis = drawn.subplots()
            for number, (name, points) in enumerate(measured.items()):
                repeats, colour = divmod(number, len(SERIES))
                mark = _MARKS[repeats % len(_MARKS)]
                label = runs.title(name)
                axis.plot(*zip(*points), mark, color=SERIES[colour], label=label)
            axis.set(xlabel=across.heading, ylabel=up.heading)
            axis.margins(0.1)
            drawn.legend(loc="outside right center")
            return {"scatter.png": figure_png(drawn)}

    return draw


def against(setting: str) -> Draw:
    """Draw a case's columns against a setting that varies over its rows, one dot per run."""

    def draw(runs: Runs, rows: Sequence[str]) -> Drawn:
        from pydisent.reports.style import SERIES, figure, figure_png

        found = [run for run in collect(runs) if run["row"] in rows]
        for run in found:
            run["value"] = getattr(runs.plans[run["row"], run["seed"]].config, setting)
        values = sorted({run["value"] for run in found})
        columns = runs.case.columns
        with figure(300 * len(columns), 280) as drawn:
            for axis, column in zip(drawn.subplots(1, len(columns), squeeze=False)[0], columns):
                dots = [
                    (values.index(run["value"]), column.scale * run["scores"][column.key])
                    for run in found
                    if column.key in run["scores"]
                ]
                places = sorted({place for place, _ in dots})
                means = [statistics.fmean(v for at, v in dots if at == place) for place in places]
                axis.plot(places, means, color=SERIES[0])
                axis.plot(*zip(*dots), "o", color=SERIES[0], markersize=4) if dots else None
                axis.set(title=column.title, xlabel=setting)
                axis.set_xticks(range(len(values)), [f"{value:g}" for value in values])
            return {f"{setting}.png": figure_png(drawn)}

    return draw


def scores(runs: Runs, rows: Sequence[str]) -> Drawn:
    """Draw a panel per column, a bar per row, a dot per seed, and a diamond as published."""
    from pydisent.reports.style import INK, MUTED, SERIES, figure, figure_png

    found, names = collect(runs), rows
    columns = [c for c in runs.case.columns if any(c.key in run["scores"] for run in found)]
    if not columns:
        return {}
    known = {row.name: row for row in runs.case.rows}
    foreign = any(run["by"] for run in found)
    legend = "bars: here; dots: seeds"
    with figure(180 + 170 * len(columns), 90 + 26 * len(names)) as drawn:
        axes = drawn.subplots(1, len(columns), squeeze=False, sharey=True)[0]
        for axis, column in zip(axes, columns):
            for place, name in enumerate(names):
                values = [
                    column.scale * run["scores"][column.key]
                    for run in found
                    if run["row"] == name and column.key in run["scores"]
                ]
                if values:
                    axis.barh(place, statistics.fmean(values), 0.6, color=SERIES[0])
                    axis.plot(values, [place] * len(values), "o", color=INK, markersize=2.5)
                published = known[name].published.get(column.key)
                if published is not None and not (foreign and column.key in PERCEIVED):
                    value = published[0] if isinstance(published, tuple) else published
                    axis.plot(value, place, "D", color=SERIES[1], markersize=4.5)
                    legend = "bars: here; dots: seeds; diamonds: published"
            heading = re.sub(" (?=[↑↓])", "\N{NO-BREAK SPACE}", column.heading)
            axis.set_title(textwrap.fill(heading, 20, break_long_words=False))
            axis.grid(axis="y", visible=False)
            axis.locator_params(axis="x", nbins=4)
        axes[0].set_yticks(range(len(names)), [known[name].title for name in names])
        axes[0].invert_yaxis()
        drawn.supxlabel(legend, fontsize=7.5, color=MUTED)
        return {"scores.png": figure_png(drawn)}


def _pair(scores: Mapping[str, float], across: Column, up: Column) -> tuple[float, float] | None:
    if across.key not in scores or up.key not in scores:
        return None
    return across.scale * scores[across.key], up.scale * scores[up.key]


def _stills(drawn: Mapping[str, bytes]) -> Drawn:
    return {name: picture for name, picture in drawn.items() if name.endswith(".png")}


def _written(write: Callable[[Path], Path]) -> dict[str, bytes]:
    """Return the file that `write` writes into the folder it is given."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder))
        return {path.name: path.read_bytes()}
