"""What the server answers: the page, and what is computed for it."""

import io

import pytest
from _explore_client import CODE, TOKEN, ask, pixels_of
from PIL import Image


def test_the_page_and_its_files(client):
    page = client.get(f"/{TOKEN}/")
    assert page.status_code == 200
    assert "explore.js" in page.text
    assert "<script>" not in page.text
    assert "style=" not in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    for name, kind in (("explore.js", "text/javascript"), ("explore.css", "text/css")):
        found = client.get(f"/{TOKEN}/{name}")
        assert found.headers["content-type"].startswith(kind)
        assert len(found.content) > 1000


def test_about_and_strengths(masked):
    first, second = masked.get(f"/{TOKEN}/about").json()["models"]
    assert (first["label"], second["label"]) == ("masked", "plain")
    assert first["names"] == ["z1", "z2", "z3", "z4"]
    assert (first["masks"], second["masks"]) == (True, False)
    assert first["aligned"] == 2
    assert [len(s["missing"]) for s in masked.get(f"/{TOKEN}/strengths").json()] == [0, 0]


def test_a_drawn_code_is_another_each_time(client):
    drawn = [ask(client, "sample", model=0).json()["code"] for _ in range(2)]
    assert all(len(code) == 4 for code in drawn)
    assert drawn[0] != drawn[1]


def test_pictures_of_codes(masked):
    pictures = ask(masked, "pictures", codes=[CODE, [0, 0, 0, 0]]).json()["pictures"]
    assert [len(of) for of in pictures] == [2, 2]
    assert (pixels_of(pictures[1][1])[..., :3] == 128).all()


def test_steps_along_an_eigenvector(client):
    asked = {"model": 0, "code": CODE, "ordinal": 1, "steps": 2, "length": 0.5}
    found = ask(client, "walk", sense="forwards", **asked).json()
    assert found["codes"][1] == pytest.approx([1.3, -1.0, 2.0, 0.5], abs=1e-4)
    again = ask(client, "walk", sense="backwards", direction=found["direction"], **asked).json()
    assert again["codes"][1] == pytest.approx([-0.7, -1.0, 2.0, 0.5], abs=1e-4)


def test_codes_of_pictures(client, run, picture):
    found = ask(client, "image", model=0, index=3).json()
    expected = run.system.encode(run.dataset.images([3]))[0]
    assert found["code"] == pytest.approx(expected.tolist(), abs=1e-5)
    assert pixels_of(found["picture"]).shape == (8, 8, 4)
    found = client.post(f"/{TOKEN}/encode?model=0", content=picture[1]).json()
    assert len(found["code"]) == 4


def test_exported_pictures(masked, run):
    drawn = ask(masked, "png", model=0, codes=[CODE, CODE], names=["one", "two\nlines"])
    with Image.open(io.BytesIO(drawn.content)) as image:
        assert image.format == "PNG"
    names = ["−1", "0", "1"]
    made = ask(masked, "gif", model=0, codes=[CODE] * 3, names=names, title="z1")
    with Image.open(io.BytesIO(made.content)) as image:
        assert image.format == "GIF"
        assert image.n_frames == 4  # there and back


def test_what_fails_inside_is_an_error_of_the_page_too(client, run, caplog):
    def failing(code):
        raise MemoryError("no memory")

    run.system.decode = failing
    found = ask(client, "pictures", codes=[CODE])
    assert found.status_code == 500
    assert found.json()["error"] == "MemoryError: no memory"
    assert "failed" in caplog.text
