"""Planes of two units, and attributes flipped one by one, on a decoder that shows its code."""

import pytest
import torch
from PIL import Image

from pydisent.reports.planes import factor_plane, write_planes


class Shows:
    """A stand-in for a system: pixel i of the image is coordinate i of the code, 0 to 1."""

    def decode(self, codes):
        return (codes / 8 + 0.5).clamp(0, 1).reshape(-1, 1, 2, 2)


def test_a_plane_changes_two_coordinates_alone():
    base = torch.tensor([9.0, 1.0, -1.0, 9.0])
    plane = factor_plane(Shows(), base, columns=(3, 0), spans=(2.0, 4.0), cells=5)
    assert plane.shape == (5, 5, 1, 2, 2)
    pixels = plane.flatten(2)
    assert (pixels[..., 1] == 1 / 8 + 0.5).all()
    assert (pixels[..., 2] == -1 / 8 + 0.5).all()
    torch.testing.assert_close(pixels[:, 0, 3], torch.linspace(-2, 2, 5) / 8 + 0.5)
    torch.testing.assert_close(pixels[0, :, 0], torch.linspace(-4, 4, 5) / 8 + 0.5)
    assert (pixels[:, :, 3] == pixels[:, :1, 3]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_planes_are_drawn_side_by_side(tmp_path, channels):
    planes = {name: torch.rand(3, 4, channels, 5, 5) for name in ("one", "two")}
    path = write_planes(planes, tmp_path / "new" / "planes.png")
    with Image.open(path) as picture:
        assert picture.width > picture.height * 1.5
