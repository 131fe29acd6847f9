import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from _fake_runs import fake_run, tpl_scores
from PIL import Image

from pydisent import reports
from pydisent.evaluation.codes import base_codes
from pydisent.reports import write_eigenpaths, write_traversals
from pydisent.reports.eigenpaths import _main_coordinates, draw_eigenpaths
from pydisent.reports.pictures import local_svd
from pydisent.reports.traversals import (
    _traversal_codes,
    chosen_coordinates,
    draw_traversals,
    ordered_coordinates,
)


def opened(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(float)


def not_blank(path):
    return opened(path).std() > 1


def test_files_of_traversals(tmp_path):
    files = write_traversals(fake_run(tmp_path), steps=5, bases=2)
    assert [f.name for f in files] == ["traversals.png", "traversals-bases.png", "traversals.gif"]
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == sorted(f.name for f in files)
    assert all(map(not_blank, files))
    single = opened(files[0])
    several = opened(files[1])
    # 4 coordinates × 5 values of 8 × 8 pixels, 14 and 10 times enlarged, thin gaps, labels beside.
    assert 4 * 112 < single.shape[0] < 4 * 112 + 200
    assert 5 * 112 < single.shape[1] < 5 * 112 + 150
    assert 2 * 4 * 80 < several.shape[0] < 2 * 4 * 80 + 300


def test_files_of_eigenpaths(tmp_path):
    out = tmp_path / "elsewhere"
    run = fake_run(tmp_path, image_shape=(3, 8, 8))
    files = write_eigenpaths(run, out, ordinals=(1, 4), steps=6, shown=4, bases=2)
    assert [f.name for f in files] == [
        "eigenpaths.png", "eigenpaths-bases.png", "eigenpaths.gif", "trajectories.png"
    ]  # fmt: skip
    assert all(f.parent == out for f in files)
    assert all(map(not_blank, files))
    assert 4 * 112 < opened(files[0]).shape[1] < 4 * 112 + 320


def test_one_base_needs_no_second_picture(tmp_path):
    run = fake_run(tmp_path)
    assert set(draw_traversals(run, steps=2, bases=1)) == {"traversals.png", "traversals.gif"}
    assert set(draw_eigenpaths(run, ordinals=[1], steps=2, shown=2, bases=1)) == {
        "eigenpaths.png",
        "eigenpaths.gif",
        "trajectories.png",
    }


def test_a_path_shorter_than_what_is_usually_shown(tmp_path):
    run = fake_run(tmp_path)
    assert draw_eigenpaths(run, steps=1) == draw_eigenpaths(run, steps=1, shown=2)
    assert draw_eigenpaths(run, steps=12) == draw_eigenpaths(run, steps=12, shown=11)


def test_same_seed_same_bytes(tmp_path):
    run = fake_run(tmp_path)
    first = draw_traversals(run, steps=3, bases=2)
    assert first == draw_traversals(run, steps=3, bases=2)
    assert first["traversals.png"] != draw_traversals(run, steps=3, seed=1)["traversals.png"]
    paths = draw_eigenpaths(run, steps=3, shown=2, bases=2)
    assert paths == draw_eigenpaths(run, steps=3, shown=2, bases=2)


def test_only_the_named_coordinate_varies():
    base = torch.randn(3, 5)
    values = torch.tensor([-2.0, 0.0, 2.0])
    codes = _traversal_codes(base, [4, 1], values)
    assert codes.shape == (2, 3, 3, 5)
    for row, coordinate in enumerate([4, 1]):
        rest = [i for i in range(5) if i != coordinate]
        assert torch.equal(codes[row, :, :, rest], base[:, rest].expand(3, 3, 4))
        assert torch.equal(codes[row, :, 0, coordinate], values)


def test_coordinates_by_number_and_name(tmp_path):
    run = fake_run(tmp_path)
    assert chosen_coordinates(run, None) == [0, 1, 2, 3]
    assert chosen_coordinates(run, ["z4", 0]) == [3, 0]
    wide = fake_run(tmp_path, scales=[0.5] * 40)
    assert chosen_coordinates(wide, None) == list(range(16))
    wide = fake_run(tmp_path, scales=[0.5] * 40, k=20)
    assert chosen_coordinates(wide, None) == list(range(20))


def test_coordinates_sorted_by_length(tmp_path):
    run = fake_run(tmp_path, penalty_weight=0.0)
    assert ordered_coordinates(run, None) == ([0, 1, 2, 3], None)
    run.scores = tpl_scores(0.2, 0.9, 0.1, 0.9)
    order, lengths = ordered_coordinates(run, None)
    assert order == [1, 3, 0, 2]  # ties as in the code
    assert (lengths.values, lengths.distance) == ((0.2, 0.9, 0.1, 0.9), "a fixed net")
    assert ordered_coordinates(run, None, "code")[0] == [0, 1, 2, 3]
    assert ordered_coordinates(run, ["z3", "z2"])[0] == [2, 1]  # as asked for
    assert ordered_coordinates(run, ["z3", "z2"], "tpl")[0] == [1, 2]
    aligned = fake_run(tmp_path, scores=run.scores)
    assert ordered_coordinates(aligned, None)[0] == [0, 1, 2, 3]
    assert ordered_coordinates(aligned, None, "tpl")[0] == [1, 3, 0, 2]


@pytest.mark.parametrize(
    "scores",
    [
        tpl_scores(0.1, 0.2, 0.3),  # of another code
        tpl_scores(0.1, 0.2, 0.3, float("nan")),
        {"tpl": {"score": 1.0, "details": {"per_dimension": None}}},
        {"tpl": {"score": 1.0, "details": None}},
        {"tpl": 1.0},
    ],
)
def test_lengths_that_are_not_one_of_each_are_as_none(tmp_path, scores):
    run = fake_run(tmp_path, penalty_weight=0.0, scores=scores)
    assert ordered_coordinates(run, None) == ([0, 1, 2, 3], None)


def test_of_many_coordinates_the_longest_are_shown(tmp_path):
    scores = tpl_scores(*(float(i) for i in range(40)))
    run = fake_run(tmp_path, scales=[0.5] * 40, penalty_weight=0.0, scores=scores)
    assert ordered_coordinates(run, None)[0] == list(range(39, 23, -1))


def test_lengths_are_measured_if_asked_for(tmp_path, monkeypatch):
    run = fake_run(tmp_path, penalty_weight=0.0, scores={"mig": {"score": 0.5, "details": {}}})
    asked = []

    def score(of, names):
        asked.append((of, names))
        return tpl_scores(0.1, 0.4, 0.3, 0.2)

    monkeypatch.setattr("pydisent.evaluation.lengths.score", score)
    assert ordered_coordinates(run, None)[0] == [0, 1, 2, 3]
    assert not asked
    assert ordered_coordinates(run, None, "tpl")[0] == [1, 2, 3, 0]
    assert asked == [(run, ["tpl"])]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8)])
def test_masks_stand_in_a_first_column(tmp_path, shape):
    bare = fake_run(tmp_path / "bare", image_shape=shape)
    masked = fake_run(tmp_path / "masked", image_shape=shape, masks=True)
    without, files = write_traversals(bare, bases=2), write_traversals(masked, bases=2)
    for plain, wide, cell in zip(without[:2], files[:2], (112, 80)):
        # A column more, apart from the others, and labels that say the maximum.
        assert opened(wide).shape[1] >= opened(plain).shape[1] + cell + 20
    assert files[2].read_bytes() == without[2].read_bytes()


def test_the_first_base_is_the_same_however_many_there_are(tmp_path):
    system = fake_run(tmp_path).system
    many = base_codes(system, 9, seed=2)
    assert torch.equal(base_codes(system, 1, seed=2), many[:1])


def test_a_path_is_named_after_the_axis_it_follows():
    steps = torch.linspace(0, 1, 5)
    along_second = torch.stack([0 * steps, steps, 0 * steps], -1)
    mixed = torch.stack([3**0.5 * steps, 0 * steps, steps], -1)
    path = torch.stack([along_second, mixed])[:, None]  # (ordinals, B, N + 1, m)
    assert _main_coordinates(path, ["a", "b", "c"]) == [["100% along b"], ["75% along a"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"span": 0.0}, "span must be finite and > 0, got 0.0"),
        ({"span": float("nan")}, "span must be finite and > 0, got nan"),
        ({"steps": 1}, "steps must be an integer >= 2, got 1"),
        ({"bases": 0}, "bases must be an integer >= 1, got 0"),
        ({"coordinates": [4]}, "coordinates must be integers from 0 to 3.*, got 4"),
        ({"coordinates": [-1]}, "coordinates must be .*, got -1"),
        ({"coordinates": ["z5"]}, "coordinates must be .*, got 'z5'"),
        ({"coordinates": []}, "coordinates must be at least one, or None, got none"),
        ({"sort": "size"}, "sort must be one of 'auto', 'tpl', 'code', got 'size'"),
    ],
)
def test_traversal_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        write_traversals(fake_run(tmp_path), **arguments)
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"shown": 1}, "shown must be an integer from 2 to steps .*, got 1"),
        ({"shown": 4, "steps": 2}, "shown must be an integer from 2 to steps .*, got 4"),
        ({"bases": 0}, "bases must be an integer >= 1, got 0"),
        ({"ordinals": (5,)}, "ordinals must be"),
        ({"step_size": 0.0}, "step_size must be"),
        ({"decay": 1.0}, "decay must be"),
    ],
)
def test_eigenpath_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        write_eigenpaths(fake_run(tmp_path), **arguments)


@pytest.mark.parametrize(
    ("write", "arguments"),
    [
        (reports.write_eigenpaths, {}),
        (reports.write_local_svd, {"distances": (1.0,)}),
        (reports.write_masks, {}),
        (reports.write_rotation, {}),
        (reports.write_transfer, {"coordinates": [(0,)]}),
        (reports.write_traversals, {}),
    ],
)
def test_out_that_is_a_file_is_refused_before_anything_is_drawn(tmp_path, write, arguments):
    (tmp_path / "file").write_text("")
    run = replace(fake_run(tmp_path), system=None)
    with pytest.raises(ValueError, match=r"^out must be a folder or absent, got the file .*file"):
        write(run, out=tmp_path / "file", **arguments)


def test_steps_along_eigenvectors(tmp_path):
    picture = local_svd(fake_run(tmp_path), bases=1, directions=3, distance=0.5)
    pixels = np.asarray(picture).astype(float)
    assert pixels.std() > 1
    assert 4 * 112 < pixels.shape[1] < 4 * 112 + 350  # three directions and the code itself
    data = io.BytesIO()
    picture.save(data, "png")
    assert data.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize(("name", "value"), [("directions", 0), ("distance", 0), ("bases", 0)])
def test_step_arguments(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*, got {value}"):
        local_svd(fake_run(tmp_path), **{name: value})
