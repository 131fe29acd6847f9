"""The figures of an explanation: spectra, F, layers and heat maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pydisent._extras import optional
from pydisent.reports import _explanation_words as words
from pydisent.reports._section import Picture
from pydisent.reports.figures import heatmaps, spectra
from pydisent.reports.style import figure, figure_png

with optional():
    import matplotlib
    from matplotlib.colors import PowerNorm

if TYPE_CHECKING:
    from pydisent.reports.explanation import Explanation

_SQUARE = 64  # largest F drawn as a square


def heat(maps: Tensor) -> Tensor:
    """Draw energies (*N, h, w) as colours (*N, 3, h, w): square roots relative to the maximum."""
    roots = maps.float().clamp_min(0).sqrt()
    shades = roots / roots.amax((-2, -1), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    colours = matplotlib.colormaps["inferno"](shades.numpy())[..., :3]
    return torch.from_numpy(colours).float().movedim(-1, -3)


def spectrum(of: Explanation) -> Picture:
    """Draw the eigenvalues at each code."""
    values = of.eigenvalues
    return Picture(
        "spectra.png",
        spectra({"Eigenvalues of M": {"eigenvalues": values, "k": of.k}}),
        f"{values.shape[1]} eigenvalues at {len(values)} codes; the first is "
        f"{values[:, 0].median():.3g} in the median, the k-th {values[:, of.k - 1].median():.3g}.",
        f"Eigenvalues at {words.counted(len(values), 'code')}.",
    )


def alignment(of: Explanation) -> Picture:
    """Draw F: as a square if it is square and small, else one row per eigenvector."""
    count = of.heatmap.shape[1]
    over = f"F over {words.counted(len(of.codes), 'code')}"
    file, largest = "alignment.png", of.heatmap.amax(0)[: of.k]
    alt = (
        f"Heat map of F; the largest entry of its first {len(largest)} eigenvectors is "
        f"{largest.mean():.2f} on average."
    )
    if count == of.m <= _SQUARE:
        mean = float(of.heatmap.diagonal()[: of.k].mean())
        drawn = heatmaps({"F": {"heatmap": of.heatmap, "k": of.k, "mean": mean}})
        caption = f"{over}; the chance level is 1/m for a code of size m."
        return Picture(file, drawn, alt, caption)
    rows = of.heatmap[:, : of.k].T.numpy()
    with figure(860, 90 + 24 * len(rows)) as panel_of:
        panel = panel_of.subplots()
        top = max(float(rows.max()), 1e-12)
        norm = PowerNorm(0.5, 0, top)
        image = panel.imshow(
            _thinned(rows), cmap="Blues", norm=norm, aspect="auto", interpolation="nearest",
            extent=(0.5, of.m + 0.5, len(rows) + 0.5, 0.5),
        )  # fmt: skip
        panel.set_xlabel("coordinate of the code")
        panel.set_ylabel("eigenvector")
        panel.set_yticks(range(1, len(rows) + 1))
        panel.grid(False)
        bar = panel_of.colorbar(image, ax=panel, pad=0.01)
        bar.set_label("mean squared entry")
        bar.outline.set_visible(False)
        data = figure_png(panel_of)
    return Picture(
        file, data, alt,
        f"{over}; the chance level is 1/m = {1 / of.m:.2g} for a code of size m. "
        f"Largest entry: {top:.2g}.",
    )  # fmt: skip


def _thinned(rows: np.ndarray, most: int = 1500) -> np.ndarray:
    """The maximum over neighbouring columns, so that no dark one is lost between pixels."""
    step = -(-rows.shape[1] // most)
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % step)))
    return padded.reshape(len(rows), -1, step).max(2)


def has_layers(of: Explanation) -> bool:
    """Whether codes are (L, d): one for each of L layers."""
    shape = of.codes.shape[1:]
    return len(shape) == 2 and min(shape) > 1


def layers(of: Explanation) -> Picture:
    """Draw how much of each average direction lies in each layer."""
    shares = of.average.vectors.double().square().sum(2).numpy()
    count = shares.shape[1]
    with figure(110 + max(300, 42 * count), 90 + 24 * len(shares)) as drawn:
        panel = drawn.subplots()
        image = panel.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        panel.set_xlabel("layer")
        panel.set_ylabel("average direction")
        panel.set_xticks(range(count), [str(i + 1) for i in range(count)])
        panel.set_yticks(range(len(shares)), [str(i + 1) for i in range(len(shares))])
        panel.grid(False)
        bar = drawn.colorbar(image, ax=panel, pad=0.02)
        bar.set_label("share of ‖q‖²")
        bar.outline.set_visible(False)
        data = figure_png(drawn)
    top = ", ".join(str(int(row.argmax()) + 1) for row in shares)
    return Picture(
        "layers.png", data, f"Share of each average direction in each layer; largest in {top}.",
        "How much of each average direction lies in each of the code's layers.",
    )  # fmt: skip
