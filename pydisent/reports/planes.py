"""The joint effect of two units of a code: grids of decoded images (Lezama 2019, Fig. 1)."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pydisent.evaluation.codes import decode
from pydisent.reports.files import write_files
from pydisent.reports.style import figure, figure_png
from pydisent.systems import System


def factor_plane(
    system: System,
    base: Tensor,
    *,
    columns: tuple[int, int],
    spans: tuple[float, float] = (2.0, 2.0),
    cells: int = 10,
) -> Tensor:
    """Return images of codes that differ in two coordinates, (cells, cells, C, H, W) in [0, 1].

    Parameters
    ----------
    system : System
        The system that decodes.
    base : Tensor
        (d,), the code that provides the other coordinates.
    columns : tuple of int
        The coordinates that change, down the rows and along them.
    spans : tuple of float
        Each coordinate goes from −span to span.
    cells : int
        Number of values of each.
    """
    codes = base.repeat(cells, cells, 1)
    down, along = (torch.linspace(-span, span, cells).to(codes) for span in spans)
    codes[:, :, columns[0]] = down[:, None]
    codes[:, :, columns[1]] = along
    return decode(system, codes)


def write_planes(planes: Mapping[str, Tensor], path: Path) -> Path:
    """Draw planes from `factor_plane` side by side, each under its name, and return the file.

    Parameters
    ----------
    planes : mapping of str to Tensor
        (rows, columns, C, H, W) in [0, 1] each, one or three channels.
    path : Path
        The PNG to write.
    """
    with figure(300 * len(planes), 330) as drawn:
        axes = drawn.subplots(1, len(planes), squeeze=False)[0]
        for axis, (name, plane) in zip(axes, planes.items(), strict=True):
            rows, columns, channels, height, width = plane.shape
            picture = plane.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
            axis.imshow(picture.squeeze(-1), cmap="gray", vmin=0, vmax=1)
            axis.set_title(textwrap.fill(name, 26))
            axis.set_axis_off()
        return write_files(path.parent, {path.name: figure_png(drawn)})[0]
