import numpy as np
import pytest
import torch
from _fake_runs import fake_run, tpl_scores
from PIL import Image

from pydisent.reports import write_rotation


def test_plot_of_the_two_longest(tmp_path, monkeypatch):
    asked = {}

    def distance(decode, code, dimensions, angles, *, distance):
        asked.update(code=code, dimensions=dimensions, angles=angles)
        return np.cos(np.radians(angles)) + 2

    monkeypatch.setattr("pydisent.reports.rotation.accumulated_distance", distance)
    run = fake_run(tmp_path, scores=tpl_scores(0.1, 0.9, 0.2, 0.8))
    path = write_rotation(run, step=45)
    assert path == tmp_path / "figures" / "rotation-z2-z4.png"
    assert asked["dimensions"] == (1, 3)
    assert asked["angles"] == [-90, -45, 0, 45, 90, 135, 180]
    assert asked["code"].shape == (4,)
    with Image.open(path) as image:
        assert np.asarray(image.convert("RGB")).std() > 1


def test_a_plane_is_measured(tmp_path):
    """Two halves of the image, each lit by a code: straight along an axis is shorter."""
    run = fake_run(tmp_path, image_shape=(1, 16, 16), matrix=torch.zeros(256, 2))
    found = {}

    def draw(angles, distances, title, name):
        found.update(zip(angles, distances))
        return b"png"

    def decode(code):
        lit = torch.sigmoid(2 * code)
        top = lit[:, :1, None, None].expand(-1, 1, 8, 16)
        return torch.cat([top, lit[:, 1:, None, None].expand(-1, 1, 8, 16)], 2)

    run.system.decode = decode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pydisent.reports.rotation.draw_rotation", draw)
        assert write_rotation(run, coordinates=[0, 1], step=45).read_bytes() == b"png"
    assert found[0] < found[45]
    assert found[90] < found[135]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coordinates": ["z1"]}, "coordinates must be two different ones, got z1"),
        ({"coordinates": [0, 0]}, "coordinates must be two different ones, got z1, z1"),
        ({"coordinates": [0, 9]}, "coordinates must be .*, got 9"),
        ({"step": 40}, "step must be a divisor of 90, got 40"),
        ({"step": 0}, "step must be a divisor of 90, got 0"),
    ],
)
def test_arguments(tmp_path, arguments, message):
    pytest.importorskip("pydisent.metrics")
    with pytest.raises(ValueError, match=f"^{message}"):
        write_rotation(fake_run(tmp_path), **{"coordinates": [0, 1], **arguments})
