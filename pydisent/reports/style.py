"""The common style of all figures; its colours are safe for colour-blind readers."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pydisent._extras import optional

with optional():
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image


SCALE = 2  # picture pixels per page pixel, for high-density screens

INK = "#1c2733"
MUTED = "#5c6b7a"
RULE = "#dfe4e9"
PAPER = "#ffffff"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe & Ito

_RC: Any = {  # Any: mypy would require the type of every setting
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # names of runs and factors may have dollar signs
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
    "savefig.facecolor": PAPER,
}


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """Yield a figure of `width` × `height` page pixels in the common style, to draw in."""
    with matplotlib.rc_context(_RC):
        made = Figure(figsize=(width / 100, height / 100), dpi=100 * SCALE, layout="constrained")
        FigureCanvasAgg(made)
        yield made


def figure_png(drawn: Figure) -> bytes:
    """Return a figure as PNG, with the same bytes for the same figure."""
    data = io.BytesIO()
    with matplotlib.rc_context(_RC):
        drawn.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def rgb_bytes(images: Tensor) -> np.ndarray:
    """Return images (..., channels, H, W) in [0, 1], one or three channels, as (..., H, W, 3)."""
    finite = torch.nan_to_num(images.detach().float().cpu()).clamp(0, 1)
    rgb = finite.expand(*images.shape[:-3], 3, *images.shape[-2:])
    return (rgb.movedim(-3, -1) * 255).round().to(torch.uint8).numpy().copy()


def image_png(drawn: Image.Image) -> bytes:
    """Return an image as PNG."""
    data = io.BytesIO()
    drawn.save(data, format="png", optimize=True)
    return data.getvalue()
