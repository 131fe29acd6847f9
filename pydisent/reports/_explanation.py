"""The page of an explanation: its sections and their text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from pydisent.reports import _explanation_figures as figures
from pydisent.reports import _explanation_words as words
from pydisent.reports._grid import image_grid
from pydisent.reports._section import Picture, Row, Section
from pydisent.reports.html import render
from pydisent.reports.style import SCALE, image_png

if TYPE_CHECKING:
    from pydisent.jacobian.explanation import Pictures as _Pictures
    from pydisent.reports.explanation import Explanation

_CELL = 112 * SCALE
_SMALL_CELL = 56 * SCALE


@dataclass
class Part(Section):
    """A section with a table above its pictures."""

    labels: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


def page_files(of: Explanation) -> dict[str, bytes]:
    """Return the page and its pictures, by file name."""
    from pydisent import __version__

    parts = [_average(of), _local(of), _spectra(of), _coordinates(of)]
    if of.regions:
        parts.append(_regions(of))
    if of.paths is not None:
        parts.append(_paths(of))
    page = render(
        "explanation.html",
        title=of.title,
        notes=of.notes,
        sections=parts,
        summary=words.summary(of),
        settings=[
            Row(name.replace("_", " "), [words.written(v)]) for name, v in of.settings.items()
        ],
        arrays=_ARRAYS,
        version=__version__,
    )
    pictures = {picture.file: picture.data for part in parts for picture in part.pictures}
    return pictures | {"index.html": page.encode()}


_ARRAYS = (
    "The arrays behind this page are attributes of the Explanation that pydisent.explain returned, "
    "and, if it was saved, in arrays.npz beside the page: average.vectors, eigenvectors, "
    "eigenvalues, heatmap, average_maps, local_maps and more."
)


def _average(of: Explanation) -> Part:
    part = Part(
        "Average directions",
        "Eigenvectors of the mean of M = J′J over codes, where J is the generator's Jacobian: the "
        "unit directions q along which ‖J q‖², the squared change of the output for a small step, "
        "is largest on average. The share is relative to the change along all m directions. Beside "
        "it is the fraction of the direction that lies in the span of a single code's k leading "
        "ones, on average: near 100 % for a direction that plays the same role everywhere. The "
        "main coordinate has the largest squared entry; the residual, ‖M q − λ q‖ / λ, is 0 for an "
        "eigenvector.",
        labels=["λ", "share of change", "among a code's k", "main coordinate", "residual"],
    )
    presence = _presence(of)
    for i in range(of.k):
        share, axis = of.average.vectors[i].flatten().square().max(0)
        residual = of.average.residuals[i]  # type: ignore[index]
        cells = [
            f"{of.average.values[i]:.3g}",
            f"{of.average.shares[i]:.1%}",
            f"{presence[i]:.0%}",
            f"{share:.0%} {words.axis(of, int(axis))}",
            words.residual(of, float(residual)),
        ]
        part.rows.append(Row(f"q{i + 1}", cells))
    if len(of.codes) == 1:
        part.intro += " With a single code, they are the directions at that code, drawn below."
    else:
        part.attempt("pictures", _average_sheets, of)
    return part


def _presence(of: Explanation) -> list[float]:
    """‖V_b' q‖² of each average direction q, averaged over codes."""
    mean = of.average.vectors.flatten(1).double()
    inner = of.eigenvectors.flatten(2).double() @ mean.T
    return inner.square().sum(1).mean(0).tolist()


def _average_sheets(of: Explanation) -> list[Picture]:
    pictures = _needed(of)
    labels = _labels(of.average.shares, pictures.lengths)
    return [
        _sheet(
            f"average-{number + 1}",
            _scaled(images, of),
            pictures.average_maps[number],
            labels,
            pictures.fractions,
            f"Average directions from code {number + 1}",
            number,
        )
        for number, images in enumerate(pictures.average)
    ]


def _local(of: Explanation) -> Part:
    part = Part(
        "Directions at each code",
        "Eigenvectors of M at a single code, largest eigenvalue first, regardless of the other "
        "codes. The percentage is relative to the change along all directions there. "
        "At the left, where in the image a small step acts: (J q)² of each pixel, summed over "
        "channels; its square root is drawn from black to its own maximum.",
    )
    part.attempt("pictures", _local_sheets, of)
    return part


def _local_sheets(of: Explanation) -> list[Picture]:
    pictures = _needed(of)
    made = []
    for number, images in enumerate(pictures.local):
        shares = of.eigenvalues[number, : of.k] / of.traces[number].clamp_min(1e-300)
        labels = _labels(shares, pictures.lengths)
        made.append(
            _sheet(
                f"local-{number + 1}",
                _scaled(images, of),
                pictures.local_maps[number],
                labels,
                pictures.fractions,
                f"Directions at code {number + 1}",
                number,
            )
        )
    return made


def _needed(of: Explanation) -> _Pictures:
    if of.pictures is None:
        shapes = ", ".join(words.shape(shape) for shape in of.output_shapes)
        raise ValueError(f"pictures need images with 1 or 3 channels; the output is {shapes}")
    return of.pictures


def _sheet(
    name: str,
    images: Tensor,
    maps: Tensor,
    labels: Sequence[str],
    fractions: Sequence[float],
    title: str,
    number: int,
    first: Tensor | None = None,
) -> Picture:
    """Draw images (k, S, C, h, w) and maps (k, h, w), one row per direction; first (C, h, w)."""
    columns = ["where", *(_column(fraction) for fraction in fractions)]
    tiles = torch.cat([figures.heat(maps)[:, None], _rgb(images)], 1)
    groups = [1, len(fractions)]
    if first is not None:
        tiles = torch.cat([_rgb(first).expand(len(images), 1, *tiles.shape[2:]), tiles], 1)
        columns, groups = ["region", *columns], [1, *groups]
    if number and tiles.shape[-1] >= 96:  # further codes are folded, and half the size
        tiles = F.avg_pool2d(tiles.flatten(0, 2), 2).unflatten(0, tiles.shape[:3])
    drawn = image_grid(
        tiles, title=title, rows=labels, columns=columns, column_groups=groups,
        cell=_SMALL_CELL if number else _CELL,
    )  # fmt: skip
    return Picture(
        f"{name}.png",
        image_png(drawn),
        f"{title}: {len(images)} rows, one per direction, each with a map of where it acts and "
        "images after steps along it, either way.",
        title if number else f"{title}: where each acts, and images after steps ε along it.",
        folded=number > 0,
    )


def _labels(shares: Tensor, lengths: Tensor, of: str = "") -> list[str]:
    """Two lines per direction: its number, and its share with the step."""
    rows = zip(shares.tolist(), lengths.tolist())
    return [f"{i}\n{share:.1%}{of}, ε = {e:.2g}" for i, (share, e) in enumerate(rows, 1)]


def _column(fraction: float) -> str:
    size = {1.0: "ε", 0.5: "ε/2"}.get(abs(fraction), f"{abs(fraction):g} ε")
    return "0" if not fraction else f"{'−' if fraction < 0 else '+'}{size}"


def _scaled(images: Tensor, of: Explanation) -> Tensor:
    low, high = _needed(of).value_range
    return ((images - low) / (high - low)).clamp(0, 1)


def _rgb(images: Tensor) -> Tensor:
    return images.expand(*images.shape[:-3], 3, *images.shape[-2:])


def _spectra(of: Explanation) -> Part:
    what = "All eigenvalues" if of.method == "exact" else f"The {of.k} leading eigenvalues"
    part = Part(
        "Spectra",
        f"{what} of M show how much the output changes along each eigenvector, on a logarithmic "
        "scale. Each thin line is one code, the thick line their median. A steep fall means that "
        "few directions carry most of the change.",
    )
    part.attempt("the spectra", figures.spectrum, of)
    return part


def _coordinates(of: Explanation) -> Part:
    part = Part(
        "Alignment with coordinates",
        "F averages the squared entries of the eigenvectors over codes (Ramesh et al., Eq. 6). One "
        "dark cell means that an eigenvector is a single coordinate of the code; an even shade, "
        "that it mixes all of them.",
    )
    part.attempt("F", figures.alignment, of)
    if figures.has_layers(of):
        part.attempt("layers", figures.layers, of)
    return part


def _regions(of: Explanation) -> Part:
    projected = of.settings["region_nullspace"]
    away = (
        f", orthogonal to the {projected} directions that change the rest of the image most"
        if projected
        else ""
    )
    part = Part(
        "Regions",
        "For the mask w of a region, the unit directions q that maximise ‖w ∘ J q‖², the squared "
        f"change inside it{away}. Inside is the fraction of a direction's total change that falls "
        "in the region, ‖w ∘ J q‖² / ‖J q‖², at the first code.",
        labels=["of the image", *(f"inside, q{i + 1}" for i in range(min(4, of.k)))],
    )
    for number, (name, region) in enumerate(of.regions.items()):
        covered = f"{region.mask.mean():.0%}"
        part.rows.append(Row(name, [covered, *(f"{x:.0%}" for x in region.inside[0])]))
        part.attempt(name, _region_sheet, of, name, number)
    return part


def _region_sheet(of: Explanation, name: str, number: int) -> Picture:
    region, pictures = of.regions[name], _needed(of)
    images = _scaled(pictures.regions[name], of)
    middle = images[0, len(pictures.fractions) // 2]
    mask = F.interpolate(region.mask[None, None].float(), middle.shape[-2:], mode="area")[0]
    labels = _labels(region.inside[0], pictures.region_lengths[name], " inside")
    return _sheet(
        f"region-{number + 1}",
        images,
        region.maps[0],
        labels,
        pictures.fractions,
        f"Directions of the region {name}",
        0,
        first=middle * (0.25 + 0.75 * mask),
    )


def _paths(of: Explanation) -> Part:
    paths = of.paths
    assert paths is not None
    near = ""
    if of.method != "exact":
        near = (
            " Each eigenvector is found from those of the previous step by one product with M, so "
            "it is approximate."
        )
    taken = words.counted(paths.codes.shape[1] - 1, "step")
    part = Part(
        "Eigenpaths",
        "From the first code, small steps are taken against the leading eigenvector of M at each "
        "point (γ1), the second (γ2), and so on (Ramesh et al., Alg. 1): curves along which few "
        f"factors are mixed. {taken} of length {paths.step_size:.3g}.{near}",
    )
    part.attempt("pictures", _path_sheet, of)
    return part


def _path_sheet(of: Explanation) -> Picture:
    assert of.paths is not None
    if of.paths.images is None:
        _needed(of)
    images = _rgb(_scaled(of.paths.images, of))  # type: ignore[arg-type]
    steps = of.paths.codes.double().flatten(2).diff(dim=1)
    straight = steps.sum(1).norm(dim=-1) / steps.norm(dim=-1).sum(1)
    drawn = image_grid(
        images,
        title="Eigenpaths from code 1",
        rows=[f"γ{i + 1}\n{share:.0%} straight" for i, share in enumerate(straight)],
        columns=[f"step {i}" for i in of.paths.shown],
        cell=_CELL,
    )
    return Picture(
        "eigenpaths.png",
        image_png(drawn),
        f"Images along {len(images)} eigenpaths, one per row.",
        "Images along the paths; straight is the distance between a path's ends over its length.",
    )
