"""``pydisent.explain``: its page, the files it writes, and what it needs."""

import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

import pydisent
from pydisent.reports import Explanation
from pydisent.reports._explanation_figures import heat

SIDE = 16


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    layers = (torch.nn.Linear(6, 20), torch.nn.Tanh(), torch.nn.Linear(20, 3 * SIDE * SIDE))
    return torch.nn.Sequential(*layers, torch.nn.Sigmoid(), torch.nn.Unflatten(1, (3, SIDE, SIDE)))


@pytest.fixture(scope="module")
def explained(generator):
    torch.manual_seed(1)
    return pydisent.explain(
        generator, torch.randn(3, 6), k=4, points=2, paths=2, seed=5, names=list("abcdef"),
        regions={"the <left> & more": (0, 0, SIDE, 4)}, title="A <b>title</b>",
    )  # fmt: skip


class Page(HTMLParser):
    """The tags, links and words of a page; fails on a tag that is closed but not open."""

    VOID = ("meta", "img", "link", "br", "hr")

    def __init__(self, source):
        super().__init__()
        self.open, self.links, self.ids, self.tags, self.images, self.words = [], [], [], [], [], ""
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.links += [attrs[name] for name in ("src", "href", "srcset") if name in attrs]
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.images += [attrs] if tag == "img" else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words += data


def test_the_page_is_self_contained_and_sound(explained):
    page = Page(explained.page)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert not re.search(r"https?://|@import|url\(|<script", explained.page)
    targets = [link[1:] for link in page.links if link.startswith("#")]
    assert targets
    assert set(targets) <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    assert all(image["alt"] and int(image["width"]) > 50 for image in page.images)
    # Two sheets of average directions, two at codes, spectra, F, a region and the paths.
    assert len(page.images) == 8
    assert "A <b>title</b>" in page.words
    assert "the <left> & more" in page.words


def test_the_page_says_what_the_arrays_hold(explained):
    words = Page(explained.page).words
    for i in range(4):
        assert f"{explained.average.values[i]:.3g}" in words
        assert f"{explained.average.shares[i]:.1%}" in words
    share, axis = explained.average.vectors[0].square().max(0)
    assert f"{share:.0%} {'abcdef'[axis]}" in words
    assert f"{explained.regions['the <left> & more'].inside[0, 0]:.0%}" in words
    assert "3, of m = 6 numbers" in words
    assert "3 × 16 × 16" in words


def test_saved_files_are_those_of_the_page(explained, tmp_path):
    path = explained.save(tmp_path / "out")
    assert path == tmp_path / "out" / "index.html"
    assert path.read_text(encoding="utf-8") == explained.page
    names = {file.name for file in path.parent.iterdir()}
    assert names == {
        "index.html", "arrays.npz", "summary.json", "average-1.png", "average-2.png", "local-1.png",
        "local-2.png", "spectra.png", "alignment.png", "region-1.png", "eigenpaths.png",
    }  # fmt: skip
    with np.load(path.parent / "arrays.npz") as arrays:
        np.testing.assert_array_equal(arrays["eigenvectors"], explained.eigenvectors.numpy())
        np.testing.assert_array_equal(arrays["average.shares"], explained.average.shares.numpy())
        region = explained.regions["the <left> & more"]
        key = "regions.the <left> & more.eigenvectors"
        np.testing.assert_array_equal(arrays[key], region.eigenvectors.numpy())
        assert arrays["codes"].shape == (3, 6)
    summary = json.loads((path.parent / "summary.json").read_text())
    assert summary["eigenvalues"] == explained.average.values.tolist()
    assert summary["settings"]["seed"] == 5
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ValueError, match="out must be a folder or absent"):
        explained.save(file)


def test_a_notebook_shows_the_page_in_a_frame(explained):
    frame = explained._repr_html_()
    page = Page(frame)
    assert page.tags == ["iframe"]
    assert "A &lt;b&gt;title&lt;/b&gt;" in frame
    assert repr(explained).startswith("Explanation('A <b>title</b>': 4 directions of m = 6 at 3")


def test_where_a_direction_acts_is_drawn_by_its_root():
    drawn = heat(torch.tensor([[[0.0, 1.0], [4.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]]))
    assert drawn.shape == (2, 3, 2, 2)
    light = drawn[0].sum(0)
    assert light[0, 0] < light[0, 1] < light[1, 0] == light[1, 1]
    halves = heat(torch.tensor([[[0.25, 1.0]]]))[0, :, 0, 0]
    torch.testing.assert_close(drawn[0, :, 0, 1], halves)  # half of the largest root both times
    assert (drawn[1] == drawn[0, :, :1, :1]).all()  # nothing is black


def test_pictures_hold_the_images(generator):
    found = pydisent.explain(generator, torch.zeros(1, 6), k=1, paths=0, value_range=(0.0, 1.0))
    with Image.open(io.BytesIO(found.files["local-1.png"])) as picture:
        drawn = np.asarray(picture.convert("RGB"))
    here = (generator(torch.zeros(1, 6))[0].detach() * 255).round().byte().movedim(0, -1).numpy()
    tile = here.repeat(14, 0).repeat(14, 1)  # 16 pixels enlarged to about 224
    middle = [
        (y, x)
        for y in range(drawn.shape[0] - len(tile) + 1)
        for x in np.flatnonzero((drawn[y, : drawn.shape[1] - len(tile) + 1] == tile[0, 0]).all(-1))
        if (drawn[y, x : x + len(tile)] == tile[0]).all()
        and (drawn[y : y + len(tile), x : x + len(tile)] == tile).all()
    ]
    assert len(middle) == 1


def test_outputs_without_images_have_a_page_too():
    found = pydisent.explain(lambda z: [z.square(), z[:, :1]], torch.randn(2, 5), k=2)
    page = Page(found.page)
    assert "pictures need images with 1 or 3 channels; the output is 5, 1" in page.words
    assert len(page.images) == 2  # the spectra and F
    assert found.title == "What a function does"


def test_layers_are_drawn_of_codes_for_each(tmp_path):
    weight = torch.tensor([0.1, 3.0, 0.5])[:, None]
    generator = lambda z: torch.tanh(z * weight).flatten(1)
    found = pydisent.explain(generator, 0.1 * torch.randn(2, 3, 40), k=2, paths=0)
    page = Page(found.page)
    (said,) = [image["alt"] for image in page.images if "each layer" in image["alt"]]
    assert said.endswith("largest in 2, 2.")
    assert "z[1, " in page.words


def test_what_was_left_out_is_on_the_page(generator, monkeypatch):
    found = pydisent.explain(generator, torch.randn(500, 6), k=2, time_limit=1e-9)
    words = Page(found.page).words
    assert found.notes
    for note in found.notes:
        assert note.startswith("left out for lack of time: ")
        assert note in words


def test_a_progress_bar_on_a_terminal_alone(generator, monkeypatch, capsys):
    pydisent.explain(generator, torch.randn(2, 6), k=1)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("pydisent.reports.explanation._has_bar", lambda: True)
    pydisent.explain(generator, torch.randn(2, 6), k=1)
    err = capsys.readouterr().err
    assert re.search(r"directions +#{30} 2/2\n", err)
    pydisent.explain(generator, torch.randn(2, 6), k=1, progress=False)
    assert capsys.readouterr().err == ""


def test_out_is_saved_to_and_checked_first(generator, tmp_path):
    pydisent.explain(generator, torch.randn(2, 6), k=1, out=tmp_path / "page")
    assert (tmp_path / "page" / "index.html").is_file()
    file = tmp_path / "file"
    file.write_text("")

    def never(z):
        raise AssertionError("called")

    with pytest.raises(ValueError, match="out must be a folder or absent"):
        pydisent.explain(never, torch.randn(2, 6), out=file)


@pytest.mark.parametrize("given", [{"names": 5}, {"names": "abcdef"}, {"out": 3}])
def test_bad_arguments_of_the_page_are_named(generator, given):
    (name,) = given
    with pytest.raises(TypeError, match=f"^{name} must be"):
        pydisent.explain(generator, torch.randn(2, 6), **given)


def test_arrays_need_torch_and_numpy_alone():
    code = (
        "import sys\n"
        "names = 'lightning_fabric sklearn matplotlib tyro rich safetensors PIL jinja2'\n"
        "for name in names.split(): sys.modules[name] = None\n"
        "import pydisent, torch\n"
        "assert 'pydisent.reports' not in sys.modules\n"
        "found = pydisent.explain(lambda z: z.reshape(-1, 1, 2, 3), torch.randn(3, 6), k=2)\n"
        "assert found.eigenvalues.allclose(torch.ones(3, 6).double())\n"
        "try: found.page\n"
        "except ModuleNotFoundError as error: assert '[report]' in str(error), error\n"
        "else: raise AssertionError\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_name_is_there_and_others_are_not():
    assert "explain" in pydisent.__all__
    assert isinstance(
        pydisent.explain(lambda z: z * z, torch.randn(2, 3), k=1, paths=0), Explanation
    )
    with pytest.raises(AttributeError, match="has no attribute 'explian'"):
        pydisent.explian  # noqa: B018
