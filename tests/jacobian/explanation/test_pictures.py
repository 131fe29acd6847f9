"""The pictures along the directions that ``analyse`` finds, and the maps of where they act."""

import pytest
import torch
from _squaring import SIDE, codes, matrix, squaring

from pydisent.jacobian.explanation import analyse


def test_pictures_and_maps_are_those_of_the_directions():
    a, z = matrix(), codes(3)
    g = squaring(a)
    found = analyse(g, z, k=2, points=2, length=0.5, value_range=(-2.0, 2.0))
    shown = found.pictures
    assert shown.fractions == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert shown.lengths.tolist() == [0.5, 0.5]
    assert shown.value_range == (-2.0, 2.0)
    for vectors, images in ((found.eigenvectors[1], shown.local[1]),
                            (found.average.vectors, shown.average[1])):  # fmt: skip
        for direction, row in zip(vectors, images):
            for step, image in zip(shown.fractions, row):
                expected = g((z[1] + step * 0.5 * direction)[None])[0].float()
                torch.testing.assert_close(image, expected)
    energy = (a * z[1] @ found.eigenvectors[1].T).square().T.reshape(2, 3, SIDE, SIDE).sum(1)
    torch.testing.assert_close(shown.local_maps[1], energy.float())
    energy = (a * z[1] @ found.average.vectors.T).square().T.reshape(2, 3, SIDE, SIDE).sum(1)
    torch.testing.assert_close(shown.average_maps[1], energy.float())


def test_steps_change_the_image_by_a_share_of_its_range():
    a = torch.zeros(3 * 64, 4, dtype=torch.float64)
    a[:4, :4] = torch.diag(torch.tensor([8.0, 4.0, 1.0, 0.0]))
    g = lambda z: (z @ a.T).reshape(-1, 3, SIDE, SIDE)
    found = analyse(g, 100 * codes(3, 4), value_range=(0.0, 2.0), paths=1)
    first, *rest = found.pictures.lengths.tolist()
    change = (a @ found.average.vectors[0] * first).square().mean().sqrt()
    assert change == pytest.approx(0.15 * 2)  # the root mean square, to first order
    assert rest == pytest.approx([2 * first, 4 * first, 4 * first])  # at most four times as long
    length = (found.paths.codes[0, -1] - found.paths.codes[0, 0]).norm()
    assert length == pytest.approx(2 * first)
    short = analyse(g, 1e-3 * codes(3, 4), value_range=(0.0, 2.0), paths=0)
    assert short.pictures.lengths[0] == pytest.approx(1e-3 * codes(3, 4).norm(dim=1).mean())


def test_large_images_are_averaged_over_areas():
    a = matrix(rows=3 * 32 * 32)
    g = lambda z: (z @ a.T).reshape(-1, 3, 32, 32)
    z = codes(2)
    shown = analyse(g, z, k=1, picture_size=8, paths=0).pictures
    small = g(z[:1]).unflatten(2, (8, 4)).unflatten(4, (8, 4)).mean((3, 5))
    torch.testing.assert_close(shown.local[0, 0, 2], small[0].float())
    assert shown.local_maps.shape == (2, 1, 8, 8)
    wide = analyse(lambda z: g(z).reshape(-1, 3, 16, 64), z, k=1, picture_size=16, paths=0)
    assert wide.pictures.local.shape == (2, 1, 5, 3, 4, 16)
